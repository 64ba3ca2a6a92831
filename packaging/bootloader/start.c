/* The interpreter in two halves.
 *
 * A call of the runtime starts the core of the interpreter only (PyConfig._init_main = 0, PEP 587, "Multi-Phase Initialization Private
 * Provisional API", in CPython 3.8 to 3.13). sys._complete() does the rest: packaging/bootstrap.py calls it before a module is
 * imported that is not cni-reaper's own, and packaging/entry.py where a person calls. Nothing of Python is looked for on disk.
 *
 * PyInstaller's bootloader calls reaper_configure and reaper_exec_module (link.sh changes it so).
 */
#include <Python.h>
#include <fcntl.h>
#include <signal.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>
#include "start.h"

/* gcc's start-up code of a static program registers, and for that reads, every unwind table of it: 1.3 million instructions. An unwinder
 * finds the tables by the program header as well (ld --eh-frame-hdr).
 */
void __wrap___register_frame_info(const void *begin, void *object) { (void)begin; (void)object; }
void *__wrap___deregister_frame_info(const void *begin) { (void)begin; return NULL; }

extern void __real__PyGC_InitState(struct _gc_runtime_state *);
void __wrap__PyGC_InitState(struct _gc_runtime_state *state) {
    __real__PyGC_InitState(state);
    no_garbage_collection(state); /* gc.disable() would come after three runs */
}

/* A start writes to nearly all of the static data and to the first arena. One call for all their pages costs less than a fault for
 * each; before Linux 5.14 it is refused, and each page faults as ever.
 */
#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE 23
#endif
#define FIRST_ARENA_BYTES (768 * 1024)
extern char __data_start, _edata;
static int arenas;

static void *new_arena(void *context, size_t size) {
    void *place = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    (void)context;
    if (place == MAP_FAILED) return NULL;
    if (arenas++ == 0) madvise(place, FIRST_ARENA_BYTES, MADV_POPULATE_WRITE);
    return place;
}
static void free_arena(void *context, void *place, size_t size) {
    (void)context;
    munmap(place, size);
}
static void populate(void) {
    PyObjectArenaAllocator arena = {NULL, new_arena, free_arena};
    uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE), begin = (uintptr_t)&__data_start & ~(page - 1);
    madvise((void *)begin, (uintptr_t)&_edata - begin, MADV_POPULATE_WRITE);
    PyObject_SetArenaAllocator(&arena);
}

extern PyStatus _Py_InitializeMain(void);
static int core_only;

static PyObject *complete(PyObject *self, PyObject *unused) {
    (void)self;
    (void)unused;
    if (core_only) {
        PyStatus status;
        core_only = 0;
        status = _Py_InitializeMain();
        if (PyStatus_Exception(status)) {
            PyErr_Format(PyExc_ImportError, "the interpreter cannot be completed: %s", status.err_msg);
            return NULL;
        }
    }
    Py_RETURN_NONE;
}
static PyMethodDef complete_method = {"_complete", complete, METH_NOARGS, NULL};

/* A codec that is not built in: the whole interpreter knows it. */
static PyObject *search_codec(PyObject *self, PyObject *name) {
    PyObject *codecs, *found, *done = complete(self, NULL);
    if (done == NULL) return NULL;
    Py_DECREF(done);
    codecs = PyImport_ImportModule("_codecs");
    found = codecs == NULL ? NULL : PyObject_CallMethod(codecs, "lookup", "O", name);
    Py_XDECREF(codecs);
    return found;
}
static PyMethodDef search_codec_method = {"search_codec", search_codec, METH_O, NULL};

/* CPython 3.13 makes the registry of codecs in the second half, and follows a null pointer until then: an error in utf-8 (a lone
 * surrogate) would be a SIGSEGV. Its last act is to import the package `encodings`; `sys` stands in for that.
 */
static int codecs_for_core(void) {
    PyObject *modules = PyImport_GetModuleDict(), *search = PyCFunction_New(&search_codec_method, NULL);
    if (search == NULL || PyDict_SetItemString(modules, "encodings", PyDict_GetItemString(modules, "sys")) < 0) return -1;
    if (make_codec_registry() < 0 || PyCodec_Register(search) < 0) return -1;
    return PyDict_DelItemString(modules, "encodings");
}

void reaper_configure(void *config);
void reaper_configure(void *config) {
    PyConfig *c = config;
    const char *verb = getenv("CNI_COMMAND");
    int fd;

    PyConfig_SetWideStringList(c, &c->module_search_paths, 0, NULL);
    PyConfig_SetString(c, &c->home, L"/nonexistent"); /* gettext would look for translations below it */
    c->module_search_paths_set = 1;
    c->pathconfig_warnings = 0;
    c->_init_main = 0;
    core_only = 1; /* also for a person: entry.py completes it when the archive can be read */
    if (verb == NULL || *verb == 0) return;
    for (fd = 0; fd < 3; fd++) { /* a closed one must not become a file of ours: completing looks at 0 to 2 */
        if (fcntl(fd, F_GETFD) < 0) open("/dev/null", fd == 0 ? O_WRONLY : O_RDONLY);
    }
    populate();
    c->use_hash_seed = 1;
    c->hash_seed = 0;
    signal(SIGPIPE, SIG_IGN); /* as the whole interpreter does, here and in the next line; then write(2) says what is wrong */
    signal(SIGXFSZ, SIG_IGN);
}

/* Run the code of a module. PyImport_ExecCodeModule wants the path finder, which the second half makes. */
void *reaper_exec_module(const char *name, void *code);
void *reaper_exec_module(const char *name, void *code) {
    PyObject *module = PyImport_AddModule(name), *main = PyImport_AddModule("__main__"), *done;
    if (module == NULL || main == NULL || (core_only && codecs_for_core() < 0)) return NULL;
    /* the entry script runs in __main__, where an import from C looks for builtins; the second half would put them there */
    if (PyDict_SetItemString(PyModule_GetDict(main), "__builtins__", PyEval_GetBuiltins()) < 0) return NULL;
    if (PyDict_SetItemString(PyModule_GetDict(module), "__builtins__", PyEval_GetBuiltins()) < 0) return NULL;
    if (PySys_SetObject("_complete", PyCFunction_New(&complete_method, NULL)) < 0) return NULL;
    done = PyEval_EvalCode((PyObject *)code, PyModule_GetDict(module), PyModule_GetDict(module));
    if (done == NULL) return NULL;
    Py_DECREF(done);
    Py_INCREF(module);
    return module;
}

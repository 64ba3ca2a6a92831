/* The modules that are linked in. This table takes the place of libpython's own (Modules/config.c), so the linker leaves out what it
 * does not name. The gate of the freeze imports every module of the archive: one that is missing here stops the build.
 */
#include <Python.h>

#define EACH(MODULE)                                                                                                             \
    MODULE(_abc) MODULE(_ast) MODULE(_bisect) MODULE(_blake2) MODULE(_codecs) MODULE(_collections) MODULE(_contextvars)          \
    MODULE(_datetime) MODULE(_functools) MODULE(_heapq) MODULE(_imp) MODULE(_io) MODULE(_json) MODULE(_locale) MODULE(_md5)      \
    MODULE(_opcode) MODULE(_operator) MODULE(_pickle) MODULE(_posixsubprocess) MODULE(_random) MODULE(_sha1) MODULE(_sha2)       \
    MODULE(_sha3) MODULE(_signal) MODULE(_socket) MODULE(_sre) MODULE(_stat) MODULE(_string) MODULE(_struct)                     \
    MODULE(_suggestions) MODULE(_sysconfig) MODULE(_thread) MODULE(_tokenize) MODULE(_tracemalloc) MODULE(_typing)               \
    MODULE(_weakref) MODULE(array) MODULE(atexit) MODULE(binascii) MODULE(errno) MODULE(faulthandler) MODULE(fcntl) MODULE(gc)   \
    MODULE(itertools) MODULE(math) MODULE(mmap) MODULE(posix) MODULE(select) MODULE(termios) MODULE(time)                        \
    MODULE(orjson) MODULE(_kernel)
#define DECLARE(name) extern PyObject *PyInit_##name(void);
#define ENTRY(name) {#name, PyInit_##name},

EACH(DECLARE)
extern PyObject *PyMarshal_Init(void), *_PyWarnings_Init(void);

struct _inittab _PyImport_Inittab[] = {
    EACH(ENTRY)
    {"marshal", PyMarshal_Init}, {"_warnings", _PyWarnings_Init}, {"builtins", NULL}, {"sys", NULL}, {NULL, NULL},
};

/* _kernel: system calls that Python has not, or not at a price that each start of a pod may pay. No logic. */
#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/file.h>
#include <sys/inotify.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/vfs.h>
#include <time.h>

/* identity(path, dir_fd, flags) -> (dev, ino, ctime_ns): fstatat(2). posix.stat makes a stat_result of 22 members, which takes 8,700
 * instructions; an ADD asks twice for each live reservation of the node.
 */
static PyObject *identity(PyObject *self, PyObject *const *arguments, Py_ssize_t count) {
    struct stat found;
    const char *path;
    Py_ssize_t length;
    long directory, flags;
    (void)self;
    if (count != 3) {
        PyErr_SetString(PyExc_TypeError, "identity takes a path, a descriptor and flags");
        return NULL;
    }
    path = PyUnicode_AsUTF8AndSize(arguments[0], &length);
    if (path == NULL) return NULL;
    if (memchr(path, 0, (size_t)length) != NULL) {
        PyErr_SetString(PyExc_ValueError, "a path has a NUL byte");
        return NULL;
    }
    directory = PyLong_AsLong(arguments[1]);
    flags = PyLong_AsLong(arguments[2]);
    if (PyErr_Occurred()) return NULL;
    if (fstatat((int)directory, path, &found, (int)flags) < 0) return PyErr_SetFromErrnoWithFilenameObject(PyExc_OSError, arguments[0]);
    return Py_BuildValue("KKK", (unsigned long long)found.st_dev, (unsigned long long)found.st_ino,
                         (unsigned long long)found.st_ctim.tv_sec * 1000000000ULL + (unsigned long long)found.st_ctim.tv_nsec);
}

static void wake_up(int number) { (void)number; }

static double monotonic_s(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

/* flock(descriptor, operation, seconds) -> whether it was taken. flock(2) has no deadline, and to ask again and again costs each of
 * a hundred waiters CPU time. A timer's signal ends the wait; it comes again every 50 ms, since the first may come just before the wait.
 */
static PyObject *flock_until(PyObject *self, PyObject *arguments) {
    int fd, operation, result, error;
    double wait_s, end;
    struct sigaction action = {.sa_handler = wake_up}, action_before;
    struct itimerval timer = {.it_interval = {0, 50000}}, none = {{0, 0}, {0, 0}};
    sigset_t alarm, mask_before;
    (void)self;
    if (!PyArg_ParseTuple(arguments, "iid", &fd, &operation, &wait_s)) return NULL;
    timer.it_value.tv_sec = (time_t)wait_s;
    timer.it_value.tv_usec = (suseconds_t)((wait_s - (double)timer.it_value.tv_sec) * 1e6) + 1;
    if (timer.it_value.tv_usec > 999999) timer.it_value.tv_usec = 999999;
    end = monotonic_s() + wait_s;
    sigemptyset(&alarm);
    sigaddset(&alarm, SIGALRM);
    sigaction(SIGALRM, &action, &action_before);
    sigprocmask(SIG_UNBLOCK, &alarm, &mask_before); /* whoever started us may have blocked it */
    setitimer(ITIMER_REAL, &timer, NULL);
    do {
        Py_BEGIN_ALLOW_THREADS
        result = flock(fd, operation);
        error = errno;
        Py_END_ALLOW_THREADS
    } while (result < 0 && error == EINTR && monotonic_s() < end && PyErr_CheckSignals() == 0);
    setitimer(ITIMER_REAL, &none, NULL);
    sigprocmask(SIG_SETMASK, &mask_before, NULL);
    sigaction(SIGALRM, &action_before, NULL);
    if (PyErr_Occurred()) return NULL;
    if (result < 0 && error != EINTR) {
        errno = error;
        return PyErr_SetFromErrno(PyExc_OSError);
    }
    return PyBool_FromLong(result == 0);
}

/* file_system(descriptor) -> f_type: fstatfs(2). Of statvfs Python has no type. */
static PyObject *file_system(PyObject *self, PyObject *argument) {
    struct statfs about;
    long fd = PyLong_AsLong(argument);
    (void)self;
    if (PyErr_Occurred()) return NULL;
    if (fstatfs((int)fd, &about) < 0) return PyErr_SetFromErrno(PyExc_OSError);
    return PyLong_FromUnsignedLong((unsigned long)about.f_type & 0xffffffffUL);
}

/* inotify_init(flags) -> descriptor */
static PyObject *start_inotify(PyObject *self, PyObject *argument) {
    long flags = PyLong_AsLong(argument);
    int fd;
    (void)self;
    if (PyErr_Occurred()) return NULL;
    fd = inotify_init1((int)flags);
    return fd < 0 ? PyErr_SetFromErrno(PyExc_OSError) : PyLong_FromLong(fd);
}

/* inotify_add_watch(descriptor, path as bytes, mask) -> watch */
static PyObject *add_watch(PyObject *self, PyObject *arguments) {
    int fd, watch;
    const char *path;
    unsigned mask;
    (void)self;
    if (!PyArg_ParseTuple(arguments, "iyI", &fd, &path, &mask)) return NULL;
    watch = inotify_add_watch(fd, path, mask);
    return watch < 0 ? PyErr_SetFromErrnoWithFilename(PyExc_OSError, path) : PyLong_FromLong(watch);
}

static PyMethodDef methods[] = {
    {"identity", (PyCFunction)(void (*)(void))identity, METH_FASTCALL, NULL},
    {"flock", flock_until, METH_VARARGS, NULL},
    {"file_system", file_system, METH_O, NULL},
    {"inotify_init", start_inotify, METH_O, NULL},
    {"inotify_add_watch", add_watch, METH_VARARGS, NULL},
    {NULL, NULL, 0, NULL},
};
static struct PyModuleDef module = {PyModuleDef_HEAD_INIT, "_kernel", NULL, -1, methods, NULL, NULL, NULL, NULL};

PyObject *PyInit__kernel(void);
PyObject *PyInit__kernel(void) { return PyModule_Create(&module); }

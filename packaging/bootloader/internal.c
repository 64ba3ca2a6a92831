/* What needs the interpreter's internal headers: these are not part of its C API, and are of this version alone. */
#define Py_BUILD_CORE 1
#include <Python.h>
#include "internal/pycore_codecs.h"
#include "internal/pycore_interp.h"
#include "internal/pycore_pylifecycle.h"
#include "start.h"

void no_garbage_collection(struct _gc_runtime_state *state) { state->enabled = 0; }

int make_codec_registry(void) { return PyStatus_Exception(_PyCodec_InitRegistry(PyInterpreterState_Get())) ? -1 : 0; }

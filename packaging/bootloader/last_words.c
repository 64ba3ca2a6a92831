/* What a plugin owes its runtime even when its bundle is damaged: a CNI error object on stdout, and exit code 1.
 *
 * freeze.py compiles this into the bootloader. The plugin itself ends with _exit(2), always; so whoever comes to exit(3), or
 * dies of a signal that a truncated library brings, has not got that far: no interpreter, no codec, no module. What exactly
 * was wrong, the bootloader or the interpreter has said on stderr. Only where CNI_COMMAND is set; code: above 99, where the
 * SPEC (section "Error") leaves them to plugins.
 */
#include <signal.h>
#include <stdlib.h>
#include <unistd.h>

static const char last_words[] =
    "{\"cniVersion\":\"1.0.0\",\"code\":102,\"msg\":\"cni-reaper cannot start: its bundle is damaged or incomplete; "
    "install it again\",\"details\":\"the files beside the executable, see SHA256SUMS; more is on stderr\"}\n";

static void say(void) {
    if (write(1, last_words, sizeof last_words - 1) < 0) {
        /* nobody reads it */
    }
    _exit(1);
}

static void on_signal(int number) {
    (void)number;
    say();
}

__attribute__((constructor)) static void prepare(void) {
    static const int numbers[] = {SIGBUS, SIGSEGV, SIGABRT, SIGILL};
    size_t i;
    if (getenv("CNI_COMMAND") == NULL) {
        return;
    }
    atexit(say);
    for (i = 0; i < sizeof numbers / sizeof numbers[0]; i++) {
        signal(numbers[i], on_signal);
    }
}

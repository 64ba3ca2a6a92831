/* What a plugin owes its runtime even when its executable is damaged: a CNI error object on stdout, and exit code 1.
 *
 * The plugin itself ends with _exit(2), always. A process that comes to exit(3), or gets a signal because of damaged code, has not got
 * that far: no archive, no interpreter, no module. The bootloader or the interpreter has said on stderr what exactly was wrong. Only
 * where CNI_COMMAND is set; code: above 99, where the SPEC (section "Error") leaves them to plugins.
 *
 * Damaged code can also run in a circle. No call takes a minute of processor time; one that does is ended (setrlimit(2)).
 */
#include <signal.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <unistd.h>

#define LONGEST_CALL_S 60

static const char last_words[] =
    "{\"cniVersion\":\"1.0.0\",\"code\":102,\"msg\":\"cni-reaper cannot start: its executable is damaged; install it again\","
    "\"details\":\"stderr says more\"}\n";

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
    static const int numbers[] = {SIGBUS, SIGSEGV, SIGABRT, SIGILL, SIGXCPU};
    static const struct rlimit most = {LONGEST_CALL_S, LONGEST_CALL_S + 5};
    /* PyInstaller's own, by which a process knows itself as a child of another one; none is */
    static const char *const inherited[] = {"_PYI_ARCHIVE_FILE", "_PYI_PARENT_PROCESS_LEVEL", "_PYI_APPLICATION_HOME_DIR"};
    size_t i;
    for (i = 0; i < sizeof inherited / sizeof inherited[0]; i++) {
        unsetenv(inherited[i]);
    }
    if (getenv("CNI_COMMAND") == NULL) {
        return;
    }
    atexit(say);
    setrlimit(RLIMIT_CPU, &most);
    for (i = 0; i < sizeof numbers / sizeof numbers[0]; i++) {
        signal(numbers[i], on_signal);
    }
}

/* What a pod's sandbox runs: nothing, until it is told to end; and it waits for orphans, since it is PID 1 there.
   With an argument it is a container that serves something: it answers on port 80, TCP and UDP, with that text. */
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

static void end(int number)
{
    (void)number;
    _exit(0);
}

static void reap(int number)
{
    (void)number;
    while (waitpid(-1, 0, WNOHANG) > 0)
        ;
}

static void serve(const char *text)
{
    struct sockaddr_in any = {.sin_family = AF_INET, .sin_port = htons(80)};
    struct pollfd tcp = {.fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0), .events = POLLIN};
    struct pollfd udp = {.fd = socket(AF_INET, SOCK_DGRAM | SOCK_NONBLOCK, 0), .events = POLLIN};
    struct pollfd ears[] = {tcp, udp};

    for (int i = 0; i < 2; i++)
        if (bind(ears[i].fd, (struct sockaddr *)&any, sizeof any))
            _exit(1);
    if (listen(tcp.fd, 64))
        _exit(1);
    for (;;) {
        struct sockaddr_in caller;
        socklen_t length = sizeof caller;
        char question[64];

        if (poll(ears, 2, -1) < 1)
            continue;
        int line = accept(tcp.fd, 0, 0);
        if (line >= 0) {
            (void)!write(line, text, strlen(text));
            close(line);
        }
        if (recvfrom(udp.fd, question, sizeof question, 0, (struct sockaddr *)&caller, &length) >= 0)
            sendto(udp.fd, text, strlen(text), 0, (struct sockaddr *)&caller, length);
    }
}

int main(int count, char **arguments)
{
    signal(SIGINT, end);
    signal(SIGTERM, end);
    signal(SIGCHLD, reap);
    signal(SIGPIPE, SIG_IGN);
    if (count > 1)
        serve(arguments[1]);
    for (;;)
        pause();
}

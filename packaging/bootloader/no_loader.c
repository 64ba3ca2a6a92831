/* A static executable has no dynamic loader. These stand in for every way that the interpreter and glibc know to one.
 *
 * An extension module on disk is an ImportError. glibc answers questions about users and hosts by libraries of the node (NSS,
 * nsswitch.conf(5)), of whatever version: nothing here asks, and who does finds nothing.
 */
#include <errno.h>
#include <grp.h>
#include <netdb.h>
#include <pwd.h>
#include <stddef.h>

void *dlopen(const char *name, int flags) { (void)name; (void)flags; return NULL; }
void *dlsym(void *handle, const char *name) { (void)handle; (void)name; return NULL; }
void *dlvsym(void *handle, const char *name, const char *version) { (void)handle; (void)name; (void)version; return NULL; }
int dlclose(void *handle) { (void)handle; return 0; }
char *dlerror(void) { return (char *)"a static executable loads no libraries"; }

static int none(void *result) { *(void **)result = NULL; return ENOENT; }

struct passwd *getpwnam(const char *name) { (void)name; errno = ENOENT; return NULL; }
struct passwd *getpwuid(uid_t uid) { (void)uid; errno = ENOENT; return NULL; }
int getpwnam_r(const char *name, struct passwd *into, char *buffer, size_t size, struct passwd **result) {
    (void)name; (void)into; (void)buffer; (void)size;
    return none(result);
}
int getpwuid_r(uid_t uid, struct passwd *into, char *buffer, size_t size, struct passwd **result) {
    (void)uid; (void)into; (void)buffer; (void)size;
    return none(result);
}
struct passwd *getpwent(void) { return NULL; }
void setpwent(void) {}
void endpwent(void) {}
struct group *getgrnam(const char *name) { (void)name; errno = ENOENT; return NULL; }
struct group *getgrgid(gid_t gid) { (void)gid; errno = ENOENT; return NULL; }
int getgrnam_r(const char *name, struct group *into, char *buffer, size_t size, struct group **result) {
    (void)name; (void)into; (void)buffer; (void)size;
    return none(result);
}
int getgrgid_r(gid_t gid, struct group *into, char *buffer, size_t size, struct group **result) {
    (void)gid; (void)into; (void)buffer; (void)size;
    return none(result);
}
struct group *getgrent(void) { return NULL; }
void setgrent(void) {}
void endgrent(void) {}
int getlogin_r(char *buffer, size_t size) { (void)buffer; (void)size; return ENOENT; }
char *getlogin(void) { errno = ENOENT; return NULL; }
int initgroups(const char *user, gid_t gid) { (void)user; (void)gid; errno = ENOSYS; return -1; }
int getgrouplist(const char *user, gid_t gid, gid_t *groups, int *count) {
    (void)user; (void)gid; (void)groups;
    *count = 0;
    return -1;
}
int getaddrinfo(const char *name, const char *service, const struct addrinfo *hints, struct addrinfo **result) {
    (void)name; (void)service; (void)hints;
    *result = NULL;
    return EAI_FAIL;
}
int getnameinfo(const struct sockaddr *address, socklen_t length, char *host, socklen_t host_size, char *service, socklen_t service_size,
                int flags) {
    (void)address; (void)length; (void)host; (void)host_size; (void)service; (void)service_size; (void)flags;
    return EAI_FAIL;
}
void freeaddrinfo(struct addrinfo *address) { (void)address; }
const char *gai_strerror(int code) { (void)code; return "a static executable asks no name services"; }
int gethostbyname_r(const char *name, struct hostent *into, char *buffer, size_t size, struct hostent **result, int *code) {
    (void)name; (void)into; (void)buffer; (void)size;
    *code = NO_RECOVERY;
    return none(result);
}
int gethostbyaddr_r(const void *address, socklen_t length, int type, struct hostent *into, char *buffer, size_t size,
                    struct hostent **result, int *code) {
    (void)address; (void)length; (void)type; (void)into; (void)buffer; (void)size;
    *code = NO_RECOVERY;
    return none(result);
}
struct servent *getservbyname(const char *name, const char *protocol) { (void)name; (void)protocol; return NULL; }
struct servent *getservbyport(int port, const char *protocol) { (void)port; (void)protocol; return NULL; }
struct protoent *getprotobyname(const char *name) { (void)name; return NULL; }

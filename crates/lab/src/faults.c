/* Faults of the machine under one program, loaded before its C library (LD_PRELOAD).
 *
 * In: two mark files in the folder $FAULTS_DIR, checked on every call, $FAULTS_CLOCK_MS, read once, and
 * $FAULTS_HOST: a host's name and its addresses, separated by blanks.
 *   hang   while this mark exists, calls on files of the data folder do not return
 *   full   while this mark exists, writes to such files fail with ENOSPC
 * The data folder is $CALL_HISTORY_DATA_DIR, an absolute path without symbolic links. Other files, the
 * program's sockets and its log are not affected.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <netdb.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

/* The C library's own function, looked up once. */
#define REAL(name)                                               \
    ({                                                           \
        static __typeof__(&name) own;                            \
        own ? own : (own = (__typeof__(&name))dlsym(RTLD_NEXT, #name)); \
    })

/* ---- the disk -------------------------------------------------------------------------------- */

static int is_set(const char *mark) {
    const char *dir = getenv("FAULTS_DIR");
    char path[PATH_MAX];
    if (!dir || snprintf(path, sizeof path, "%s/%s", dir, mark) >= (int)sizeof path)
        return 0;
    int before = errno;
    /* A direct system call: the C library's function may be one that we replace. */
    int there = syscall(SYS_faccessat, AT_FDCWD, path, F_OK) == 0;
    errno = before;
    return there;
}

static int is_below_data(const char *path) {
    const char *data = getenv("CALL_HISTORY_DATA_DIR");
    size_t length = data ? strlen(data) : 0;
    return length && path && !strncmp(path, data, length) &&
           (path[length] == '/' || path[length] == '\0');
}

/* Whether this is a file or a folder below the data folder. */
static int is_data(int fd) {
    char link[64], path[PATH_MAX];
    int before = errno;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = syscall(SYS_readlinkat, AT_FDCWD, link, path, sizeof path - 1);
    errno = before;
    if (length < 0)
        return 0;
    path[length] = '\0';
    return is_below_data(path);
}

static void hang(void) {
    struct timespec moment = {0, 20 * 1000 * 1000};
    while (is_set("hang"))
        syscall(SYS_nanosleep, &moment, NULL);
}

/* Whether a write to this file must fail. Does not return while the disk hangs. */
static int fails(int fd) {
    if (!is_data(fd))
        return 0;
    hang();
    if (!is_set("full"))
        return 0;
    errno = ENOSPC;
    return 1;
}

static void hang_if_data(const char *path) {
    if (is_below_data(path))
        hang();
}

int fsync(int fd) {
    return fails(fd) ? -1 : REAL(fsync)(fd);
}

int fdatasync(int fd) {
    return fails(fd) ? -1 : REAL(fdatasync)(fd);
}

ssize_t write(int fd, const void *bytes, size_t count) {
    struct stat about;
    /* Most writes go to sockets and pipes, so this check comes first. */
    int is_file = !syscall(SYS_fstat, fd, &about) && S_ISREG(about.st_mode);
    return is_file && fails(fd) ? -1 : REAL(write)(fd, bytes, count);
}

#define OPEN(name)                                    \
    int name(const char *path, int flags, ...) {      \
        va_list rest;                                 \
        va_start(rest, flags);                        \
        mode_t mode = va_arg(rest, mode_t);           \
        va_end(rest);                                 \
        hang_if_data(path);                           \
        return REAL(name)(path, flags, mode);         \
    }
OPEN(open)
OPEN(open64)

int rename(const char *from, const char *to) {
    hang_if_data(from);
    return REAL(rename)(from, to);
}

int unlink(const char *path) {
    hang_if_data(path);
    return REAL(unlink)(path);
}

int statx(int dir, const char *restrict path, int flags, unsigned mask,
          struct statx *restrict about) {
    hang_if_data(path);
    return REAL(statx)(dir, path, flags, mask, about);
}

/* ---- names ----------------------------------------------------------------------------------- */

/* The host of $FAULTS_HOST has the addresses that stand there, in their order. */
int getaddrinfo(const char *restrict name, const char *restrict service,
                const struct addrinfo *restrict hints, struct addrinfo **restrict out) {
    const char *host = getenv("FAULTS_HOST");
    size_t length = name ? strlen(name) : 0;
    if (!host || !length || strncmp(host, name, length) || host[length] != ' ')
        return REAL(getaddrinfo)(name, service, hints, out);
    char addresses[256], *rest = addresses, *address;
    snprintf(addresses, sizeof addresses, "%s", host + length);
    *out = NULL;
    while ((address = strsep(&rest, " "))) {
        int failed = *address ? REAL(getaddrinfo)(address, service, hints, out) : 0;
        if (failed)
            return failed;
        while (*out)
            out = &(*out)->ai_next;
    }
    return 0;
}

/* ---- the wall clock -------------------------------------------------------------------------- */

static long long ahead_ms(void) {
    static long long ahead;
    static int known;
    if (!known) {
        const char *text = getenv("FAULTS_CLOCK_MS");
        ahead = text ? atoll(text) : 0;
        known = 1;
    }
    return ahead;
}

static void shift(time_t *seconds, long *nanoseconds) {
    long long all = *seconds * 1000000000LL + *nanoseconds + ahead_ms() * 1000000LL;
    *seconds = all / 1000000000LL;
    *nanoseconds = all % 1000000000LL;
}

int clock_gettime(clockid_t clock, struct timespec *now) {
    int failed = REAL(clock_gettime)(clock, now);
    if (!failed && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE))
        shift(&now->tv_sec, &now->tv_nsec);
    return failed;
}

int gettimeofday(struct timeval *restrict now, void *restrict zone) {
    struct timespec exact;
    if (clock_gettime(CLOCK_REALTIME, &exact))
        return -1;
    (void)zone;
    now->tv_sec = exact.tv_sec;
    now->tv_usec = exact.tv_nsec / 1000;
    return 0;
}

time_t time(time_t *out) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    if (out)
        *out = now.tv_sec;
    return now.tv_sec;
}

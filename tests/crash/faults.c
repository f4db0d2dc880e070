/* Preloaded into the server under test; acts on files whose path contains FAULT_PATH.
 *
 * FAULT_SLOW_PERCENT of the writes begin up to FAULT_SLOW_MICROS late, so that moments that last
 * microseconds last milliseconds. While a file `full` exists in the folder FAULT_FLAGS, writes
 * fail as on a full disk; while `unsynced` does, fdatasync and fsync fail; while `hanging` does, those
 * of files whose path contains what that file contains do not end. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>
#include <unistd.h>

static int concerns_us(int fd) {
    const char *wanted = getenv("FAULT_PATH");
    if (!wanted || fd < 3) return 0;
    char link[64], path[4096];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t len = readlink(link, path, sizeof path - 1);
    if (len < 0) return 0;
    path[len] = 0;
    return strstr(path, wanted) != NULL;
}

static int is_set(const char *flag) {
    const char *folder = getenv("FAULT_FLAGS");
    if (!folder) return 0;
    char path[4096];
    snprintf(path, sizeof path, "%s/%s", folder, flag);
    return access(path, F_OK) == 0;
}

/* Whether a write is to fail; waits before the answer, if it is to begin late. */
static int is_refused(int fd) {
    static __thread unsigned state;
    if (!concerns_us(fd)) return 0;
    const char *percent = getenv("FAULT_SLOW_PERCENT"), *micros = getenv("FAULT_SLOW_MICROS");
    if (!state) state = (unsigned)(size_t)&state ^ (unsigned)getpid();
    if (percent && micros && rand_r(&state) % 100 < (unsigned)atoi(percent))
        usleep(rand_r(&state) % (unsigned)atoi(micros));
    if (!is_set("full")) return 0;
    errno = ENOSPC;
    return 1;
}

#define REAL(name) \
    static name##_type *real; \
    if (!real) real = (name##_type *)dlsym(RTLD_NEXT, #name)

typedef ssize_t write_type(int, const void *, size_t);
typedef ssize_t writev_type(int, const struct iovec *, int);
typedef ssize_t pwrite64_type(int, const void *, size_t, off_t);
typedef int fsync_type(int);
typedef int fdatasync_type(int);

ssize_t write(int fd, const void *buf, size_t len) {
    REAL(write);
    return is_refused(fd) ? -1 : real(fd, buf, len);
}

ssize_t writev(int fd, const struct iovec *parts, int count) {
    REAL(writev);
    return is_refused(fd) ? -1 : real(fd, parts, count);
}

ssize_t pwrite64(int fd, const void *buf, size_t len, off_t offset) {
    REAL(pwrite64);
    return is_refused(fd) ? -1 : real(fd, buf, len, offset);
}

static int is_unsynced(int fd) {
    if (!concerns_us(fd) || !is_set("unsynced")) return 0;
    errno = EIO;
    return 1;
}

static void hang(int fd) {
    const char *folder = getenv("FAULT_FLAGS");
    if (!folder || !concerns_us(fd)) return;
    char link[64], path[4096], flag[4096], part[256];
    snprintf(flag, sizeof flag, "%s/hanging", folder);
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t len = readlink(link, path, sizeof path - 1);
    if (len < 0) return;
    path[len] = 0;
    for (;;) {
        FILE *file = fopen(flag, "r");
        if (!file) return;
        len = (ssize_t)fread(part, 1, sizeof part - 1, file);
        fclose(file);
        part[len] = 0;
        if (!strstr(path, part)) return;
        usleep(2000);
    }
}

int fsync(int fd) {
    REAL(fsync);
    hang(fd);
    return is_unsynced(fd) ? -1 : real(fd);
}

int fdatasync(int fd) {
    REAL(fdatasync);
    hang(fd);
    return is_unsynced(fd) ? -1 : real(fd);
}

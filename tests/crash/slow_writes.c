/* Preloaded into the server under test: some writes to files whose path contains SLOW_WRITES_PATH
 * begin late, so that moments that last microseconds last milliseconds. SLOW_WRITES_PERCENT of
 * them wait up to SLOW_WRITES_MICROS. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>
#include <unistd.h>

static void maybe_wait(int fd) {
    static __thread unsigned state;
    const char *wanted = getenv("SLOW_WRITES_PATH");
    if (!wanted || fd < 3) return;
    char link[64], path[4096];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t len = readlink(link, path, sizeof path - 1);
    if (len < 0) return;
    path[len] = 0;
    if (!strstr(path, wanted)) return;
    if (!state) state = (unsigned)(size_t)&state ^ (unsigned)getpid();
    if (rand_r(&state) % 100 < (unsigned)atoi(getenv("SLOW_WRITES_PERCENT")))
        usleep(rand_r(&state) % (unsigned)atoi(getenv("SLOW_WRITES_MICROS")));
}

ssize_t write(int fd, const void *buf, size_t len) {
    static ssize_t (*real)(int, const void *, size_t);
    if (!real) real = (ssize_t (*)(int, const void *, size_t))dlsym(RTLD_NEXT, "write");
    maybe_wait(fd);
    return real(fd, buf, len);
}

ssize_t writev(int fd, const struct iovec *parts, int count) {
    static ssize_t (*real)(int, const struct iovec *, int);
    if (!real) real = (ssize_t (*)(int, const struct iovec *, int))dlsym(RTLD_NEXT, "writev");
    maybe_wait(fd);
    return real(fd, parts, count);
}

ssize_t pwrite64(int fd, const void *buf, size_t len, off_t offset) {
    static ssize_t (*real)(int, const void *, size_t, off_t);
    if (!real) real = (ssize_t (*)(int, const void *, size_t, off_t))dlsym(RTLD_NEXT, "pwrite64");
    maybe_wait(fd);
    return real(fd, buf, len, offset);
}

/* Preloaded into the server under test; acts on files whose path contains FAULT_PATH.
 *
 * FAULT_SLOW_PERCENT of the writes begin up to FAULT_SLOW_MICROS late, so that moments that last
 * microseconds last milliseconds. While a file `full` exists in the folder FAULT_FLAGS, writes
 * fail as on a full disk; while `unsynced` does, fdatasync and fsync fail, while `names` does, those of folders only; while `hanging` does, those
 * of files whose path contains what that file contains do not end. While `room` does, the folder of a file
 * written to has room for as many bytes as that file says; a write that does not fit is cut short.
 * FAULT_NO_DIRECT: files with this in their path cannot be opened past the page cache; FAULT_NO_ROOM: no
 * room can be had for such files. */
#define _GNU_SOURCE
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

static int is_ours(const char *path) {
    const char *wanted = getenv("FAULT_PATH");
    return wanted && path && strstr(path, wanted) != NULL;
}

static int is_named(int fd, const char *wanted) {
    if (!wanted || fd < 3) return 0;
    char link[64], path[4096];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t len = readlink(link, path, sizeof path - 1);
    if (len < 0) return 0;
    path[len] = 0;
    return strstr(path, wanted) != NULL;
}

static int concerns_us(int fd) { return is_named(fd, getenv("FAULT_PATH")); }

static int is_set(const char *flag) {
    const char *folder = getenv("FAULT_FLAGS");
    if (!folder) return 0;
    char path[4096];
    snprintf(path, sizeof path, "%s/%s", folder, flag);
    return access(path, F_OK) == 0;
}

/* How long a file may become while the disk is full. */
static off_t length_allowed(void) {
    char path[4096], text[32] = "";
    snprintf(path, sizeof path, "%s/full", getenv("FAULT_FLAGS"));
    FILE *file = fopen(path, "r");
    if (file) {
        if (!fgets(text, sizeof text, file)) text[0] = 0;
        fclose(file);
    }
    return atoll(text);
}

/* Whether a write up to `end` is to fail; waits before the answer, if it is to begin late. */
static int is_refused(int fd, off_t end) {
    static __thread unsigned state;
    if (!concerns_us(fd)) return 0;
    const char *percent = getenv("FAULT_SLOW_PERCENT"), *micros = getenv("FAULT_SLOW_MICROS");
    if (!state) state = (unsigned)(size_t)&state ^ (unsigned)getpid();
    if (percent && micros && rand_r(&state) % 100 < (unsigned)atoi(percent))
        usleep(rand_r(&state) % (unsigned)atoi(micros));
    if (is_set("io")) {
        errno = EIO;
        return 1;
    }
    if (!is_set("full") || end <= length_allowed()) return 0;
    errno = ENOSPC;
    return 1;
}

/* How many of `len` bytes at `offset` (negative: the end) fit on the disk. */
static size_t fitting(int fd, size_t len, off_t offset) {
    const char *folder = getenv("FAULT_FLAGS");
    if (!folder || !concerns_us(fd)) return len;
    char link[64], path[4096], flag[4096];
    snprintf(flag, sizeof flag, "%s/room", folder);
    FILE *file = fopen(flag, "r");
    if (!file) return len;
    long room = 0;
    if (fscanf(file, "%ld", &room) != 1) room = 0;
    fclose(file);
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t end = readlink(link, path, sizeof path - 1);
    if (end < 0) return len;
    path[end] = 0;
    *strrchr(path, '/') = 0;
    DIR *dir = opendir(path);
    if (!dir) return len;
    struct stat own, other;
    for (struct dirent *entry; (entry = readdir(dir));)
        if (fstatat(dirfd(dir), entry->d_name, &other, 0) == 0 && S_ISREG(other.st_mode)) room -= other.st_size;
    closedir(dir);
    if (room < 0) room = 0;
    if (offset >= 0 && fstat(fd, &own) == 0 && offset < own.st_size) room += own.st_size - offset;
    return len < (size_t)room ? len : (size_t)room;
}

#define REAL(name) \
    static name##_type *real; \
    if (!real) real = (name##_type *)dlsym(RTLD_NEXT, #name)

typedef int open64_type(const char *, int, ...);
typedef int fallocate64_type(int, int, off_t, off_t);
typedef int rename_type(const char *, const char *);
typedef ssize_t write_type(int, const void *, size_t);
typedef ssize_t writev_type(int, const struct iovec *, int);
typedef ssize_t pwrite64_type(int, const void *, size_t, off_t);
typedef int fsync_type(int);
typedef int fdatasync_type(int);

static int real_open(const char *path, int flags) {
    REAL(open64);
    return real(path, flags);
}

int open64(const char *path, int flags, ...) {
    REAL(open64);
    va_list more;
    va_start(more, flags);
    mode_t mode = va_arg(more, mode_t);
    va_end(more);
    if ((flags & O_CREAT) && is_ours(path) && is_set("open")) {
        errno = EACCES;
        return -1;
    }
    const char *not_direct = getenv("FAULT_NO_DIRECT");
    if (not_direct && (flags & O_DIRECT) && strstr(path, not_direct)) {
        errno = EINVAL;
        return -1;
    }
    return real(path, flags, mode);
}

int rename(const char *from, const char *to) {
    REAL(rename);
    if ((is_ours(from) || is_ours(to)) && is_set("rename")) {
        errno = EROFS;
        return -1;
    }
    return real(from, to);
}

static ssize_t no_space(void) {
    errno = ENOSPC;
    return -1;
}

ssize_t write(int fd, const void *buf, size_t len) {
    REAL(write);
    if (is_refused(fd, len + 1)) return -1;
    size_t fits = fitting(fd, len, -1);
    return len && !fits ? no_space() : real(fd, buf, fits);
}

ssize_t writev(int fd, const struct iovec *parts, int count) {
    REAL(writev);
    if (is_refused(fd, 1)) return -1;
    size_t len = 0;
    for (int i = 0; i < count; i++) len += parts[i].iov_len;
    size_t fits = fitting(fd, len, -1);
    if (fits == len) return real(fd, parts, count);
    struct iovec first = parts[0];
    if (first.iov_len > fits) first.iov_len = fits;
    return first.iov_len ? real(fd, &first, 1) : no_space();
}

ssize_t pwrite64(int fd, const void *buf, size_t len, off_t offset) {
    REAL(pwrite64);
    if (is_refused(fd, offset + len)) return -1;
    size_t fits = fitting(fd, len, offset);
    if (len && !fits) return no_space();
    ssize_t done = real(fd, buf, fits, offset);
    if (done > 0 && concerns_us(fd) && is_set("changed")) {
        /* Behind the back of the writer, as a bad disk would. */
        char path[64], byte;
        snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
        int again = real_open(path, O_RDWR);
        if (again >= 0 && pread(again, &byte, 1, offset + done / 2) == 1) {
            byte ^= 1;
            if (real(again, &byte, 1, offset + done / 2) != 1) perror(path);
        }
        close(again);
    }
    return done;
}

static int is_unsynced(int fd) {
    if (!concerns_us(fd)) return 0;
    struct stat file;
    int is_folder = is_set("names") && fstat(fd, &file) == 0 && S_ISDIR(file.st_mode);
    if (!is_folder && !is_set("unsynced")) return 0;
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

int fallocate64(int fd, int mode, off_t offset, off_t len) {
    REAL(fallocate64);
    if (is_named(fd, getenv("FAULT_NO_ROOM"))) {
        errno = ENOSPC;
        return -1;
    }
    return real(fd, mode, offset, len);
}

int fallocate(int fd, int mode, off_t offset, off_t len) { return fallocate64(fd, mode, offset, len); }

// Preloaded: one call on a file below FAIL_IO_UNDER goes wrong. FAIL_IO is "CALL:N:ERROR": the N-th call (from 1) of open, pwrite, pread,
// fsync, rename or ftruncate fails with the error number, with ERROR "short" transfers the first byte alone, and with "N:ERROR+" all from the
// N-th on fail.
// FAIL_IO_COLD: no file is in the page cache, as far as mincore() tells. FAIL_IO_NO_DIRECT: no file opens with O_DIRECT.
// FAIL_IO_SLOW: every one of these calls takes so many microseconds more.
// With FAIL_IO_COUNT standard error has the number of calls when the process ends.
#include "preloaded.h"

#include <limits.h>
#include <stdatomic.h>
#include <stdio.h>
#include <sys/mman.h>
#include <unistd.h>

static atomic_long calls;

enum Fate { FINE, FAILS, SHORT };

/// Counts the call, and says what becomes of it.
static enum Fate fate(const char* name, const char* path) {
    const char *wanted = getenv("FAIL_IO"), *under = getenv("FAIL_IO_UNDER"), *slow = getenv("FAIL_IO_SLOW");
    const size_t length = strlen(name);
    if (!under || strncmp(path, under, strlen(under)) != 0) return FINE;
    if (slow) usleep((useconds_t)atoi(slow));
    if (!wanted) return FINE;
    if (strncmp(wanted, name, length) != 0 || wanted[length] != ':') return FINE;
    char* error = NULL;
    const long number = strtol(wanted + length + 1, &error, 10);
    const long call = atomic_fetch_add(&calls, 1) + 1;
    char* rest = NULL;
    const long code = strtol(error + 1, &rest, 10);
    if (call != number && !(*rest == '+' && call > number)) return FINE;
    if (strcmp(error + 1, "short") == 0) return SHORT;
    errno = (int)code;
    return FAILS;
}

static enum Fate fateOfFile(const char* name, int file) {
    char link[64], path[PATH_MAX];
    const int saved = errno;
    snprintf(link, sizeof link, "/proc/self/fd/%d", file);
    const ssize_t length = readlink(link, path, sizeof path - 1);
    errno = saved;
    if (length < 0) return FINE;
    path[length] = 0;
    return fate(name, path);
}

__attribute__((destructor)) static void tell(void) {
    if (getenv("FAIL_IO_COUNT")) fprintf(stderr, "FAIL_IO calls %ld\n", atomic_load(&calls));
}

static int isRefused(int flags) {
    if (!(flags & O_DIRECT) || !getenv("FAIL_IO_NO_DIRECT")) return 0;
    errno = EINVAL;
    return 1;
}

int mincore(void* address, size_t bytes, unsigned char* pages) {
    const int result = REAL(mincore)(address, bytes, pages);
    if (result == 0 && getenv("FAIL_IO_COLD")) memset(pages, 0, (bytes + 4095) / 4096);
    return result;
}

#define OPENS(name)                                        \
    int name(const char* path, int flags, ...) {           \
        MODE(flags)                                        \
        if (isRefused(flags)) return -1;                   \
        if (fate("open", path) == FAILS) return -1;        \
        return REAL(name)(path, flags, mode);              \
    }
OPENS(open)
OPENS(open64)

#define MOVES(name, call, buffer, offset_type)                                         \
    ssize_t name(int file, buffer data, size_t bytes, offset_type offset) {            \
        const enum Fate how = fateOfFile(call, file);                                  \
        if (how == FAILS) return -1;                                                   \
        return REAL(name)(file, data, how == SHORT && bytes > 1 ? 1 : bytes, offset);  \
    }
MOVES(pwrite, "pwrite", const void*, off_t)
MOVES(pwrite64, "pwrite", const void*, off64_t)
MOVES(pread, "pread", void*, off_t)
MOVES(pread64, "pread", void*, off64_t)

int fsync(int file) {
    return fateOfFile("fsync", file) == FAILS ? -1 : REAL(fsync)(file);
}

int rename(const char* from, const char* to) {
    return fate("rename", from) == FAILS ? -1 : REAL(rename)(from, to);
}

int ftruncate(int file, off_t size) {
    return fateOfFile("ftruncate", file) == FAILS ? -1 : REAL(ftruncate)(file, size);
}

int ftruncate64(int file, off64_t size) {
    return fateOfFile("ftruncate", file) == FAILS ? -1 : REAL(ftruncate64)(file, size);
}

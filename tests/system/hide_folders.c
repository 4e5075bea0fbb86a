// Preloaded into ranks: on every rank but 0 the folders of HIDDEN_FOLDERS (with colons between) are not there, as on a machine without the
// shared file system.
#include "preloaded.h"

#include <sys/stat.h>

static int is_hidden(const char* path) {
    const char* rank = getenv("OMPI_COMM_WORLD_RANK");
    const char* folders = getenv("HIDDEN_FOLDERS");
    if (!rank || strcmp(rank, "0") == 0 || !folders) return 0;
    while (*folders) {
        const size_t length = strcspn(folders, ":");
        if (length > 0 && strncmp(path, folders, length) == 0) return 1;
        folders += length + (folders[length] == ':');
    }
    return 0;
}

#define DENY(path, value)           \
    if (is_hidden(path)) {          \
        errno = ENOENT;             \
        return value;               \
    }

int open(const char* path, int flags, ...) {
    MODE(flags)
    DENY(path, -1)
    return REAL(open)(path, flags, mode);
}

int open64(const char* path, int flags, ...) {
    MODE(flags)
    DENY(path, -1)
    return REAL(open64)(path, flags, mode);
}

int openat(int folder, const char* path, int flags, ...) {
    MODE(flags)
    DENY(path, -1)
    return REAL(openat)(folder, path, flags, mode);
}

int stat(const char* restrict path, struct stat* restrict status) {
    DENY(path, -1)
    return REAL(stat)(path, status);
}

int lstat(const char* restrict path, struct stat* restrict status) {
    DENY(path, -1)
    return REAL(lstat)(path, status);
}

int mkdir(const char* path, mode_t mode) {
    DENY(path, -1)
    return REAL(mkdir)(path, mode);
}

// What libraries share that are preloaded to stand before calls of the C library.
#pragma once
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

/// The call that stands behind.
#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

/// The third argument of open(flags, ...) where it has one.
#define MODE(flags)                        \
    mode_t mode = 0;                       \
    if ((flags) & (O_CREAT | O_TMPFILE)) { \
        va_list more;                      \
        va_start(more, flags);             \
        mode = va_arg(more, mode_t);       \
        va_end(more);                      \
    }

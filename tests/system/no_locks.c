// Preloaded: no file can be locked, as on Lustre without `-o flock` (ENOSYS), NFS without a lock daemon (ENOLCK) or DVS (524). NO_LOCKS is
// the error number.
#include "preloaded.h"

#include <stdarg.h>
#include <sys/file.h>

static int refuse(void) {
    errno = atoi(getenv("NO_LOCKS"));
    return -1;
}

int flock(int file, int operation) {
    return getenv("NO_LOCKS") ? refuse() : REAL(flock)(file, operation);
}

static int isAboutLocks(int command) {
    return command == F_SETLK || command == F_SETLKW || command == F_GETLK || command == F_OFD_SETLK || command == F_OFD_SETLKW ||
           command == F_OFD_GETLK;
}

#define FCNTL(name)                                                          \
    int name(int file, int command, ...) {                                   \
        va_list list;                                                        \
        va_start(list, command);                                             \
        void* argument = va_arg(list, void*);                                \
        va_end(list);                                                        \
        if (getenv("NO_LOCKS") && isAboutLocks(command)) return refuse();    \
        return REAL(name)(file, command, argument);                          \
    }
FCNTL(fcntl)
FCNTL(fcntl64)

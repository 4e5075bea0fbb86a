#include "aimerge/core/standard_streams.h"

#include "aimerge/core/error.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <system_error>

namespace aimerge {

void openStandardStreams() {
    for (int descriptor = STDIN_FILENO; descriptor <= STDERR_FILENO; ++descriptor)
        if (::fcntl(descriptor, F_GETFD) < 0 && errno == EBADF) ::open("/dev/null", O_RDWR);  // gets the lowest free number
}

void writeToStandardError(std::string_view text) noexcept {
    if (std::fwrite(text.data(), 1, text.size(), stderr) != text.size()) std::clearerr(stderr);
}

void flushStandardOutput() {
    if (std::fflush(stdout) == 0 && std::ferror(stdout) == 0) return;
    throw RuntimeFault("standard output: cannot be written to: {}; what was asked for is incomplete",
                       std::generic_category().message(errno));
}

}  // namespace aimerge

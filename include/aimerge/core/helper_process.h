#pragma once
// A child process that answers messages: each is a length (8 bytes, little-endian) and that many bytes, so that any text
// passes. The child's standard input and output are one socket: unlike a pipe it can be written without a SIGPIPE when the
// child is gone. Its standard error is kept and quoted when it fails.

#include <sys/types.h>

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace aimerge {

class HelperProcess {
public:
    /// Starts command[0], looked up in PATH. @param failureHint what the user can do when it does not start
    /// @throws RuntimeFault
    HelperProcess(std::vector<std::string> command, std::string failureHint);
    /// Closes the socket, upon which the child ends by itself, and waits for it.
    ~HelperProcess();
    HelperProcess(const HelperProcess&) = delete;
    HelperProcess& operator=(const HelperProcess&) = delete;

    /// The next message of the child.
    std::string receive() { return exchange(std::nullopt); }
    /// Sends a message and returns the child's next one, reading while it writes: neither side can block the other.
    std::string request(std::string_view message) { return exchange(message); }

private:
    std::string exchange(std::optional<std::string_view> message);
    /// Ends the child and throws RuntimeFault with what it said last.
    [[noreturn]] void fail(const std::string& what);
    void closeAll();

    std::vector<std::string> command_;
    std::string failureHint_;
    int socket_ = -1;
    int errorFile_ = -1;
    pid_t child_ = -1;
};

}  // namespace aimerge

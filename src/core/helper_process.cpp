#include "aimerge/core/helper_process.h"

#include "aimerge/core/environment.h"
#include "aimerge/core/error.h"

#include <poll.h>
#include <spawn.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <csignal>
#include <cstring>
#include <system_error>
#include <utility>

namespace aimerge {
namespace {

constexpr std::size_t kLengthBytes = 8;
constexpr std::size_t kQuotedErrorBytes = 2000;

std::string frameOf(std::string_view message) {
    std::uint64_t length = message.size();
    std::string frame(kLengthBytes, '\0');
    for (char& byte : frame) {
        byte = static_cast<char>(length & 0xFF);
        length >>= 8;
    }
    return frame.append(message);
}

std::uint64_t lengthOf(std::string_view frame) {
    std::uint64_t length = 0;
    for (std::size_t index = kLengthBytes; index-- > 0;) length = (length << 8) | static_cast<unsigned char>(frame[index]);
    return length;
}

bool isWhole(std::string_view frame) {
    return frame.size() >= kLengthBytes && frame.size() - kLengthBytes >= lengthOf(frame);
}

/// Owner of the attributes that posix_spawn needs.
class SpawnSettings {
public:
    SpawnSettings() {
        ::posix_spawn_file_actions_init(&actions_);
        ::posix_spawnattr_init(&attributes_);
        // The child starts with default signals, whatever this process blocks or ignores.
        sigset_t none, all;
        ::sigemptyset(&none);
        ::sigfillset(&all);
        ::posix_spawnattr_setsigmask(&attributes_, &none);
        ::posix_spawnattr_setsigdefault(&attributes_, &all);
        ::posix_spawnattr_setflags(&attributes_, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF);
    }
    ~SpawnSettings() {
        ::posix_spawn_file_actions_destroy(&actions_);
        ::posix_spawnattr_destroy(&attributes_);
    }
    SpawnSettings(const SpawnSettings&) = delete;
    SpawnSettings& operator=(const SpawnSettings&) = delete;

    void connect(int from, int to) { ::posix_spawn_file_actions_adddup2(&actions_, from, to); }
    const posix_spawn_file_actions_t* actions() const { return &actions_; }
    const posix_spawnattr_t* attributes() const { return &attributes_; }

private:
    posix_spawn_file_actions_t actions_;
    posix_spawnattr_t attributes_;
};

std::string statusText(int status) {
    if (WIFSIGNALED(status)) return fmt::format("was ended by signal {}", WTERMSIG(status));
    return fmt::format("ended with exit code {}", WEXITSTATUS(status));
}

/// One line out of what the child wrote last to its standard error.
std::string lastWords(int errorFile) {
    const off_t size = ::lseek(errorFile, 0, SEEK_END);
    const off_t from = std::max<off_t>(0, size - static_cast<off_t>(kQuotedErrorBytes));
    std::string text(static_cast<std::size_t>(std::max<off_t>(0, size - from)), '\0');
    const ssize_t got = ::pread(errorFile, text.data(), text.size(), from);
    text.resize(static_cast<std::size_t>(std::max<ssize_t>(0, got)));
    while (!text.empty() && text.back() == '\n') text.pop_back();
    return text.substr(text.rfind('\n') + 1);
}

}  // namespace

HelperProcess::HelperProcess(std::vector<std::string> command, std::string failureHint)
    : command_(std::move(command)), failureHint_(std::move(failureHint)) {
    std::array<int, 2> ends{};
    if (::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends.data()) != 0)
        throw RuntimeFault("cannot make a socket for {}: {}", command_[0], std::generic_category().message(errno));
    socket_ = ends[0];
    errorFile_ = ::memfd_create("helper-stderr", MFD_CLOEXEC);

    SpawnSettings settings;
    settings.connect(ends[1], STDIN_FILENO);
    settings.connect(ends[1], STDOUT_FILENO);
    if (errorFile_ >= 0) settings.connect(errorFile_, STDERR_FILENO);
    std::vector<char*> arguments;
    for (std::string& argument : command_) arguments.push_back(argument.data());
    arguments.push_back(nullptr);
    const int error =
        ::posix_spawnp(&child_, command_[0].c_str(), settings.actions(), settings.attributes(), arguments.data(), environ);
    ::close(ends[1]);
    if (error != 0) {
        child_ = -1;
        closeAll();
        throw RuntimeFault("{} cannot be started: {}; {}", command_[0], std::generic_category().message(error),
                           failureHint_);
    }
}

HelperProcess::~HelperProcess() {
    closeAll();
}

void HelperProcess::closeAll() {
    if (socket_ >= 0) ::close(std::exchange(socket_, -1));
    if (child_ > 0) ::waitpid(std::exchange(child_, -1), nullptr, 0);
    if (errorFile_ >= 0) ::close(std::exchange(errorFile_, -1));
}

void HelperProcess::fail(const std::string& what) {
    ::close(std::exchange(socket_, -1));
    int status = 0;
    ::waitpid(std::exchange(child_, -1), &status, 0);
    const std::string words = errorFile_ >= 0 ? lastWords(errorFile_) : std::string();
    throw RuntimeFault("{} {}: {} and {}{}{}; {}", command_[0], command_.size() > 1 ? command_[1] : "", what,
                       statusText(status), words.empty() ? "" : ": ", words, failureHint_);
}

std::string HelperProcess::exchange(std::optional<std::string_view> message) {
    const std::string outgoing = message ? frameOf(*message) : std::string();
    std::size_t sent = 0;
    std::string incoming;
    std::vector<char> buffer(std::size_t{1} << 18);
    const int deadlineMilliseconds = static_cast<int>(std::min(environment::collectiveTimeoutSeconds() * 1000, 2e9));
    while (!isWhole(incoming)) {
        pollfd entry{socket_, static_cast<short>(POLLIN | (sent < outgoing.size() ? POLLOUT : 0)), 0};
        const int ready = ::poll(&entry, 1, deadlineMilliseconds);
        if (ready < 0 && errno == EINTR) continue;
        if (ready <= 0) {
            ::kill(child_, SIGKILL);
            fail(fmt::format("gave no answer for {} s", deadlineMilliseconds / 1000));
        }
        if (entry.revents & POLLOUT) {
            const ssize_t put = ::send(socket_, outgoing.data() + sent, outgoing.size() - sent, MSG_NOSIGNAL | MSG_DONTWAIT);
            if (put > 0) sent += static_cast<std::size_t>(put);
            // A child that has gone is found by recv below: what it said last may still be there.
            if (put < 0 && errno != EAGAIN && errno != EINTR) sent = outgoing.size();
        }
        if (entry.revents & (POLLIN | POLLHUP | POLLERR)) {
            const ssize_t got = ::recv(socket_, buffer.data(), buffer.size(), MSG_DONTWAIT);
            if (got > 0) incoming.append(buffer.data(), static_cast<std::size_t>(got));
            if (got == 0 || (got < 0 && errno != EAGAIN && errno != EINTR)) fail("stopped before it answered");
        }
    }
    return incoming.substr(kLengthBytes);
}

}  // namespace aimerge

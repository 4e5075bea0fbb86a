#include "distributed/launcher.h"

#include "aimerge/core/environment.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstddef>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <string_view>

namespace aimerge {
namespace {

using namespace std::literals;

// mpirun needs a second or two to end a job in good order.
constexpr double kLauncherSeconds = 2;
// A daemon takes up to two seconds from SIGTERM to its end; mpirun may want a second one.
constexpr int kAfterFirstSignalMs = 2000, kAfterSecondSignalMs = 1000, kBetweenLooksMs = 100;
constexpr int kMostAncestors = 16;  // wrappers between mpirun and a rank

/// What /proc says of a process. Plain arrays, since this is also read after a fork().
struct ProcessStatus {
    std::array<char, 1024> text{};
    std::string_view name, parent, started;

    bool read(pid_t pid) {
        std::array<char, 32> path{};
        std::memcpy(path.data(), "/proc/", 6);
        std::array<char, 16> digits{};
        std::size_t count = 0;
        for (pid_t rest = pid; rest > 0; rest /= 10) digits[count++] = static_cast<char>('0' + rest % 10);
        std::reverse_copy(digits.begin(), digits.begin() + count, path.begin() + 6);
        std::memcpy(path.data() + 6 + count, "/stat", 5);
        const int file = ::open(path.data(), O_RDONLY | O_CLOEXEC);
        if (file < 0) return false;
        const ssize_t bytes = ::read(file, text.data(), text.size());
        ::close(file);
        return bytes > 0 && parse({text.data(), static_cast<std::size_t>(bytes)});
    }

private:
    /// "PID (NAME) STATE PARENT ...", the 22nd field is when it started.
    bool parse(std::string_view line) {
        const std::size_t open = line.find('('), close = line.rfind(')');
        if (open == line.npos || close == line.npos) return false;
        name = line.substr(open + 1, close - open - 1);
        std::string_view rest = line.substr(close + 1);
        for (int field = 3; field <= 22; ++field) {
            rest.remove_prefix(std::min(rest.find_first_not_of(' '), rest.size()));
            const std::string_view word = rest.substr(0, rest.find(' '));
            if (field == 3 && word == "Z") return false;  // has ended
            if (field == 4) parent = word;
            if (field == 22) started = word;
            rest.remove_prefix(word.size());
        }
        return !started.empty();
    }
};

void sleepMs(int milliseconds) {
    struct timespec time {
        milliseconds / 1000, (milliseconds % 1000) * 1'000'000L
    };
    ::nanosleep(&time, nullptr);
}

/// True when the process is there after so long; returns as soon as it is not.
bool outlasts(pid_t pid, std::string_view started, int milliseconds) {
    for (int waited = 0; waited < milliseconds; waited += kBetweenLooksMs) {
        ProcessStatus status;
        if (!status.read(pid) || status.started != started) return false;
        sleepMs(kBetweenLooksMs);
    }
    ProcessStatus status;
    return status.read(pid) && status.started == started;
}

/// "/tmp/ompi.HOST.UID/pid.N" of mpirun, ".../jf.N" of its daemons; nothing that looks otherwise.
std::string sessionFolder() {
    const std::filesystem::path folder = environment::sessionFolderOfLauncher();
    const std::string name = folder.filename().string();
    const bool isOurs = folder.is_absolute() && folder.parent_path().filename().string().starts_with("ompi.") &&
                        (name.starts_with("pid.") || name.starts_with("jf."));
    return isOurs ? folder.string() : "";
}

}  // namespace

std::optional<Launcher> Launcher::ofThisProcess() {
    if (environment::launchedProcesses() == environment::launchedProcessesHere()) return std::nullopt;
    pid_t pid = ::getppid();
    for (int generation = 0; generation < kMostAncestors && pid > 1; ++generation) {
        ProcessStatus status;
        if (!status.read(pid)) break;
        if (status.name == "orted"sv || status.name == "mpirun"sv || status.name == "mpiexec"sv ||
            status.name == "orterun"sv || status.name == "prterun"sv)
            return Launcher(pid, std::string(status.started), sessionFolder(), generation == 0);
        pid = static_cast<pid_t>(std::strtol(std::string(status.parent).c_str(), nullptr, 10));
    }
    return std::nullopt;
}

void Launcher::endSoon(double patienceSeconds) const {
    // The launcher may kill this rank's process group at any moment now: returns when the child has left it, which closes
    // the pipe.
    int pipe[2] = {-1, -1};
    if (::pipe2(pipe, O_CLOEXEC) != 0) return;
    if (::fork() != 0) {
        char nothing = 0;
        ::close(pipe[1]);
        while (::read(pipe[0], &nothing, 1) < 0 && errno == EINTR) continue;
        ::close(pipe[0]);
        return;
    }
    // In a session of its own, without the pipes by which mpirun sees that a rank has ended.
    ::setsid();
    ::syscall(SYS_close_range, 0U, ~0U, 0U);
    for (int file = 0; file < 1024; ++file) ::close(file);  // where the kernel has no close_range
    for (const int signal : {SIGTERM, SIGINT, SIGHUP, SIGUSR1}) ::signal(signal, SIG_IGN);

    struct Step {
        int afterMs, signal;
    };
    const std::array steps{Step{static_cast<int>(1000 * patienceSeconds), SIGTERM}, Step{kAfterFirstSignalMs, SIGTERM},
                           Step{kAfterSecondSignalMs, SIGKILL}};
    bool wasAsked = false;
    for (const Step& step : steps) {
        if (!outlasts(pid_, started_, step.afterMs)) break;
        ::kill(pid_, step.signal);
        wasAsked = true;
    }
    if (wasAsked && !sessionFolder_.empty()) ::execl("/bin/rm", "rm", "-rf", "--", sessionFolder_.c_str(), nullptr);
    ::_exit(0);
}

void removeSharedMemory() {
    std::ifstream mappings("/proc/self/maps");
    for (std::string line; std::getline(mappings, line);) {
        const std::filesystem::path file = line.substr(std::min(line.find('/'), line.size()));
        // Open MPI 4 and 5; all that are mapped here are of this job.
        const std::string name = file.filename().string();
        if (name.starts_with("vader_segment.") || name.starts_with("sm_segment.")) ::unlink(file.c_str());
    }
}

void leaveMpiBehind(const std::optional<Launcher>& launcher) {
    if (launcher) launcher->endSoon(kLauncherSeconds);
    removeSharedMemory();
}

}  // namespace aimerge

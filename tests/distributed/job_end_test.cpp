// How a job ends, seen from outside: mpirun's exit code, our one line on stderr, the time it takes, and that nobody is left.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <signal.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <fstream>
#include <map>
#include <sstream>
#include <string>
#include <thread>
#include <vector>

extern char** environ;

namespace {

using Clock = std::chrono::steady_clock;
using testing::ElementsAre;
using testing::HasSubstr;

double secondsSince(Clock::time_point start) {
    return std::chrono::duration<double>(Clock::now() - start).count();
}

/// The reading end of a pipe.
struct Pipe {
    int ends[2];
    Pipe() { EXPECT_EQ(pipe(ends), 0); }
    ~Pipe() { close(ends[0]); }
    void closeWritingEnd() { close(ends[1]); }

    std::string readLine() {
        std::string line;
        char c;
        while (read(ends[0], &c, 1) == 1 && c != '\n') line += c;
        return line;
    }
};

/// False for a zombie as well: some containers have nobody to reap orphans.
bool lives(pid_t pid) {
    std::ifstream file("/proc/" + std::to_string(pid) + "/stat");
    std::string text;
    if (!std::getline(file, text)) return false;
    const std::size_t end = text.rfind(')');
    return end + 2 < text.size() && text[end + 2] != 'Z';
}

/// `mpirun -n RANKS ending_job WAY ...`, or the program alone for 0 ranks.
class Job {
public:
    Job(int ranks, const std::string& way) : ranks_(ranks) {
        std::vector<std::string> words;
        if (ranks > 0) words = {AIMERGE_MPIEXEC, "--oversubscribe", "--bind-to", "none", "-n", std::to_string(ranks)};
        words.push_back(AIMERGE_ENDING_JOB);
        std::istringstream stream(way);
        for (std::string word; stream >> word;) words.push_back(word);
        std::vector<char*> arguments;
        for (std::string& word : words) arguments.push_back(word.data());
        arguments.push_back(nullptr);

        posix_spawn_file_actions_t actions;
        posix_spawn_file_actions_init(&actions);
        posix_spawn_file_actions_adddup2(&actions, output_.ends[1], STDOUT_FILENO);
        posix_spawn_file_actions_adddup2(&actions, errors_.ends[1], STDERR_FILENO);
        for (const Pipe* pipe : {&output_, &errors_}) {
            for (const int end : pipe->ends) posix_spawn_file_actions_addclose(&actions, end);
        }
        EXPECT_EQ(posix_spawnp(&process_, arguments[0], &actions, nullptr, arguments.data(), environ), 0);
        posix_spawn_file_actions_destroy(&actions);
        output_.closeWritingEnd();
        errors_.closeWritingEnd();
        for (int i = 0; i < std::max(1, ranks_); ++i) {
            std::istringstream line(output_.readLine());
            int rank = -1;
            pid_t pid = -1;
            if (line >> rank >> pid) pids_[rank] = pid;
        }
    }

    pid_t process() const { return process_; }
    pid_t pidOf(int rank) const { return pids_.at(rank); }

    /// Waits for the end; the exit code as a shell gives it.
    int end() {
        const auto start = Clock::now();
        std::array<char, 4096> buffer;
        for (ssize_t bytes; (bytes = read(errors_.ends[0], buffer.data(), buffer.size())) > 0;)
            text_.append(buffer.data(), static_cast<std::size_t>(bytes));
        int status = 0;
        waitpid(process_, &status, 0);
        seconds_ = secondsSince(start);
        return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
    }

    double seconds() const { return seconds_; }
    const std::string& errors() const { return text_; }

    std::vector<std::string> ourLines() const {
        std::vector<std::string> lines;
        std::istringstream stream(text_);
        for (std::string line; std::getline(stream, line);) {
            if (line.starts_with("aimerge:")) lines.push_back(line);
        }
        return lines;
    }

    /// True when no rank lives, at the latest two seconds from now.
    bool allGone() const {
        const auto gone = [](const auto& rank) { return !lives(rank.second); };
        for (int i = 0; i < 20 && !std::all_of(pids_.begin(), pids_.end(), gone); ++i) {
            std::this_thread::sleep_for(std::chrono::milliseconds(100));
        }
        return std::all_of(pids_.begin(), pids_.end(), gone);
    }

private:
    int ranks_;
    Pipe output_, errors_;
    pid_t process_ = -1;
    std::map<int, pid_t> pids_;
    std::string text_;
    double seconds_ = 0;
};

struct Ending {
    const char* name;
    int ranks;
    const char* way;
    int exitCode;
    std::vector<std::string> lines;
    double seconds;
};

void PrintTo(const Ending& ending, std::ostream* out) {
    *out << ending.ranks << " ranks: " << ending.way;
}

class EveryEnding : public testing::TestWithParam<Ending> {};

TEST_P(EveryEnding, HasItsExitCodeAndOneLineInTime) {
    const Ending& expected = GetParam();
    Job job(expected.ranks, expected.way);

    EXPECT_EQ(job.end(), expected.exitCode) << job.errors();
    EXPECT_EQ(job.ourLines(), expected.lines) << job.errors();
    EXPECT_LT(job.seconds(), expected.seconds);
    EXPECT_TRUE(job.allGone());
}

INSTANTIATE_TEST_SUITE_P(
    Job, EveryEnding,
    testing::Values(Ending{"SingleRank", 0, "throw 0 3", 3, {"aimerge: the file is bad"}, 5},
                    Ending{"RootThrows", 3, "throw 0 2", 2, {"aimerge: the config is bad"}, 10},
                    Ending{"AnotherThrows", 4, "throw 2 3", 3, {"aimerge: the file is bad (rank 2)"}, 10},
                    Ending{"AllThrow", 4, "all 3", 3, {"aimerge: the file is bad"}, 10},
                    Ending{"ThrowsAfterTheOthersFinished", 3, "late 1 4", 4, {"aimerge: the disk is full (rank 1)"}, 10},
                    Ending{"ThrowsWhileTheOthersCompute", 2, "busy 1 3", 3, {"aimerge: the file is bad (rank 1)"}, 10},
                    Ending{"RootThrowsAndTheOthersDoNotLook", 2, "deaf 0 4", 4, {"aimerge: the disk is full"}, 15},
                    Ending{"ThrowsAndTheOthersDoNotLook", 3, "deaf 1 3", 3, {"aimerge: the file is bad (rank 1)"}, 20},
                    Ending{"RootThrowsWithMessagesOnTheirWay", 2, "sending", 4, {"aimerge: the disk is full"}, 12},
                    Ending{"AllSucceed", 3, "codes 0 0 0", 0, {}, 5}, Ending{"SameCode", 3, "codes 6 6 6", 6, {}, 5},
                    Ending{"OneCode", 3, "codes 0 0 6", 6, {}, 5}),
    [](const auto& info) { return std::string(info.param.name); });

TEST(Job, EndsOnAllRanksWhenOneIsKilled) {
    Job job(3, "hang");
    kill(job.pidOf(1), SIGKILL);

    EXPECT_NE(job.end(), 0);
    EXPECT_LT(job.seconds(), 10);
    EXPECT_TRUE(job.allGone());
}

/// A rank that is stopped answers nobody: the deadline ends the job, whichever rank it is.
class StoppedRank : public testing::TestWithParam<int> {};

TEST_P(StoppedRank, EndsTheJobByTheDeadline) {
    setenv("AIMERGE_COLLECTIVE_TIMEOUT", "2", 1);
    Job job(3, "hang");
    unsetenv("AIMERGE_COLLECTIVE_TIMEOUT");
    std::this_thread::sleep_for(std::chrono::milliseconds(200));
    kill(job.pidOf(GetParam()), SIGSTOP);

    EXPECT_EQ(job.end(), 4);
    EXPECT_THAT(job.ourLines(), ElementsAre(HasSubstr("no progress from another rank for 2 s in MPI_Ibarrier")));
    EXPECT_LT(job.seconds(), 30);
    EXPECT_TRUE(job.allGone());
}

INSTANTIATE_TEST_SUITE_P(Job, StoppedRank, testing::Values(0, 1));

TEST(Job, InterruptedByASignalToOneRankExits75) {
    Job job(3, "interrupted");
    kill(job.pidOf(2), SIGUSR1);

    EXPECT_EQ(job.end(), 75);
    EXPECT_THAT(job.ourLines(), ElementsAre(HasSubstr("aimerge: interrupted by a signal")));
    EXPECT_LT(job.seconds(), 10);
}

TEST(Job, InterruptedThroughTheLauncherExits75) {
    Job job(3, "interrupted");
    kill(job.process(), SIGUSR1);

    EXPECT_EQ(job.end(), 75);
    EXPECT_LT(job.seconds(), 10);
}

TEST(Job, EndsAtOnceOnASecondSignal) {
    Job job(0, "interrupted");
    kill(job.process(), SIGSTOP);  // so that both signals are there before the next safe point
    kill(job.process(), SIGTERM);
    kill(job.process(), SIGINT);
    kill(job.process(), SIGCONT);

    EXPECT_EQ(job.end(), 75);
    EXPECT_TRUE(job.ourLines().empty());
}

TEST(Job, RefusesTasksOfSrunWithoutMpi) {
    setenv("SLURM_STEP_NUM_TASKS", "4", 1);
    Job job(0, "codes 0");
    unsetenv("SLURM_STEP_NUM_TASKS");

    EXPECT_EQ(job.end(), 2);
    EXPECT_THAT(job.ourLines(),
                ElementsAre(HasSubstr("srun started 4 tasks that do not know of each other: use srun --mpi=pmix")));
}

}  // namespace

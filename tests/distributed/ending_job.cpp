// A job that ends in the way its arguments say, as main() of the product ends it: the subject of job_end_test.
//   ending_job throw RANK CODE   that rank fails while the others wait for a broadcast
//   ending_job all CODE          all ranks fail in the same way, as they do on the same bad file
//   ending_job late RANK CODE    that rank fails when the others have already come to the end
//   ending_job busy RANK CODE    that rank fails while the others compute for a minute and now and then look
//   ending_job deaf RANK CODE    the same, but they do not look
//   ending_job sending           rank 0 fails with long messages on their way
//   ending_job hang              the ranks wait for each other until somebody is killed or stopped
//   ending_job interrupted       the ranks pass safe points until a signal comes
//   ending_job codes A B C ...   rank i returns the i-th code without a failure
// Prints "rank pid" first.

#include "aimerge/core/error.h"
#include "aimerge/distributed/interruption.h"
#include "aimerge/distributed/world.h"

#include <fmt/core.h>

#include <unistd.h>

#include <chrono>
#include <cstdio>
#include <string>
#include <thread>
#include <vector>

using namespace aimerge;

namespace {

void failWith(int code) {
    if (code == static_cast<int>(ExitCode::Usage)) throw UsageError("the config is bad");
    if (code == static_cast<int>(ExitCode::Input)) throw InputError("the file is bad");
    throw RuntimeFault("the disk is full");
}

void waitForNobody(World& world, int seconds) {
    for (int i = 0; i < seconds * 10; ++i) {
        std::this_thread::sleep_for(std::chrono::milliseconds(100));
        throwIfAnyInterrupted(world);
    }
}

int run(World& world, const std::vector<std::string>& arguments) {
    const std::string& way = arguments.at(0);
    const auto number = [&](std::size_t i) { return std::stoi(arguments.at(i)); };
    if (way == "throw") {
        if (world.rank() == number(1)) failWith(number(2));
        world.barrier();
    } else if (way == "all") {
        failWith(number(1));
    } else if (way == "late") {
        if (world.rank() == number(1)) {
            std::this_thread::sleep_for(std::chrono::seconds(1));
            failWith(number(2));
        }
    } else if (way == "busy" || way == "deaf") {
        if (world.rank() == number(1)) failWith(number(2));
        for (int i = 0; i < 600; ++i) {
            std::this_thread::sleep_for(std::chrono::milliseconds(100));
            if (way == "busy") world.throwIfPeerFailed();
        }
    } else if (way == "sending") {
        std::vector<std::byte> bytes(5 * World::kChunkBytes);
        if (world.rank() == 0) {
            std::vector<World::Request> requests;
            for (int to = 1; to < world.size(); ++to) requests.push_back(world.send(to, 1, bytes));
            failWith(4);
        }
        std::this_thread::sleep_for(std::chrono::milliseconds(200));
        World::Request request = world.receive(0, 2, bytes);
        request.wait();
    } else if (way == "hang") {
        while (true) world.barrier(), std::this_thread::sleep_for(std::chrono::milliseconds(5));
    } else if (way == "interrupted") {
        waitForNobody(world, 60);
    } else {
        return number(static_cast<std::size_t>(world.rank()) + 1);
    }
    return 0;
}

/// As the product's main(): rank 0 speaks, errors go to the other ranks, and all leave together.
int runAndLeave(World& world, const std::vector<std::string>& arguments) {
    int code = 0;
    try {
        code = run(world, arguments);
    } catch (const PeerFailed& failure) {
        if (world.isRoot()) fmt::print(stderr, "aimerge: {} (rank {})\n", failure.message(), failure.rank());
        code = failure.exitCode();
    } catch (const Error& error) {
        code = static_cast<int>(error.exitCode());
        if (world.isRoot()) fmt::print(stderr, "aimerge: {}\n", error.what());
        world.reportFailure(code, error.what());
    }
    return world.leave(code);
}

}  // namespace

int main(int argc, char** argv) {
    installInterruptionHandlers();
    try {
        World world(argc, argv);
        fmt::print("{} {}\n", world.rank(), getpid());
        std::fflush(stdout);
        return runAndLeave(world, {argv + 1, argv + argc});
    } catch (const Error& error) {  // of World's constructor
        fmt::print(stderr, "aimerge: {}\n", error.what());
        return static_cast<int>(error.exitCode());
    }
}

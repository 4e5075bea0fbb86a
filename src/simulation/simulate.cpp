#include "aimerge/simulation/simulate.h"

#include "aimerge/core/size_text.h"
#include "simulation/events.h"
#include "simulation/programs.h"
#include "simulation/topology.h"

#include <fmt/format.h>

#include <algorithm>
#include <numeric>
#include <utility>

namespace aimerge {
namespace {

constexpr std::array<std::pair<TimeUse, const char*>, kTimeUses> kNames{{{TimeUse::Reading, "reading"},
                                                                         {TimeUse::Computing, "computing"},
                                                                         {TimeUse::Linking, "links"},
                                                                         {TimeUse::Gathering, "gathering"},
                                                                         {TimeUse::Writing, "writing"},
                                                                         {TimeUse::Waiting, "waiting"}}};

using MakePrograms = Programs (*)(const SimulatedJob& job, const Topology& topology);

PhaseTimes timesOf(const SimulatedJob& job, MakePrograms make) {
    EventSimulation simulation;
    const Topology topology(job.machine, simulation);
    PhaseTimes times{0, simulation.run(make(job, topology))};
    times.seconds = std::accumulate(times.ranks.front().begin(), times.ranks.front().end(), 0.0);
    return times;
}

std::vector<std::pair<std::string, const PhaseTimes*>> phasesOf(const JobTimes& times) {
    std::vector<std::pair<std::string, const PhaseTimes*>> phases;
    for (const auto& [name, phase] : {std::pair<const char*, const std::optional<PhaseTimes>*>{"prepare", &times.prepare},
                                      {"calibrate", &times.calibrate},
                                      {"merge", &times.merge}})
        if (*phase) phases.emplace_back(name, &**phase);
    return phases;
}

}  // namespace

double PhaseTimes::share(TimeUse use) const {
    double sum = 0;
    for (const TimeUses& rank : ranks) sum += rank[static_cast<std::size_t>(use)];
    return seconds > 0 ? sum / (seconds * static_cast<double>(ranks.size())) : 0;
}

std::size_t PhaseTimes::idleRanks() const {
    const auto isIdle = [&](const TimeUses& rank) {
        const auto at = [&](TimeUse use) { return rank[static_cast<std::size_t>(use)]; };
        return at(TimeUse::Reading) + at(TimeUse::Computing) + at(TimeUse::Writing) == 0;
    };
    return static_cast<std::size_t>(std::ranges::count_if(ranks, isIdle));
}

double JobTimes::seconds() const {
    double sum = 0;
    for (const auto& [name, phase] : phasesOf(*this)) sum += phase->seconds;
    return sum;
}

JobTimes simulate(const SimulatedJob& job) {
    JobTimes times;
    if (job.settings.blocks > 0) {
        if (job.baseBytes > 0) times.prepare = timesOf(job, preparePrograms);
        times.calibrate = timesOf(job, calibratePrograms);
    }
    if (job.settings.merging) times.merge = timesOf(job, mergePrograms);
    return times;
}

std::string timesTable(const JobTimes& times, const Machine& machine) {
    std::string text = fmt::format("time    {} on {}, simulated\n\n{:<11}{:>7}", formatSeconds(times.seconds()),
                                   machine.name, "phase", "time");
    for (const auto& [use, name] : kNames) text += fmt::format("{:>11}", name);
    text += "\n";
    for (const auto& [name, phase] : phasesOf(times)) {
        text += fmt::format("{:<11}{:>7}", name, formatSeconds(phase->seconds));
        for (const auto& [use, _] : kNames) {
            const double share = phase->share(use);
            text += fmt::format("{:>11}", share == 0 ? "-" : share < 0.005 ? "<1%" : fmt::format("{:.0f}%", 100 * share));
        }
        const std::size_t idle = phase->idleRanks();
        if (idle > 0) text += fmt::format("   {} of {} ranks do nothing", idle, phase->ranks.size());
        text += "\n";
    }
    return text + "\n";
}

nlohmann::ordered_json timesJson(const JobTimes& times) {
    auto json = nlohmann::ordered_json::array();
    for (const auto& [name, phase] : phasesOf(times)) {
        nlohmann::ordered_json shares;
        for (const auto& [use, useName] : kNames) shares[useName] = phase->share(use);
        json.push_back({{"phase", name},
                        {"seconds", phase->seconds},
                        {"idle_ranks", phase->idleRanks()},
                        {"shares", std::move(shares)}});
    }
    return json;
}

}  // namespace aimerge

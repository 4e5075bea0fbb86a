#pragma once
// How long a plan takes on a machine, and where the time goes: every rank does what it would, in simulated time.
// The order of a calibration is that of the pipeline itself (distributed/pipeline.h), over a transport that
// carries sizes. Pure functions.

#include "aimerge/distributed/plan.h"
#include "aimerge/simulation/machine.h"

#include <nlohmann/json.hpp>

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace aimerge {

/// What a rank's time goes to. Linking: a message that it waits for is on its way. Waiting: it has not been sent yet, or
/// there is nothing left to do.
enum class TimeUse { Reading, Computing, Linking, Waiting, Gathering, Writing };
inline constexpr std::size_t kTimeUses = 6;

/// Seconds by use.
using TimeUses = std::array<double, kTimeUses>;

struct SimulatedJob {
    Plan plan;
    PlanSettings settings;
    Machine machine;
    std::int64_t layers = 0, hiddenSize = 0;
    std::uint64_t baseBytes = 0;  // what rank 0 digests before a calibration
    bool gathersAtRoot = false;   // --gather root
};

struct PhaseTimes {
    double seconds = 0;
    std::vector<TimeUses> ranks;  // each adds up to `seconds`

    double share(TimeUse use) const;  // of all ranks' time, of 1
    std::size_t idleRanks() const;    // that do nothing but wait
};

/// Phases that the job does not have are empty.
struct JobTimes {
    std::optional<PhaseTimes> prepare, calibrate, merge;

    double seconds() const;
};

/// What is read comes from storage each time, nothing from the memory that an earlier phase left it in. A method with a
/// prepare pass reads its inputs once more than is reckoned here. @pre the plan has at most as many ranks as the machine
JobTimes simulate(const SimulatedJob& job);

/// Lines below the plan's table.
std::string timesTable(const JobTimes& times, const Machine& machine);

/// [{"phase": "calibrate", "seconds": 3.1, "idle_ranks": 0, "shares": {"reading": 0.6, ...}}, ...]
nlohmann::ordered_json timesJson(const JobTimes& times);

}  // namespace aimerge

#pragma once
// What a rank hands to rank 0 when its stage is done, as bytes. Sums travel once per input, however many modules share it.

#include "aimerge/statistics/statistics.h"
#include "calibration/statistics_observer.h"

#include <string>

namespace aimerge {

struct StageReport {
    StageRecord record;
    SumsByInput sums;

    std::string toBytes() const;
    static StageReport fromBytes(const std::string& bytes);
};

}  // namespace aimerge

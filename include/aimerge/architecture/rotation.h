#pragma once
// How queries and keys are rotated by their positions.

#include <cstdint>
#include <string>
#include <vector>

namespace aimerge {

/// rope_scaling or rope_parameters, without what is the same for all types. 0: not given.
struct RopeScaling {
    std::string type = "default";  // rope_type, or type
    double factor = 0;
    double lowFrequencyFactor = 0, highFrequencyFactor = 0;  // of "llama3"
    std::int64_t originalPositions = 0;             // of "llama3", "yarn", "longrope": original_max_position_embeddings
    double betaFast = 32, betaSlow = 1;             // of "yarn"
    double attentionFactor = 0;                     // of "yarn" and "longrope"; 0: not given
    double mscale = 0, mscaleAllDim = 0;            // of "yarn"; 0: not given
    bool truncate = true;                           // of "yarn"
    std::vector<double> shortFactors, longFactors;  // of "longrope"
    double rotatedShare = 1;                        // partial_rotary_factor

    bool operator==(const RopeScaling&) const = default;
};

/// One table of angles.
struct Rotation {
    double theta = 10000;
    RopeScaling scaling;
    std::int64_t headDim = 0, maxPositions = 0;
    bool isInterleaved = false;  // pairs are channels (2i, 2i + 1), else (i, i + half)
};

}  // namespace aimerge

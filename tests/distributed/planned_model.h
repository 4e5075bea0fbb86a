#pragma once
// Models without weights, and settings to plan them with.

#include "aimerge/distributed/plan.h"

#include "distributed/llama_headers.h"
#include "support/temp_folder.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <spdlog/sinks/ostream_sink.h>
#include <spdlog/spdlog.h>

#include <memory>
#include <optional>
#include <sstream>
#include <string>
#include <vector>

namespace aimerge {

struct Model {
    explicit Model(const LlamaShape& shape, std::uint64_t maxShardBytes = 10'000'000'000)
        : output(llamaTensors(shape, Dtype::BF16)) {
        writeHeadersOnly(folder.path(), shape, Dtype::BF16, maxShardBytes);
        base.emplace(Checkpoint::open(folder.path().string()));
    }

    TempFolder folder;
    std::optional<Checkpoint> base;
    std::vector<OutputTensor> output;
};

/// Collects what is logged while it lives.
class CollectedLog {
public:
    CollectedLog() : before_(spdlog::default_logger()) {
        spdlog::set_default_logger(
            std::make_shared<spdlog::logger>("test", std::make_shared<spdlog::sinks::ostream_sink_st>(text_)));
        spdlog::set_pattern("%l: %v");
    }
    ~CollectedLog() { spdlog::set_default_logger(before_); }
    std::string text() const { return text_.str(); }

private:
    std::ostringstream text_;
    std::shared_ptr<spdlog::logger> before_;
};

inline LlamaShape smallShape(std::int64_t layers) {
    return {64, layers, 4, 2, 128, 512, true};
}

inline PlanSettings mergeSettings(int ranks) {
    PlanSettings settings;
    settings.ranks = ranks;
    settings.inputs = 4;
    settings.mergeBytesPerThread = 50'000'000;
    return settings;
}

inline PlanSettings calibratedSettings(int ranks, std::int64_t blocks = 256, std::int64_t blockLength = 2048) {
    PlanSettings settings = mergeSettings(ranks);
    settings.blocks = blocks;
    settings.blockLength = blockLength;
    return settings;
}

/// Layers lie in order without holes, the first rank has the embedding, the last one with layers the head, and every output
/// tensor has one owner.
inline void expectSound(const Plan& plan, std::int64_t layers, const std::vector<OutputTensor>& output) {
    std::int64_t next = 0;
    std::size_t lastActive = 0;
    std::vector<std::string> owned;
    for (std::size_t r = 0; r < plan.ranks.size(); ++r) {
        const RankPlan& rank = plan.ranks[r];
        EXPECT_EQ(rank.firstLayer, next);
        EXPECT_GE(rank.endLayer, rank.firstLayer);
        if (rank.endLayer > rank.firstLayer) lastActive = r;
        next = rank.endLayer;
        owned.insert(owned.end(), rank.tensors.begin(), rank.tensors.end());
    }
    EXPECT_EQ(next, layers);
    for (std::size_t r = 0; r < plan.ranks.size(); ++r) {
        EXPECT_EQ(plan.ranks[r].embedding, r == 0);
        EXPECT_EQ(plan.ranks[r].head, r == lastActive);
    }
    std::vector<std::string> names;
    for (const OutputTensor& tensor : output) names.push_back(tensor.name);
    EXPECT_THAT(owned, testing::UnorderedElementsAreArray(names));
}

}  // namespace aimerge

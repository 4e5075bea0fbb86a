#include "aimerge/merge/expert_statistics.h"
#include "aimerge/core/error.h"
#include "merge/memory_parameter.h"
#include "support/expect_error.h"
#include "support/safetensors_builder.h"
#include "support/temp_folder.h"

#include <gmock/gmock.h>

namespace aimerge {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

std::string bytesOf(const Floats& values) {
    return {reinterpret_cast<const char*>(values.data()), values.size() * sizeof(float)};
}

class StatisticsFolder : public testing::Test {
protected:
    StatisticsFolder() {
        SafetensorsBuilder()
            .add("model.layers.0.self_attn.q_proj.gram", "F32", {2, 2}, bytesOf({1, 2, 3, 4}))
            .add("model.layers.0.mlp.gate_proj.gram", "F32", {1, 1}, bytesOf({5}))
            .write(folder_ / "layer-00000.safetensors");
        SafetensorsBuilder().add("model.norm.weight", "F32", {2}, bytesOf({6, 7})).write(folder_ / "other.safetensors");
        writeBytes(folder_ / "note.txt", "no tensors");
    }
    ExpertStatistics open() const { return ExpertStatistics::open(folder_.path(), "expert_a"); }

    TempFolder folder_;
};

TEST_F(StatisticsFolder, HasTheGramOfAMeasuredModule) {
    const ExpertStatistics statistics = open();

    const auto gram = statistics.gramOf("model.layers.0.self_attn.q_proj", {7, 2});
    ASSERT_TRUE(gram);
    EXPECT_THAT(valuesOf(*gram, 1, 2), ElementsAre(2, 3));
    EXPECT_THAT(valuesOf(*statistics.gramOf("model.layers.0.mlp.gate_proj", {3, 1}), 0, 1), ElementsAre(5));
}

TEST_F(StatisticsFolder, HasNoGramForWhatIsNoMeasuredLayer) {
    const ExpertStatistics statistics = open();

    EXPECT_FALSE(statistics.gramOf("model.layers.0.self_attn.o_proj", {2, 2}));
    EXPECT_FALSE(statistics.gramOf("model.layers.0.self_attn.q_proj", {2}));
    EXPECT_FALSE(statistics.gramOf("model.embed_tokens", {9, 2}));
}

TEST_F(StatisticsFolder, ASourceOutlivesTheObject) {
    const auto source = open().elementsOf("model.norm.weight", {2});

    EXPECT_THAT(valuesOf(*source, 0, 2), ElementsAre(6, 7));
    EXPECT_THAT(source->origin(), HasSubstr("expert_a"));
}

TEST_F(StatisticsFolder, RefusesAnotherSizeAndAnUnknownParameter) {
    const ExpertStatistics statistics = open();

    EXPECT_THAT(messageOf<InputError>([&] {
                    statistics.gramOf("model.layers.0.self_attn.q_proj", {2, 3});
                }),
                HasSubstr("q_proj.gram is F32 [2, 2], expected F32 [3, 3]"));
    EXPECT_THAT(messageOf<InputError>([&] { statistics.elementsOf("model.norm.weight", {3}); }),
                HasSubstr("model.norm.weight is F32 [2], expected F32 [3]"));
    EXPECT_THAT(messageOf<InputError>([&] { statistics.elementsOf("model.extra.weight", {2}); }),
                HasSubstr("expert_a: model.extra.weight"));
}

TEST(ExpertStatistics, RefusesAnEmptyOrAbsentFolder) {
    const TempFolder folder;

    for (const auto& path : {folder.path(), folder / "absent"})
        EXPECT_THAT(messageOf<InputError>([&] { ExpertStatistics::open(path, "expert_a"); }),
                    HasSubstr("holds no statistics of expert_a"));
}

}  // namespace
}  // namespace aimerge

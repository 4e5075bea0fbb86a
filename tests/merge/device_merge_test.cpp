// The executor on a GPU has the bytes of the executor on the CPU.

#include "aimerge/core/error.h"
#include "merge/method_jobs.h"
#include "support/test_device.h"

#include <gmock/gmock.h>

#include <limits>

namespace aimerge {
namespace {

using Bytes = std::vector<std::byte>;

std::vector<Bytes> merged(const TensorMerge& merge, const std::vector<std::optional<double>>& omegas, DeltaRounding rounding,
                          const Device& device) {
    ThreadPool pool(3);
    MemorySink sink;
    mergeTensors({&merge, 1}, omegas, rounding, pool, sink, device);
    std::vector<Bytes> points;
    for (std::size_t point = 0; point < std::max<std::size_t>(omegas.size(), 1); ++point)
        points.push_back(sink.bytes(0, point));
    return points;
}

class DeviceMerge : public testing::TestWithParam<std::string> {};
INSTANTIATE_TEST_SUITE_P(, DeviceMerge, testing::ValuesIn(allMethodNames()), [](const auto& test) { return test.param; });

TEST_P(DeviceMerge, HasTheBytesOfTheProcessors) {
    // The matrix has several blocks of the executor.
    for (const Shape& shape : {Shape{1}, Shape{37, 53}, Shape{1100, 2048}}) {
        if (elementCount(shape) > 100000 && findMethod(GetParam(), {}).info().needs != ExpertStatistic::None) continue;
        const MethodJob job(findMethod(GetParam(), {}), shape);
        for (const Dtype dtype : {Dtype::F32, Dtype::BF16}) {
            TensorMerge merge = job.merge(dtype);
            EXPECT_TRUE(merged(merge, {}, DeltaRounding::None, testDevice()) == merged(merge, {}, DeltaRounding::None, {}))
                << shapeText(shape);
            merge.importance.emplace();
            merge.importance->layout = ChannelLayout::of(shape, -1);
            for (std::int64_t c = 0; c < shape.back(); ++c)
                merge.importance->values.push_back(static_cast<float>(c) / static_cast<float>(shape.back()));
            const std::vector<std::optional<double>> omegas{std::nullopt, 0.4, 0.0};
            for (const DeltaRounding rounding : {DeltaRounding::None, DeltaRounding::Bfloat16})
                EXPECT_TRUE(merged(merge, omegas, rounding, testDevice()) == merged(merge, omegas, rounding, {}))
                    << shapeText(shape);
        }
    }
}

TEST(DeviceMergeOfBadValues, NamesThem) {
    MethodJob job(findMethod("task_arithmetic", {}), {40, 50});
    job.inputs[1][777] = std::numeric_limits<float>::quiet_NaN();
    try {
        merged(job.merge(), {}, DeltaRounding::None, testDevice());
        FAIL() << "no exception";
    } catch (const InputError& error) {
        EXPECT_THAT(error.what(), testing::HasSubstr("expert_1: weight is nan at element 777"));
    }
}

}  // namespace
}  // namespace aimerge

// Sums on a GPU have the bits of the CPU's.

#include "calibration/device_sums.h"
#include "support/test_device.h"

#include <gtest/gtest.h>

#include <ATen/ATen.h>

#include <limits>

namespace aimerge {
namespace {

ChannelSums onProcessors(const at::Tensor& rows, int times) {
    const std::int64_t channels = rows.size(-1);
    ChannelSums sums(channels);
    for (int i = 0; i < times; ++i)
        for (std::int64_t strip = 0; strip < (channels + kStripChannels - 1) / kStripChannels; ++strip) {
            if (rows.scalar_type() == at::kFloat)
                addStrip(rows.const_data_ptr<float>(), rows.size(0), strip, sums);
            else
                addStrip(static_cast<const Bf16Bits*>(rows.const_data_ptr()), rows.size(0), strip, sums);
        }
    return sums;
}

TEST(DeviceSums, HaveTheBitsOfTheProcessors) {
    const at::Device gpu(at::kCUDA, static_cast<at::DeviceIndex>(testDevice().gpu));
    for (const at::ScalarType type : {at::kFloat, at::kBFloat16}) {
        for (const auto& [rows, channels] : {std::pair{1, 1}, {31, 33}, {32, 128}, {77, 129}, {300, 576}}) {
            const at::Tensor values = at::randn({rows, channels}, at::kFloat).to(type);
            DeviceChannelSums sums(channels);
            DeviceSummation summation;
            const at::Tensor copy = values.to(gpu);
            for (int i = 0; i < 2; ++i) summation.add(copy, sums, 0);
            summation.wait();

            const ChannelSums found = sums.download(), expected = onProcessors(values, 2);

            EXPECT_EQ(found.sumAbs, expected.sumAbs);
            EXPECT_EQ(found.sumSquares, expected.sumSquares);
            EXPECT_EQ(found.maxAbs, expected.maxAbs);
            EXPECT_EQ(found.rows, 2 * rows);
            EXPECT_EQ(summation.firstBad(), DeviceSummation::kNothing);
        }
    }
}

TEST(DeviceSums, RememberTheFirstPlaceThatIsNotFinite) {
    const at::Device gpu(at::kCUDA, static_cast<at::DeviceIndex>(testDevice().gpu));
    const at::Tensor good = at::ones({40, 5}, at::kFloat).to(gpu);
    at::Tensor bad = at::ones({40, 5}, at::kFloat);
    bad[33][4] = std::numeric_limits<float>::infinity();
    DeviceChannelSums sums(5);
    DeviceSummation summation;

    summation.add(good, sums, 3);
    summation.add(bad.to(gpu), sums, 7);
    summation.add(good, sums, 9);
    summation.wait();

    EXPECT_EQ(summation.firstBad(), 7u);
}

}  // namespace
}  // namespace aimerge

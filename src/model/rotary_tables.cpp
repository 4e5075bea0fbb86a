#include "model/rotary_tables.h"

#include "aimerge/core/error.h"
#include "model/over_rows.h"
#include "model/row_kernels.h"
#if AIMERGE_HAS_CUDA
#include "model/device_rows.h"
#endif

#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>
#include <numbers>
#include <utility>

namespace aimerge {
namespace {

/// Channels of a head that are rotated: d.
std::int64_t rotatedDim(const Rotation& rotation) {
    return static_cast<std::int64_t>(static_cast<double>(rotation.headDim) * rotation.scaling.rotatedShare);
}

/// theta^(2i / d) for i = 0 ... d / 2 - 1.
at::Tensor powers(const Rotation& rotation) {
    const std::int64_t dim = rotatedDim(rotation);
    const at::Tensor exponents = at::arange(0, dim, 2, at::kFloat) / static_cast<double>(dim);
    return at::pow(rotation.theta, exponents);
}

/// Wavelengths beyond original / low are stretched by the factor, those below original / high stay, and between them the two
/// are mixed.
at::Tensor llama3(const RopeScaling& rope, const at::Tensor& frequencies) {
    const auto original = static_cast<double>(rope.originalPositions);
    const double longest = original / rope.lowFrequencyFactor, shortest = original / rope.highFrequencyFactor;
    const at::Tensor wavelengths = 2 * std::numbers::pi / frequencies;
    const at::Tensor stretched = at::where(wavelengths > longest, frequencies / rope.factor, frequencies);
    const at::Tensor share =
        (original / wavelengths - rope.lowFrequencyFactor) / (rope.highFrequencyFactor - rope.lowFrequencyFactor);
    const at::Tensor mixed = (1 - share) * stretched / rope.factor + share * stretched;
    const at::Tensor isBetween = at::logical_not(wavelengths < shortest) * at::logical_not(wavelengths > longest);
    return at::where(isBetween, mixed, stretched);
}

/// YaRN: Peng et al. 2023, arXiv 2309.00071, Eq. 23. Dimensions that turn more than betaFast times within the original
/// length stay, those that turn less than betaSlow times are stretched, and between them the two are mixed linearly.
at::Tensor yarn(const Rotation& rotation) {
    const RopeScaling& rope = rotation.scaling;
    const auto size = static_cast<double>(rotatedDim(rotation));
    const auto dimensionOf = [&](double rotations) {
        return size * std::log(static_cast<double>(rope.originalPositions) / (rotations * 2 * std::numbers::pi)) /
               (2 * std::log(rotation.theta));
    };
    double low = dimensionOf(rope.betaFast), high = dimensionOf(rope.betaSlow);
    if (rope.truncate) low = std::floor(low), high = std::ceil(high);
    low = std::max(low, 0.0);
    high = std::min(high, size - 1);
    if (low == high) high += 0.001;
    const at::Tensor stays = 1 - at::clamp((at::arange(rotatedDim(rotation) / 2, at::kFloat) - low) / (high - low), 0, 1);
    const at::Tensor positions = powers(rotation);
    return 1.0 / (rope.factor * positions) * (1 - stays) + 1.0 / positions * stays;
}

/// LongRoPE: Ding et al. 2024, arXiv 2402.13753. A factor for every frequency, of two lists one: for sequences up to the
/// original length, and for longer ones.
at::Tensor longrope(const Rotation& rotation, std::int64_t maxLength) {
    const RopeScaling& rope = rotation.scaling;
    const std::vector<double>& factors = maxLength > rope.originalPositions ? rope.longFactors : rope.shortFactors;
    return 1.0 / (at::tensor(factors, at::kFloat) * powers(rotation));
}

double longropeAttentionFactor(const Rotation& rotation) {
    const RopeScaling& rope = rotation.scaling;
    const auto original = static_cast<double>(rope.originalPositions);
    const double factor = rope.factor > 0 ? rope.factor : static_cast<double>(rotation.maxPositions) / original;
    return factor <= 1 ? 1 : std::sqrt(1 + std::log(factor) / std::log(original));
}

/// What cosines and sines are multiplied by.
double attentionFactor(const Rotation& rotation) {
    const RopeScaling& rope = rotation.scaling;
    if (rope.type != "yarn" && rope.type != "longrope") return 1;
    if (rope.attentionFactor > 0) return rope.attentionFactor;
    if (rope.type == "longrope") return longropeAttentionFactor(rotation);
    const auto scale = [&](double weight) { return rope.factor <= 1 ? 1 : 0.1 * weight * std::log(rope.factor) + 1; };
    return rope.mscale > 0 && rope.mscaleAllDim > 0 ? scale(rope.mscale) / scale(rope.mscaleAllDim) : scale(1);
}

/// @throws InputError naming the field that the type needs and config.json has not
void requireFields(const Rotation& rotation, const std::string& model) {
    const RopeScaling& rope = rotation.scaling;
    const auto require = [&](const char* field, bool isGiven) {
        if (!isGiven)
            throw InputError("{}: config.json: {} is missing, which rope_type \"{}\" needs", model, field, rope.type);
    };
    if (rope.type == "linear" || rope.type == "dynamic" || rope.type == "llama3" || rope.type == "yarn")
        require("factor", rope.factor > 0);
    if (rope.type == "llama3" || rope.type == "yarn" || rope.type == "longrope")
        require("original_max_position_embeddings", rope.originalPositions > 0);
    if (rope.type == "longrope") {
        const auto frequencies = static_cast<std::size_t>(rotatedDim(rotation) / 2);
        for (const auto& [field, factors] :
             {std::pair{"short_factor", &rope.shortFactors}, std::pair{"long_factor", &rope.longFactors}}) {
            require(field, !factors->empty());
            if (factors->size() != frequencies)
                throw InputError(
                    "{}: config.json: {} has {} numbers, expected {}, one for every two of the rotated channels", model,
                    field, factors->size(), frequencies);
        }
    }
    if (rope.type != "llama3") return;
    require("low_freq_factor", rope.lowFrequencyFactor > 0);
    require("high_freq_factor", rope.highFrequencyFactor > rope.lowFrequencyFactor);
}

/// @throws InputError
void requireRotatedPart(const Rotation& rotation, const std::string& model) {
    const double share = rotation.scaling.rotatedShare;
    const std::int64_t dim = rotatedDim(rotation);
    if (share > 1 || dim < 2 || dim % 2 != 0)
        throw InputError(
            "{}: config.json: partial_rotary_factor {} of {} channels per head is {}; expected an even number from 2 on",
            model, share, rotation.headDim, dim);
}

at::Tensor frequenciesOf(const Rotation& rotation, std::int64_t maxLength, const std::string& model) {
    const RopeScaling& rope = rotation.scaling;
    requireRotatedPart(rotation, model);
    requireFields(rotation, model);
    const at::Tensor frequencies = at::reciprocal(powers(rotation));
    if (rope.type == "default" || rope.type == "dynamic") return frequencies;
    if (rope.type == "linear") return frequencies / rope.factor;
    if (rope.type == "llama3") return llama3(rope, frequencies);
    if (rope.type == "yarn") return yarn(rotation);
    if (rope.type == "longrope") return longrope(rotation, maxLength);
    throw InputError(
        "{}: config.json: rope_type is \"{}\"; the decoder runs default, linear, dynamic, llama3, yarn and longrope", model,
        rope.type);
}

template <typename Element>
void rotateTensor(at::Tensor& x, const kernels::Rotation& rotation) {
    const std::int64_t width = rotation.heads * rotation.headDim;
    auto* rows = static_cast<Element*>(x.data_ptr());
    overRows(x.numel() / width, width,
             [&](std::int64_t first, std::int64_t count) { kernels::rotate(rows + first * width, first, count, rotation); });
}

void rotateBy(at::Tensor& x, const RotaryTables& tables, const at::Tensor& sines, std::int64_t heads) {
    const kernels::Rotation rotation{tables.cosines.const_data_ptr<float>(),
                                     sines.const_data_ptr<float>(),
                                     x.size(1),
                                     heads,
                                     x.size(2) / heads,
                                     tables.cosines.size(1),
                                     tables.isInterleaved};
#if AIMERGE_HAS_CUDA
    if (x.is_cuda()) return rotateOnDevice(x, rotation);
#endif
    if (x.scalar_type() == at::kFloat) {
        rotateTensor<float>(x, rotation);
    } else {
        rotateTensor<kernels::Bf16>(x, rotation);
    }
}

}  // namespace

RotaryTables makeRotaryTables(const Rotation& rotation, std::int64_t maxLength, at::ScalarType computeType,
                              at::Device device, const std::string& model) {
    const at::Tensor angles = at::outer(at::arange(maxLength, at::kFloat), frequenciesOf(rotation, maxLength, model));
    const double factor = attentionFactor(rotation);
    const auto rounded = [&](const at::Tensor& table) {
        return (table * factor).to(computeType).to(at::kFloat).contiguous();
    };
    return {rounded(angles.cos()).to(device), rounded(angles.sin()).to(device), rotation.isInterleaved};
}

void rotate(at::Tensor& x, const RotaryTables& tables, std::int64_t heads) {
    rotateBy(x, tables, tables.sines, heads);
}

void rotateBack(at::Tensor& gradient, const RotaryTables& tables, std::int64_t heads) {
    rotateBy(gradient, tables, tables.sines.neg(), heads);
}

}  // namespace aimerge

#include "model/rotary_tables.h"

#include "aimerge/core/error.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>
#include <numbers>
#include <utility>

namespace aimerge {
namespace {

/// Channels of a head that are rotated: d.
std::int64_t rotatedDim(const ModelConfig& config) {
    return static_cast<std::int64_t>(static_cast<double>(config.headDim) * config.rope.rotatedShare);
}

/// theta^(2i / d) for i = 0 ... d / 2 - 1.
at::Tensor powers(const ModelConfig& config) {
    const std::int64_t dim = rotatedDim(config);
    const at::Tensor exponents = at::arange(0, dim, 2, at::kFloat) / static_cast<double>(dim);
    return at::pow(config.ropeTheta, exponents);
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
at::Tensor yarn(const ModelConfig& config) {
    const RopeScaling& rope = config.rope;
    const auto size = static_cast<double>(rotatedDim(config));
    const auto dimensionOf = [&](double rotations) {
        return size * std::log(static_cast<double>(rope.originalPositions) / (rotations * 2 * std::numbers::pi)) /
               (2 * std::log(config.ropeTheta));
    };
    double low = dimensionOf(rope.betaFast), high = dimensionOf(rope.betaSlow);
    if (rope.truncate) low = std::floor(low), high = std::ceil(high);
    low = std::max(low, 0.0);
    high = std::min(high, size - 1);
    if (low == high) high += 0.001;
    const at::Tensor stays = 1 - at::clamp((at::arange(rotatedDim(config) / 2, at::kFloat) - low) / (high - low), 0, 1);
    const at::Tensor positions = powers(config);
    return 1.0 / (rope.factor * positions) * (1 - stays) + 1.0 / positions * stays;
}

/// LongRoPE: Ding et al. 2024, arXiv 2402.13753. A factor for every frequency, of two lists one: for sequences up to the
/// original length, and for longer ones.
at::Tensor longrope(const ModelConfig& config, std::int64_t maxLength) {
    const RopeScaling& rope = config.rope;
    const std::vector<double>& factors = maxLength > rope.originalPositions ? rope.longFactors : rope.shortFactors;
    return 1.0 / (at::tensor(factors, at::kFloat) * powers(config));
}

double longropeAttentionFactor(const ModelConfig& config) {
    const RopeScaling& rope = config.rope;
    const auto original = static_cast<double>(rope.originalPositions);
    const double factor = rope.factor > 0 ? rope.factor : static_cast<double>(config.maxPositions) / original;
    return factor <= 1 ? 1 : std::sqrt(1 + std::log(factor) / std::log(original));
}

/// What cosines and sines are multiplied by.
double attentionFactor(const ModelConfig& config) {
    const RopeScaling& rope = config.rope;
    if (rope.type != "yarn" && rope.type != "longrope") return 1;
    if (rope.attentionFactor > 0) return rope.attentionFactor;
    if (rope.type == "longrope") return longropeAttentionFactor(config);
    const auto scale = [&](double weight) { return rope.factor <= 1 ? 1 : 0.1 * weight * std::log(rope.factor) + 1; };
    return rope.mscale > 0 && rope.mscaleAllDim > 0 ? scale(rope.mscale) / scale(rope.mscaleAllDim) : scale(1);
}

/// @throws InputError naming the field that the type needs and config.json has not
void requireFields(const ModelConfig& config, const std::string& model) {
    const RopeScaling& rope = config.rope;
    const auto require = [&](const char* field, bool isGiven) {
        if (!isGiven)
            throw InputError("{}: config.json: {} is missing, which rope_type \"{}\" needs", model, field, rope.type);
    };
    if (rope.type == "linear" || rope.type == "dynamic" || rope.type == "llama3" || rope.type == "yarn")
        require("factor", rope.factor > 0);
    if (rope.type == "llama3" || rope.type == "yarn" || rope.type == "longrope")
        require("original_max_position_embeddings", rope.originalPositions > 0);
    if (rope.type == "longrope") {
        const auto frequencies = static_cast<std::size_t>(rotatedDim(config) / 2);
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

/// @throws InputError when a part of every head is rotated that the decoder does not run
void requireRotatedPart(const ModelConfig& config, const std::string& model) {
    const double share = config.rope.rotatedShare;
    if (share != 1 && config.modelType != "phi3")
        throw InputError("{}: config.json: partial_rotary_factor is {}; the decoder runs 1 only, but for phi3", model,
                         share);
    const std::int64_t dim = rotatedDim(config);
    if (share > 1 || dim < 2 || dim % 2 != 0)
        throw InputError(
            "{}: config.json: partial_rotary_factor {} of {} channels per head is {}; expected an even number from 2 on",
            model, share, config.headDim, dim);
}

at::Tensor frequenciesOf(const ModelConfig& config, std::int64_t maxLength, const std::string& model) {
    const RopeScaling& rope = config.rope;
    requireRotatedPart(config, model);
    requireFields(config, model);
    const at::Tensor frequencies = at::reciprocal(powers(config));
    if (rope.type == "default" || rope.type == "dynamic") return frequencies;
    if (rope.type == "linear") return frequencies / rope.factor;
    if (rope.type == "llama3") return llama3(rope, frequencies);
    if (rope.type == "yarn") return yarn(config);
    if (rope.type == "longrope") return longrope(config, maxLength);
    throw InputError(
        "{}: config.json: rope_type is \"{}\"; the decoder runs default, linear, dynamic, llama3, yarn and longrope", model,
        rope.type);
}

}  // namespace

RotaryTables makeRotaryTables(const ModelConfig& config, std::int64_t maxLength, at::ScalarType computeType,
                              const std::string& model) {
    const at::Tensor angles = at::outer(at::arange(maxLength, at::kFloat), frequenciesOf(config, maxLength, model));
    const double factor = attentionFactor(config);
    const auto rounded = [&](const at::Tensor& table) {
        return (table * factor).to(computeType).to(at::kFloat).contiguous();
    };
    return {rounded(angles.cos()), rounded(angles.sin())};
}

}  // namespace aimerge

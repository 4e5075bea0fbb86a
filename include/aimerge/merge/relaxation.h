#pragma once
// Activation-Informed Merging (Nobari et al. 2025, arXiv 2502.02421), Eq. 4: the change of a merge is held back on the input
// channels that are most active in the base model.
//
//     theta = theta_base + (1 - A (1 - omega)) (theta_merged - theta_base)
//
// A in [0, 1] per input channel: the last axis of a matrix [out_features, in_features], the elements of a norm vector.

#include "aimerge/safetensors/safetensors.h"
#include "aimerge/config/merge_config.h"
#include "aimerge/merge/relax_element.h"
#include "aimerge/statistics/statistics.h"

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

namespace aimerge {

/// The module whose statistic says how a tensor is relaxed, or none when it keeps its merged values.
std::string relaxedModule(const std::string& tensor, const Shape& shape, const AimConfig& aim,
                          const StatisticsByModule& statistics, bool headIsWritten);

/// A of one output tensor, or nullopt when the tensor keeps its merged values. Relaxed are the weights of linear layers, of
/// norms (AimScope::Code) and of an lm_head of its own; never embeddings and biases, but for an embedding that is tied to
/// the head under relaxTiedHead, which takes the head's statistic.
/// @param headIsWritten the output has an lm_head.weight
/// @return float32, one value per element of the tensor's last axis
/// @throws InputError naming module and tensor: no statistics for a weight that is to be relaxed, or of another length
std::optional<std::vector<float>> importanceOf(const std::string& tensor, const Shape& shape, const AimConfig& aim,
                                               const StatisticsByModule& statistics, bool headIsWritten);

/// The relaxation of one tensor for one omega.
class Relaxation {
public:
    /// @pre importance in [0, 1], 0 <= omega <= 1
    Relaxation(std::span<const float> importance, double omega, DeltaRounding rounding);

    /// A relaxation by importances of single elements.
    Relaxation(double omega, DeltaRounding rounding);

    /// One factor for every channel, of any size.
    static Relaxation uniform(float factor, std::size_t channels, DeltaRounding rounding);

    /// The same with A of each element. @pre made for single elements
    void applyElements(std::span<const float> base, std::span<const float> merged, std::span<const float> importance,
                       std::span<float> out) const;

    /// Elements [first, first + out.size()) of the tensor. A channel whose factor is 1 keeps theta_merged and one whose
    /// factor is 0 takes theta_base, bit for bit. `out` may be `merged`.
    void apply(std::int64_t first, std::span<const float> base, std::span<const float> merged, std::span<float> out) const;

    /// 1 - A (1 - omega) per channel.
    std::span<const float> factors() const { return factors_; }

private:
    std::vector<float> factors_;
    float restraint_;
    DeltaRounding rounding_;
};

}  // namespace aimerge

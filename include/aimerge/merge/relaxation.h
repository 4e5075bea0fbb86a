#pragma once
// Activation-Informed Merging (Nobari et al. 2025, arXiv 2502.02421), Eq. 4: the change of a merge is held back on the input
// channels that are most active in the base model.
//
//     theta = theta_base + (1 - A (1 - omega)) (theta_merged - theta_base)
//
// A in [0, 1] per input channel: the last axis of a matrix [out_features, in_features], the elements of a norm vector. Of a
// tensor that holds several matrices, each has channels of its own.

#include "aimerge/architecture/architecture.h"
#include "aimerge/config/merge_config.h"
#include "aimerge/merge/relax_element.h"
#include "aimerge/safetensors/safetensors.h"
#include "aimerge/statistics/statistics.h"

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

namespace aimerge {

/// Where the input channels of a tensor lie.
struct ChannelLayout {
    std::int64_t channels = 0;  // of one matrix
    std::int64_t stride = 1;    // elements from a channel to the next: 1 along the last axis, more along another
    std::int64_t matrices = 1;  // one after another, of matrixElements each
    std::int64_t matrixElements = 0;

    /// The layout of one matrix, or of a vector. @param inputAxis -1 or -2
    static ChannelLayout of(const Shape& shape, int inputAxis);

    std::size_t values() const { return static_cast<std::size_t>(matrices * channels); }

    /// One matrix whose channels are its last axis.
    bool isPlain() const { return matrices == 1 && stride == 1; }

    /// Which of values() is an element's.
    std::size_t indexOf(std::int64_t element) const {
        const std::int64_t matrix = matrices == 1 ? 0 : element / matrixElements;
        return static_cast<std::size_t>(matrix * channels + element / stride % channels);
    }
    bool operator==(const ChannelLayout&) const = default;
};

/// A of one tensor.
struct ChannelImportance {
    std::vector<float> values;  // [matrices, channels]
    ChannelLayout layout;
};

/// How AIM treats a tensor, and why.
enum class Treatment {
    Relaxed,
    OfAnotherKind,  // keeps its merged values as others of its role do: embeddings, biases, norms under
                    // AimScope::Linear, ...
    Unmeasured      // would be relaxed, but the statistics do not have its module
};

struct RelaxedBy {
    Treatment treatment = Treatment::OfAnotherKind;
    std::string module;  // whose statistic says how, unless the tensor is of another kind
};

/// Relaxed are the weights of linear layers, routers, experts, norms (AimScope::Code) and a head of its own; never
/// embeddings, convolutions and biases, but for an embedding that is tied to the head under relaxTiedHead, which takes the
/// head's statistic.
/// @param tensor as the base calls it @param headIsWritten the output has a head of its own
RelaxedBy relaxedBy(const Architecture& architecture, const std::string& tensor, const Shape& shape, const AimConfig& aim,
                    const StatisticsByModule& statistics, bool headIsWritten);

/// @param statistics of `module`, by which the tensor is relaxed
/// @throws InputError naming module and tensor: statistics of another length, along another axis, of another form of experts
void requireStatisticOf(const Architecture& architecture, const std::string& tensor, const Shape& shape,
                        const std::string& module, const ModuleStatistics& statistics);

/// A of one output tensor, or nullopt when the tensor keeps its merged values. The experts of a mixture have A of their own:
/// docs/methods.md has the rule for those to which few tokens came.
/// @param shape of the tensor @throws InputError naming module and tensor: statistics of another
/// length, or along another axis
std::optional<ChannelImportance> importanceOf(const Architecture& architecture, const std::string& tensor,
                                              const Shape& shape, const AimConfig& aim, const StatisticsByModule& statistics,
                                              bool headIsWritten);

/// The relaxation of one tensor for one omega.
class Relaxation {
public:
    /// @pre importance in [0, 1], 0 <= omega <= 1
    Relaxation(const ChannelImportance& importance, double omega, DeltaRounding rounding);

    /// A relaxation by importances of single elements.
    Relaxation(double omega, DeltaRounding rounding);

    /// One factor for all channels of each matrix, of any size.
    static Relaxation uniform(std::span<const float> ofMatrices, const ChannelLayout& layout, DeltaRounding rounding);

    /// As apply(), with A of each element. @pre made for single elements
    void applyElements(std::span<const float> base, std::span<const float> merged, std::span<const float> importance,
                       std::span<float> out) const;

    /// Elements [first, first + out.size()) of the tensor. A channel whose factor is 1 keeps theta_merged and one whose
    /// factor is 0 takes theta_base, bit for bit. `out` may be `merged`.
    void apply(std::int64_t first, std::span<const float> base, std::span<const float> merged, std::span<float> out) const;

    /// 1 - A (1 - omega) per channel, [matrices, channels].
    std::span<const float> factors() const { return factors_; }

private:
    std::vector<float> factors_;
    ChannelLayout layout_;
    float restraint_;
    DeltaRounding rounding_;
};

}  // namespace aimerge

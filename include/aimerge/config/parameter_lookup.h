#pragma once
// In which order the places of a config are asked for a merge parameter: the source's own `parameters` (parameters with one
// value per input only), then those of the slice, of the module, and the global ones. The first place with a matching filter
// wins; none matching is no value, and the method's default holds. Pure functions of the config.

#include "aimerge/config/merge_config.h"

#include <cstddef>
#include <optional>
#include <string_view>

namespace aimerge {

/// Where a tensor stands, as filters and gradients see it.
struct TensorPlace {
    std::string_view name;  // the output tensor's name for shared parameters, the input's for the others
    double depth = 0;       // depthOfLayer() within the slice
    std::size_t slice = 0;  // in MergeConfig::slices
};

/// layer / (layers - 1), both of the slice; 1 for the only layer; 0 for tensors outside the layers
/// (embeddings, final norm, lm_head).
/// @pre 0 <= layer < layers where there is a layer
double depthOfLayer(std::optional<int> layer, int layers);

/// The setting that decides, for its mark in error messages; nullptr when no place has one.
/// @param source index in the slice's sources whose own parameters are asked first; nullopt for shared parameters and for a
///        base that is no source
const ParameterSetting* findParameter(const MergeConfig& config, std::string_view parameter,
                                      std::optional<std::size_t> source, const TensorPlace& tensor);

/// @throws UsageError with the mark when the value that decides is no number / no boolean
std::optional<double> lookUpNumber(const MergeConfig& config, std::string_view parameter, std::optional<std::size_t> source,
                                   const TensorPlace& tensor);
/// For words: the element at floor(depth (k-1)), no interpolation; nullptr when no place has one.
const Scalar* lookUpScalar(const MergeConfig& config, std::string_view parameter, std::optional<std::size_t> source,
                           const TensorPlace& tensor);
std::optional<bool> lookUpBoolean(const MergeConfig& config, std::string_view parameter, std::optional<std::size_t> source,
                                  const TensorPlace& tensor);

}  // namespace aimerge

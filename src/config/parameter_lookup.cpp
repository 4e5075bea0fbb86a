#include "aimerge/config/parameter_lookup.h"

namespace aimerge {
namespace {

const ParameterSetting* settingIn(const ParameterMap& parameters, std::string_view parameter, std::string_view tensorName) {
    const auto found = parameters.find(std::string(parameter));
    return found == parameters.end() || found->second.conditionFor(tensorName) == nullptr ? nullptr : &found->second;
}

}  // namespace

double depthOfLayer(std::optional<int> layer, int layers) {
    if (!layer) return 0;
    return layers == 1 ? 1 : static_cast<double>(*layer) / (layers - 1);
}

const ParameterSetting* findParameter(const MergeConfig& config, std::string_view parameter,
                                      std::optional<std::size_t> source, const TensorPlace& tensor) {
    const Slice& slice = config.slices.at(tensor.slice);
    std::vector<const ParameterMap*> places{&slice.parameters};
    if (const auto ofModule = config.moduleParameters.find(slice.module); ofModule != config.moduleParameters.end())
        places.push_back(&ofModule->second);
    places.push_back(&config.parameters);
    if (source) places.insert(places.begin(), &slice.sources.at(*source).parameters);
    for (const ParameterMap* place : places)
        if (const ParameterSetting* setting = settingIn(*place, parameter, tensor.name)) return setting;
    return nullptr;
}

std::optional<double> lookUpNumber(const MergeConfig& config, std::string_view parameter, std::optional<std::size_t> source,
                                   const TensorPlace& tensor) {
    const ParameterSetting* setting = findParameter(config, parameter, source, tensor);
    return setting == nullptr ? std::nullopt : setting->number(tensor.name, tensor.depth);
}

const Scalar* lookUpScalar(const MergeConfig& config, std::string_view parameter, std::optional<std::size_t> source,
                           const TensorPlace& tensor) {
    const ParameterSetting* setting = findParameter(config, parameter, source, tensor);
    return setting == nullptr ? nullptr : setting->scalar(tensor.name, tensor.depth);
}

std::optional<bool> lookUpBoolean(const MergeConfig& config, std::string_view parameter, std::optional<std::size_t> source,
                                  const TensorPlace& tensor) {
    const ParameterSetting* setting = findParameter(config, parameter, source, tensor);
    return setting == nullptr ? std::nullopt : setting->boolean(tensor.name, tensor.depth);
}

}  // namespace aimerge

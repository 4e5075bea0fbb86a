#include "job/activity_map.h"

#include "aimerge/architecture/architecture.h"
#include "aimerge/core/python_json.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <limits>
#include <map>
#include <numeric>
#include <set>
#include <string_view>
#include <vector>

namespace aimerge {
namespace {

constexpr std::array<std::string_view, 9> kOrder{"input_layernorm",          "q_proj",    "k_proj",  "v_proj",   "o_proj",
                                                 "post_attention_layernorm", "gate_proj", "up_proj", "down_proj"};

double meanOf(const std::vector<float>& values) {
    if (values.empty()) return std::numeric_limits<double>::quiet_NaN();
    return std::accumulate(values.begin(), values.end(), 0.0) / static_cast<double>(values.size());
}

/// The architecture of the model that was measured, as far as config.json and the modules tell.
Architecture architectureOf(const StatisticsLog& log) {
    std::vector<TensorInfo> tensors;
    for (const auto& [module, statistics] : log.modules)
        tensors.push_back({module, Dtype::F32, {static_cast<std::int64_t>(statistics.channels())}, 0, {}});
    const auto config = log.origin.baseConfig.empty() ? nlohmann::ordered_json::object()
                                                      : parsePythonJson<nlohmann::ordered_json>(log.origin.baseConfig);
    return Architecture(config, tensors);
}

/// Position in a decoder layer; kinds that are not known come last, by name.
bool before(const std::string& a, const std::string& b) {
    const auto position = [](const std::string& kind) {
        return std::find(kOrder.begin(), kOrder.end(), kind) - kOrder.begin();
    };
    return position(a) != position(b) ? position(a) < position(b) : a < b;
}

}  // namespace

ActivityMap activityMap(const StatisticsLog& log, const std::string& name) {
    std::map<std::pair<int, std::string>, const ModuleStatistics*> modules;
    std::set<int> layers;
    std::set<std::string> kinds;
    const Architecture architecture = architectureOf(log);
    for (const auto& [module, statistics] : log.modules) {
        const Place place = architecture.placeOf(module);
        if (place.part != Part::Layer || place.stack != 0) continue;
        const int layer = static_cast<int>(place.layer);
        const std::string kind = module.substr(module.rfind('.') + 1);
        modules[{layer, kind}] = &statistics;
        layers.insert(layer);
        kinds.insert(kind);
    }
    ActivityMap map;
    map.source = fmt::format("{}: {}, {} tokens of {}", name, log.origin.baseModel, log.origin.tokens, log.origin.corpus);
    map.modules.assign(kinds.begin(), kinds.end());
    std::sort(map.modules.begin(), map.modules.end(), before);
    map.layers.assign(layers.begin(), layers.end());
    for (const int layer : map.layers) {
        std::vector<double>& meanAbs = map.meanAbs.emplace_back();
        std::vector<double>& meanImportance = map.meanImportance.emplace_back();
        for (const std::string& kind : map.modules) {
            const auto found = modules.find({layer, kind});
            const std::vector<float> statistic = found == modules.end() ? std::vector<float>{} : found->second->meanAbs;
            meanAbs.push_back(meanOf(statistic));
            meanImportance.push_back(meanOf(importance(statistic)));
        }
    }
    return map;
}

}  // namespace aimerge

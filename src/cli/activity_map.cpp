#include "cli/activity_map.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <limits>
#include <map>
#include <numeric>
#include <set>
#include <string_view>

namespace aimerge {
namespace {

constexpr std::string_view kLayers = "model.layers.";
constexpr std::array<std::string_view, 9> kOrder{"input_layernorm",          "q_proj",    "k_proj",  "v_proj",   "o_proj",
                                                 "post_attention_layernorm", "gate_proj", "up_proj", "down_proj"};

double meanOf(const std::vector<float>& values) {
    if (values.empty()) return std::numeric_limits<double>::quiet_NaN();
    return std::accumulate(values.begin(), values.end(), 0.0) / static_cast<double>(values.size());
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
    for (const auto& [module, statistics] : log.modules) {
        if (!module.starts_with(kLayers)) continue;
        int layer = 0;
        const char* begin = module.data() + kLayers.size();
        if (std::from_chars(begin, module.data() + module.size(), layer).ec != std::errc{}) continue;
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

#pragma once
// adapter_config.json: what it says about each module, in PEFT's rules for matching names.

#include "aimerge/checkpoint/adapter.h"

#include <nlohmann/json.hpp>

#include <cstdint>
#include <filesystem>
#include <optional>
#include <regex>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace aimerge {

class AdapterConfig {
public:
    /// @throws InputError naming file and key: a wrong type; a kind that changes no weight, or a setting under which no
    ///         weights are what the adapter does; what only PEFT merges (reasonForPeft)
    static AdapterConfig read(const std::filesystem::path& path);

    /// The key and value by which the adapter is of a kind that PEFT itself has to merge; empty: it is not.
    /// @throws InputError as read()
    static std::string reasonForPeft(const std::filesystem::path& path);

    const nlohmann::ordered_json& json() const { return json_; }
    const std::string& trainedOn() const { return trainedOn_; }
    const std::vector<std::string>& modulesToSave() const { return modulesToSave_; }
    bool fanInFanOut() const { return fanInFanOut_; }  // layers store [in, out]
    bool usesDora() const { return usesDora_; }
    bool tiesWeights() const { return tiesWeights_; }  // ensure_weight_tying
    bool targetsInAxisOrder() const;                   // TargetedFactors::inAxisOrder

    std::int64_t rankOf(const std::string& module) const;
    double scalingOf(const std::string& module) const;

    /// The key by which PEFT would leave the module as it is, although the file has factors for it; empty when it adapts it.
    std::string_view keyThatExcludes(const std::string& module) const;

    /// target_modules has the module by name, or by a pattern.
    bool namesModule(const std::string& module) const { return targets_ && keyThatExcludes(module).empty(); }

    /// The parameters that target_parameters may mean of the module. Where target_modules does not tell, its weight is one.
    std::vector<TargetParameter> targetParametersOf(const std::string& module) const;

    /// Which rows of a module's table are trained, in the order of the file. Empty: the config does not say.
    /// @throws InputError when one is listed twice
    std::vector<std::int64_t> tokensOf(const std::string& module) const;

private:
    /// Keys are regular expressions for the end of a module's name; the first that fits decides.
    struct Pattern {
        std::regex regex;
        double value;
    };

    /// Names of modules: ends of their names in a list, or a regular expression for the whole name.
    struct Selection {
        std::vector<std::string> ends;
        std::optional<std::regex> regex;

        bool matches(const std::string& module) const;
    };

    static AdapterConfig parse(const std::filesystem::path& path);
    bool isMergedByPeft() const;
    std::string findReasonForPeft() const;
    void refuseUnmergeable() const;
    void readSettings();
    std::vector<std::int64_t> readTokens(const char* key, const nlohmann::ordered_json& list) const;
    std::vector<Pattern> readPatterns(const char* key, bool wholeNumbers) const;
    std::optional<Selection> readSelection(const char* key) const;
    std::vector<std::string> readNames(const char* key) const;
    void readLayers();
    bool isLayerChosen(const std::string& module) const;
    std::regex compile(const char* key, const std::string& expression) const;
    [[noreturn]] void refuse(const char* key, const std::string& expected) const;

    nlohmann::ordered_json json_;
    std::string file_;
    std::string trainedOn_;
    std::int64_t rank_ = 0;
    double alpha_ = 0;
    bool rankStabilized_ = false, fanInFanOut_ = false, usesDora_ = false, tiesWeights_ = false;
    std::vector<Pattern> ranks_, alphas_;
    std::vector<std::string> modulesToSave_, targetParameters_;
    std::optional<Selection> targets_, excluded_;
    std::vector<std::int64_t> layers_;       // layers_to_transform; empty: all
    std::vector<std::regex> layerPatterns_;  // give the number of a module's layer
};

}  // namespace aimerge

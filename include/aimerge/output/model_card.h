#pragma once
// README.md of a merged checkpoint: front matter that the Hugging Face hub reads (as mergekit writes it), what was merged
// and how, the formula, the config, and how to load it.

#include "aimerge/config/merge_config.h"

#include <cstdint>
#include <optional>
#include <set>
#include <string>
#include <vector>

namespace aimerge {

struct CardModel {
    std::string name;    // as the user wrote it
    bool onHub = false;  // `org/name` rather than a folder: only such names may stand in the front matter
};

struct ModelCard {
    std::string title;  // the output folder's name
    std::optional<CardModel> base;
    std::vector<CardModel> experts;          // without the base
    std::string method;                      // "ties"
    std::string methodDescription;           // MethodInfo::description
    std::string paper;                       // MethodInfo::paper; may be empty
    std::set<double> omegas;                 // of its tensors; empty without AIM
    std::string statistic;                   // "mean_abs"; with AIM
    std::string dtype;                       // torchName() of the output
    std::string config;                      // the YAML text
    std::optional<std::uint64_t> seed = {};  // of a method that draws random numbers
    ActivationSource source = ActivationSource::Base;
    std::vector<CardModel> fittedTo = {};  // by feature calibration; empty without
};

std::string modelCardText(const ModelCard& card);

}  // namespace aimerge

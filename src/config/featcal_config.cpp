#include "config/featcal_config.h"

#include "aimerge/config/mapping_reader.h"
#include "aimerge/config/model_reference.h"
#include "config/assign_if_given.h"
#include "config/calibration_config.h"

#include <algorithm>
#include <limits>

namespace aimerge {
namespace {

constexpr double kLargest = std::numeric_limits<double>::max();

/// What an expert and the base have in common.
FeatcalExpert readExpert(const MappingReader& reader, const SourceMark& mark) {
    FeatcalExpert expert;
    expert.mark = mark;
    assignIfGiven(expert.weight, reader.number("weight", 0, kLargest));
    if (const YamlEntry* calibration = reader.find("calibration"))
        expert.calibration = readWholeCalibration(*calibration, reader.nameOf("calibration"));
    return expert;
}

std::vector<FeatcalExpert> readExperts(const YamlEntry& entry, const std::string& name) {
    if (entry.value.kind != YamlNode::Kind::Sequence || entry.value.items.empty())
        throw UsageError("{}: {} must be a list of entries '- model: NAME', found {}", entry.value.mark.text(), name,
                         describe(entry.value));
    std::vector<FeatcalExpert> experts;
    for (std::size_t i = 0; i < entry.value.items.size(); ++i) {
        const YamlNode& item = entry.value.items[i];
        const MappingReader reader(item, fmt::format("{}[{}]", name, i), {"model", "weight", "calibration"});
        FeatcalExpert expert = readExpert(reader, item.mark);
        const YamlEntry* model = reader.find("model");
        if (model == nullptr)
            throw UsageError("{}: {} needs a 'model': a folder or a hub name", item.mark.text(),
                             fmt::format("{}[{}]", name, i));
        expert.model = readModelReference(model->value, reader.nameOf("model"));
        if (std::ranges::find(experts, expert.model, &FeatcalExpert::model) != experts.end())
            throw UsageError("{}: the expert '{}' is listed twice", model->value.mark.text(), expert.model);
        experts.push_back(std::move(expert));
    }
    return experts;
}

}  // namespace

FeatcalConfig readFeatcal(const YamlEntry& section) {
    FeatcalConfig featcal;
    featcal.mark = section.mark;
    if (section.value.kind == YamlNode::Kind::Null) return featcal;
    const MappingReader reader(section.value, "featcal", {"lambda", "rho", "alpha", "experts", "base", "modules"});
    assignIfGiven(featcal.lambda, reader.number("lambda", 0, kLargest));
    if (featcal.lambda == 0)
        throw UsageError("{}: featcal.lambda must be above 0: it holds the weights where the texts say nothing",
                         reader.find("lambda")->value.mark.text());
    assignIfGiven(featcal.rho, reader.number("rho", 0, kLargest));
    assignIfGiven(featcal.alpha, reader.number("alpha", 0, 1));
    if (const YamlEntry* experts = reader.find("experts")) featcal.experts = readExperts(*experts, "featcal.experts");
    if (const YamlEntry* base = reader.find("base")) {
        const MappingReader ofBase(base->value, "featcal.base", {"model", "weight", "calibration"});
        featcal.base = readExpert(ofBase, base->mark);
        if (const YamlEntry* model = ofBase.find("model"))
            featcal.base->model = readModelReference(model->value, "featcal.base.model");
    }
    if (const YamlEntry* modules = reader.find("modules")) featcal.modules = textsOf(modules->value, "featcal.modules");
    return featcal;
}

}  // namespace aimerge

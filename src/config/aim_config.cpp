#include "config/aim_config.h"

#include "aimerge/config/mapping_reader.h"
#include "config/assign_if_given.h"
#include "config/calibration_config.h"
#include "config/parameter_settings.h"
#include "config/scalar_text.h"

#include <charconv>
#include <cmath>
#include <optional>
#include <string>

namespace aimerge {
namespace {

void applyPreset(AimConfig& aim) {
    CalibrationConfig& calibration = aim.calibration;
    calibration.sequences = 256;
    if (aim.preset == "paper") {
        calibration.packing = Packing::Stream;
        calibration.sequenceLength = 2048;
    } else if (aim.preset == "reference-code") {
        calibration.packing = Packing::Lines;
        calibration.sequenceLength = 512;
        aim.roundBeforeRelaxing = true;
        aim.relaxTiedHead = true;
    }
}

void requireOmega(double omega, const SourceMark& mark, const std::string& text) {
    if (omega < 0 || omega > 1)
        throw UsageError(
            "{}: aim.omega must lie in [0, 1] (1 = plain merge, 0 = the most active channels of the base), found {}",
            mark.text(), text);
}

void addOmega(AimConfig& aim, const YamlNode& node) {
    const double omega = numberOf(node, "aim.omega");
    requireOmega(omega, node.mark, node.text);
    if (std::find(aim.omegas.begin(), aim.omegas.end(), omega) != aim.omegas.end())
        throw UsageError("{}: aim.omega lists {} twice", node.mark.text(), node.text);
    aim.omegas.push_back(omega + 0.0);  // -0 is 0
}

/// As mergekit's parameters: the first entry whose filter is in the tensor's name, a list of
/// values as a gradient over depth.
ParameterSetting omegaByTensor(const YamlNode& node) {
    ParameterSetting setting = readSetting(node, "aim.omega");
    for (const ConditionalValue& condition : setting.conditions)
        for (const Scalar& value : condition.values) {
            const std::optional<double> omega = numberFromText(value.text);
            if (!omega) throw UsageError("{}: aim.omega must be a finite number, found '{}'", value.mark.text(), value.text);
            requireOmega(*omega, value.mark, value.text);
        }
    if (setting.conditionFor("") == nullptr)
        throw UsageError("{}: aim.omega needs an entry without a filter, for the tensors that no filter names",
                         node.mark.text());
    return setting;
}

void readOmega(AimConfig& aim, const MappingReader& reader, const SourceMark& sectionMark, ConfigUse use) {
    const YamlEntry* omega = reader.find("omega");
    if (omega == nullptr) {
        if (use == ConfigUse::Calibrate) return;
        throw UsageError("{}: aim needs 'omega', a number in [0, 1] or a list of them", sectionMark.text());
    }
    if (isConditional(omega->value)) {
        aim.omegaByTensor = omegaByTensor(omega->value);
        return;
    }
    aim.omegaIsList = omega->value.kind == YamlNode::Kind::Sequence;
    if (!aim.omegaIsList) {
        addOmega(aim, omega->value);
        return;
    }
    if (omega->value.items.empty()) throw UsageError("{}: aim.omega is an empty list", omega->value.mark.text());
    for (const YamlNode& item : omega->value.items) addOmega(aim, item);
}

/// "power:2": a name and perhaps a number.
struct NamedValue {
    std::string name;
    std::optional<double> value;
};

NamedValue splitNamedValue(const std::string& text) {
    const std::size_t colon = text.find(':');
    if (colon == std::string::npos) return {text, {}};
    double value = 0;
    const char *begin = text.data() + colon + 1, *end = text.data() + text.size();
    const auto [stop, error] = std::from_chars(begin, end, value);
    if (error != std::errc{} || stop != end || !std::isfinite(value)) return {text, {}};
    return {text.substr(0, colon), value};
}

void readNormalisation(AimConfig& aim, const MappingReader& reader) {
    const std::optional<std::string> text = reader.text("normalisation");
    if (!text) return;
    const auto [name, value] = splitNamedValue(*text);
    if (name == "max" && !value) {
        aim.normalisation = Normalisation::Max;
    } else if (name == "layer" && !value) {
        aim.normalisation = Normalisation::Layer;
    } else if (name == "global" && !value) {
        aim.normalisation = Normalisation::Global;
    } else if (name == "quantile" && value && *value > 0 && *value <= 1) {
        aim.normalisation = Normalisation::Quantile;
        aim.quantile = *value;
    } else {
        throw UsageError("{}: aim.normalisation is max, layer, global, or quantile:Q with Q in (0, 1], found '{}'",
                         reader.find("normalisation")->value.mark.text(), *text);
    }
}

void readShape(AimConfig& aim, const MappingReader& reader) {
    const std::optional<std::string> text = reader.text("shape");
    if (!text) return;
    const auto [name, value] = splitNamedValue(*text);
    const bool isPositive = value && *value > 0;
    if (name == "linear" && !value) {
        aim.shape = RelaxationShape::Linear;
    } else if (name == "power" && isPositive) {
        aim.shape = RelaxationShape::Power;
    } else if (name == "sigmoid" && isPositive) {
        aim.shape = RelaxationShape::Sigmoid;
    } else if (name == "top" && isPositive && *value <= 1) {
        aim.shape = RelaxationShape::Top;
    } else {
        throw UsageError(
            "{}: aim.shape is linear, power:P or sigmoid:S with a number above 0, or top:Q with Q in (0, 1], found '{}'",
            reader.find("shape")->value.mark.text(), *text);
    }
    aim.shapeValue = value.value_or(1);
}

/// What looks at all channels of a module, or at several modules, is not for what is known parameter by parameter.
void checkStatistic(const AimConfig& aim, const MappingReader& reader) {
    if (!aim.usesSensitivity() && !aim.isPerElement()) return;
    const std::string mark = reader.find("statistic")->value.mark.text();
    const std::string_view name = statisticName(aim.statistic);
    if (aim.usesSensitivity() && !aim.hasCalibration && aim.statisticsPath.empty())
        throw UsageError(
            "{}: aim.statistic {} needs aim.calibration with a text 'corpus' or ready 'token_ids', or a log with it as "
            "aim.statistics",
            mark, name);
    if (aim.normalisation == Normalisation::Layer || aim.normalisation == Normalisation::Global)
        throw UsageError("{}: aim.statistic {} is normalised tensor by tensor; use normalisation max", mark, name);
    const bool isPerChannel = aim.normalisation == Normalisation::Quantile || aim.shape == RelaxationShape::Top ||
                              aim.control == AimControl::Shuffled || aim.control == AimControl::Mean;
    if (aim.isPerElement() && isPerChannel)
        throw UsageError(
            "{}: aim.statistic {} is per element, and works with normalisation max, the shapes linear, power and sigmoid, "
            "and control scale; statistics of channels work with all",
            mark, name);
}

void checkSource(const AimConfig& aim, const MappingReader& reader) {
    if (!aim.usesExperts()) return;
    const std::string mark = reader.find("source")->value.mark.text();
    if (aim.usesSensitivity())
        throw UsageError("{}: aim.statistic {} is measured on the base; aim.source is for activations", mark,
                         statisticName(aim.statistic));
    if (!aim.statisticsPath.empty())
        throw UsageError("{}: aim.statistics is a log of one model; to measure the experts, give aim.calibration instead",
                         mark);
    if (!aim.relaxesExperts()) return;
    const char* const what = "aim.source experts holds back each expert's change by channels, before the merge";
    if (aim.isPerElement()) throw UsageError("{}: {}; use the statistics mean_abs, rms or max_abs", mark, what);
    if (aim.control == AimControl::Scale || aim.roundBeforeRelaxing)
        throw UsageError("{}: {}; leave out control scale and round_before_relaxing, which are about the merged change",
                         mark, what);
}

/// What is known only when all layers have been measured, or differs from point to point, does not go with it.
void checkSequential(const AimConfig& aim, ConfigUse use) {
    if (!aim.calibration.sequential) return;
    const std::string mark = aim.calibration.mark.text();
    const char* const what = "aim.calibration.sequential measures the base between the layers of one merge";
    if (use == ConfigUse::Calibrate) throw UsageError("{}: {}; it is part of aimerge merge", mark, what);
    if (aim.omegas.size() > 1) throw UsageError("{}: {}; give one omega", mark, what);
    if (aim.usesExperts() || aim.usesSensitivity())
        throw UsageError("{}: {}; use source base, and the statistics mean_abs, rms, max_abs or wanda", mark, what);
    if (aim.normalisation == Normalisation::Global || aim.relaxTiedHead)
        throw UsageError("{}: {}, when those above are not known; leave out normalisation global and relax_tied_head", mark,
                         what);
    if (!aim.statisticsPath.empty()) throw UsageError("{}: {}; leave out aim.statistics", mark, what);
}

}  // namespace

AimConfig readAim(const YamlEntry& section, ConfigUse use) {
    const MappingReader reader(
        section.value, "aim",
        {"omega", "statistic", "statistics", "calibration", "scope", "preset", "relax_tied_head", "round_before_relaxing",
         "normalisation", "shape", "control", "source", "expert_prior_tokens"});
    AimConfig aim;
    aim.mark = section.mark;
    aim.calibration.mark = section.mark;
    assignIfGiven(aim.preset,
                  reader.choice<std::string>("preset", {{"paper", "paper"}, {"reference-code", "reference-code"}}));
    applyPreset(aim);

    readOmega(aim, reader, section.mark, use);
    assignIfGiven(aim.statistic,
                  reader.choice<Statistic>("statistic", {{"mean_abs", Statistic::MeanAbs},
                                                         {"rms", Statistic::Rms},
                                                         {"max_abs", Statistic::MaxAbs},
                                                         {"sensitivity", Statistic::Sensitivity},
                                                         {"sensitivity_channel", Statistic::SensitivityChannel},
                                                         {"wanda", Statistic::Wanda}}));
    assignIfGiven(aim.source, reader.choice<ActivationSource>("source", {{"base", ActivationSource::Base},
                                                                         {"mean", ActivationSource::ExpertsMean},
                                                                         {"max", ActivationSource::ExpertsMax},
                                                                         {"experts", ActivationSource::Experts}}));
    readNormalisation(aim, reader);
    readShape(aim, reader);
    assignIfGiven(aim.control, reader.choice<AimControl>("control", {{"none", AimControl::None},
                                                                     {"shuffled", AimControl::Shuffled},
                                                                     {"mean", AimControl::Mean},
                                                                     {"scale", AimControl::Scale}}));
    assignIfGiven(aim.statisticsPath, reader.text("statistics"));
    assignIfGiven(aim.scope, reader.choice<AimScope>("scope", {{"code", AimScope::Code}, {"linear", AimScope::Linear}}));
    assignIfGiven(aim.relaxTiedHead, reader.boolean("relax_tied_head"));
    assignIfGiven(aim.roundBeforeRelaxing, reader.boolean("round_before_relaxing"));
    if (const auto tokens = reader.naturalNumber("expert_prior_tokens"))
        aim.expertPriorTokens = static_cast<std::int64_t>(*tokens);
    if (const YamlEntry* calibration = reader.find("calibration"))
        readCalibration(aim.calibration, *calibration, reader.nameOf("calibration"));

    aim.hasCalibration = !aim.calibration.corpus.empty() || !aim.calibration.tokenIds.empty();
    checkStatistic(aim, reader);
    checkSource(aim, reader);
    checkSequential(aim, use);
    if (use == ConfigUse::Calibrate && !aim.hasCalibration)
        throw UsageError("{}: aim.calibration needs a text 'corpus' or ready 'token_ids'", aim.calibration.mark.text());
    if (use == ConfigUse::Merge && !aim.hasCalibration && aim.statisticsPath.empty())
        throw UsageError(
            "{}: aim needs activations: give 'statistics' (a log of aimerge calibrate), or 'calibration' with a text "
            "'corpus' or ready 'token_ids'",
            section.mark.text());
    return aim;
}

}  // namespace aimerge

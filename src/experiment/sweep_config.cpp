#include "aimerge/experiment/sweep_config.h"

#include "aimerge/config/mapping_reader.h"
#include "aimerge/config/merge_document.h"
#include "aimerge/config/model_reference.h"
#include "aimerge/config/override.h"
#include "aimerge/merge/job_check.h"
#include "experiment/sweep_grid.h"

#include <algorithm>
#include <cmath>
#include <iterator>
#include <set>

namespace aimerge {
namespace {

/// Taken over into every point's config as they are.
const std::vector<std::string> kMergeKeys{"dtype",     "out_dtype",     "tokenizer_source",
                                          "tokenizer", "chat_template", "unsafe_truncate_embeddings",
                                          "seed",      "calibration"};

/// 255 bytes, less what the folder's name ends with while it is written.
constexpr std::size_t kLongestFolderName = 240;

/// One for all points, unless a method has its own.
constexpr const char* kFeatcal = "featcal";

YamlNode scalar(std::string text, const SourceMark& mark) {
    return {
        .kind = YamlNode::Kind::Scalar, .text = std::move(text), .quoted = false, .items = {}, .entries = {}, .mark = mark};
}

YamlNode mapping(const SourceMark& mark) {
    return {.kind = YamlNode::Kind::Mapping, .text = {}, .quoted = false, .items = {}, .entries = {}, .mark = mark};
}

void add(YamlNode& node, const std::string& key, YamlNode value) {
    const SourceMark mark = value.mark;
    node.entries.push_back({key, mark, std::move(value)});
}

const YamlNode& requireList(const YamlEntry& entry, const std::string& name) {
    if (entry.value.kind != YamlNode::Kind::Sequence || entry.value.items.empty())
        throw UsageError("{}: {} must be a list, found {}", entry.value.mark.text(), name, describe(entry.value));
    return entry.value;
}

/// Letters, digits and a few signs: it becomes a part of a folder's name.
const std::string& requireName(const std::string& name, const SourceMark& mark, const char* what) {
    if (name.empty() || name.front() == '.' || !std::ranges::all_of(name, fitsFolderName))
        throw UsageError("{}: {} \"{}\" must consist of letters, digits, _, - and .", mark.text(), what, name);
    return name;
}

struct Expert {
    std::string name;
    YamlNode model;                         // as written
    const YamlNode* calibration = nullptr;  // of its own
};

struct MethodEntry {
    std::string label, method;
    const YamlNode* parameters = nullptr;
    const YamlNode* aim = nullptr;      // what differs from the sweep's section
    const YamlNode* featcal = nullptr;  // likewise; without one of the sweep, all of it
    SourceMark mark;
};

void replaceEntries(YamlNode& section, const YamlNode& by) {
    for (const YamlEntry& entry : by.entries) {
        std::erase_if(section.entries, [&](const YamlEntry& own) { return own.key == entry.key; });
        section.entries.push_back(entry);
    }
}

class SweepReader {
public:
    explicit SweepReader(const YamlNode& root, std::string fileName)
        : root_(root), file_(root, "", keys()), fileName_(std::move(fileName)) {}

    SweepConfig read() {
        const YamlEntry& base = require("base_model", "the model that the experts were made from");
        base_ = base.value;
        sweep_.baseModel = readModelReference(base.value, "base_model");
        readExperts();
        readMethods();
        readCombinations();
        readOmegas();
        readGridSection();
        readEvaluation();
        readOutput();
        makePoints();
        return std::move(sweep_);
    }

private:
    static std::vector<std::string> keys() {
        std::vector<std::string> keys{"base_model", "experts",    "combinations", "methods", "omega",
                                      "aim",        "evaluation", "output",       "grid",    kFeatcal};
        keys.insert(keys.end(), kMergeKeys.begin(), kMergeKeys.end());
        return keys;
    }

    const YamlEntry& require(const char* key, const char* meaning) const {
        const YamlEntry* entry = file_.find(key);
        if (!entry) throw UsageError("{}: '{}' is missing: {}", fileName_, key, meaning);
        return *entry;
    }

    void readExperts() {
        const YamlEntry& section = require("experts", "a name and a model each");
        if (section.value.kind != YamlNode::Kind::Mapping || section.value.entries.empty())
            throw UsageError("{}: experts must be a mapping of names to models, found {}", section.value.mark.text(),
                             describe(section.value));
        for (const YamlEntry& entry : section.value.entries) {
            requireName(entry.key, entry.mark, "the expert's name");
            if (entry.key == "base" || entry.key.find('+') != std::string::npos)
                throw UsageError("{}: an expert cannot be called {}", entry.mark.text(), entry.key);
            experts_.push_back(readExpert(entry));
            sweep_.experts.emplace_back(entry.key,
                                        readModelReference(experts_.back().model, fmt::format("experts.{}", entry.key)));
        }
    }

    /// A model, or {model, calibration}.
    static Expert readExpert(const YamlEntry& entry) {
        const std::string name = fmt::format("experts.{}", entry.key);
        if (entry.value.kind != YamlNode::Kind::Mapping) return {entry.key, entry.value};
        const MappingReader reader(entry.value, name, {"model", "calibration"});
        const YamlEntry* const model = reader.find("model");
        if (!model) throw UsageError("{}: {} needs a 'model'", entry.mark.text(), name);
        const YamlEntry* const calibration = reader.find("calibration");
        return {entry.key, model->value, calibration ? &calibration->value : nullptr};
    }

    void readMethods() {
        std::set<std::string> labels;
        for (const YamlNode& item : requireList(require("methods", "the merge methods"), "methods").items) {
            MethodEntry entry{{}, {}, nullptr, nullptr, nullptr, item.mark};
            if (item.kind == YamlNode::Kind::Mapping) {
                const MappingReader reader(item, "methods", {"merge_method", "name", "parameters", "aim", kFeatcal});
                const auto method = reader.text("merge_method");
                if (!method) throw UsageError("{}: a method needs a 'merge_method'", item.mark.text());
                entry.method = *method;
                entry.label = reader.text("name").value_or(*method);
                if (const YamlEntry* parameters = reader.find("parameters")) entry.parameters = &parameters->value;
                if (const YamlEntry* aim = reader.find("aim")) {
                    const MappingReader checked(aim->value, "methods.aim", kMethodAimKeys);
                    entry.aim = &aim->value;
                }
                if (const YamlEntry* featcal = item.find(kFeatcal)) entry.featcal = &featcal->value;
            } else {
                entry.method = entry.label = scalarText(item, "methods", "a method's name or a mapping");
            }
            requireName(entry.label, item.mark, "the method's name");
            if (!labels.insert(entry.label).second)
                throw UsageError("{}: two methods are called {}; give one a 'name'", item.mark.text(), entry.label);
            methods_.push_back(entry);
        }
    }

    void readCombinations() {
        const YamlEntry* section = file_.find("combinations");
        const bool all = !section || (section->value.kind == YamlNode::Kind::Scalar && section->value.text == "all");
        if (all) return addAllCombinations(section ? section->value.mark : SourceMark{});
        std::set<std::vector<std::size_t>> known;
        for (const YamlNode& item : requireList(*section, "combinations, 'all' or lists of experts,").items) {
            if (item.kind != YamlNode::Kind::Sequence || item.items.empty())
                throw UsageError("{}: a combination must be a list of experts, found {}", item.mark.text(), describe(item));
            std::set<std::size_t> members;
            for (const YamlNode& member : item.items) {
                const std::string& name = scalarText(member, "combinations", "an expert's name");
                const auto expert = std::ranges::find(experts_, name, &Expert::name);
                if (expert == experts_.end()) throw UsageError("{}: there is no expert {}", member.mark.text(), name);
                if (!members.insert(static_cast<std::size_t>(expert - experts_.begin())).second)
                    throw UsageError("{}: {} stands twice in a combination", member.mark.text(), name);
            }
            std::vector<std::size_t> combination(members.begin(), members.end());
            if (!known.insert(combination).second)
                throw UsageError("{}: this combination is there already", item.mark.text());
            combinations_.push_back(std::move(combination));
        }
    }

    /// Every subset of two or more, the small ones first.
    void addAllCombinations(const SourceMark& mark) {
        constexpr std::size_t kMostExperts = 16;
        const std::size_t experts = experts_.size();
        if (experts < 2) throw UsageError("{}: a sweep over all combinations needs two experts", fileName_);
        if (experts > kMostExperts)
            throw UsageError("{}: all combinations of {} experts are too many; list those that are wanted",
                             mark.line > 0 ? mark.text() : fileName_, experts);
        for (std::size_t bits = 1; bits < std::size_t{1} << experts; ++bits) {
            std::vector<std::size_t> combination;
            for (std::size_t e = 0; e < experts; ++e)
                if ((bits >> e & 1u) != 0) combination.push_back(e);
            if (combination.size() >= 2) combinations_.push_back(std::move(combination));
        }
        std::ranges::sort(combinations_,
                          [](const auto& a, const auto& b) { return a.size() != b.size() ? a.size() < b.size() : a < b; });
    }

    void readOmegas() {
        const YamlEntry& section = require("omega", "1 (without AIM), or a list");
        const bool isList = section.value.kind == YamlNode::Kind::Sequence;
        const std::vector<YamlNode> values = isList ? requireList(section, "omega").items : std::vector{section.value};
        for (const YamlNode& value : values) {
            const double omega = numberOf(value, "omega");
            if (!(omega >= 0 && omega <= 1))
                throw UsageError("{}: omega is {}, expected a number from 0 to 1", value.mark.text(), value.text);
            if (std::ranges::find(omegas_, omega) != omegas_.end())
                throw UsageError("{}: omega {} stands twice", value.mark.text(), value.text);
            omegas_.push_back(omega);
        }
        aim_ = file_.find("aim");
        if (relaxes() && !aim_)
            throw UsageError("{}: 'aim' is missing: omega below 1 needs aim.calibration or aim.statistics", fileName_);
        if (!aim_ || aim_->value.kind != YamlNode::Kind::Mapping) return;
        if (const YamlEntry* omega = aim_->value.find("omega"))
            throw UsageError("{}: aim.omega: a sweep's values stand in 'omega'", omega->mark.text());
        const YamlEntry* calibration = aim_->value.find("calibration");
        if (calibration && calibration->value.kind == YamlNode::Kind::Mapping && calibration->value.find("sequential"))
            throw UsageError(
                "{}: aim.calibration.sequential measures anew for every merge; a sweep's points share one calibration",
                calibration->mark.text());
    }

    void readEvaluation() {
        const YamlEntry* section = file_.find("evaluation");
        if (!section) return;
        const MappingReader reader(section->value, "evaluation", {"suites", "dtype", "multiple_choice", "block_length"});
        const YamlEntry* suites = reader.find("suites");
        if (!suites) throw UsageError("{}: evaluation.suites is missing", section->value.mark.text());
        for (const YamlNode& suite : requireList(*suites, "evaluation.suites").items)
            sweep_.evaluation.suites.push_back(scalarText(suite, "evaluation.suites", "a path"));
        sweep_.evaluation.computeDtype =
            reader.choice<Dtype>("dtype", {{"float32", Dtype::F32}, {"bfloat16", Dtype::BF16}}).value_or(Dtype::F32);
        sweep_.evaluation.choices =
            reader.choice<ChoiceMetric>("multiple_choice", {{"acc", ChoiceMetric::Acc}, {"acc_norm", ChoiceMetric::AccNorm}})
                .value_or(ChoiceMetric::AccNorm);
        sweep_.evaluation.blockLength = reader.wholeNumber("block_length", 2).value_or(sweep_.evaluation.blockLength);
    }

    void readOutput() {
        const YamlEntry& section = require("output", "its 'directory' is the folder to write");
        const MappingReader reader(section.value, "output", {"directory", "keep"});
        const auto directory = reader.text("directory");
        if (!directory) throw UsageError("{}: output.directory is missing", section.value.mark.text());
        sweep_.directory = *directory;
        sweep_.keep = reader.choice<Keep>("keep", {{"checkpoints", Keep::Checkpoints}, {"scores", Keep::Scores}})
                          .value_or(Keep::Checkpoints);
        if (sweep_.keep == Keep::Scores && sweep_.evaluation.suites.empty())
            throw UsageError("{}: output.keep is scores, but there are no evaluation.suites", section.value.mark.text());
    }

    void readGridSection() {
        for (const MethodEntry& method : methods_)
            gridMethods_.push_back(
                {method.label, &findMethod(method.method, method.mark).info(), method.parameters, method.aim});
        const YamlEntry* section = file_.find("grid");
        if (!section) return;
        std::vector<std::string> names;
        for (const Expert& expert : experts_) names.push_back(expert.name);
        grid_ = readGrid(*section, names);
        for (const GridDimension& dimension : grid_) {
            if (dimension.isAim) requireAimFor(dimension);
            const auto expert = std::ranges::find(experts_, dimension.expert, &Expert::name);
            const auto isIn = [&](const std::vector<std::size_t>& combination) {
                return std::ranges::find(combination, static_cast<std::size_t>(expert - experts_.begin())) !=
                       combination.end();
            };
            if (expert != experts_.end() && std::ranges::none_of(combinations_, isIn))
                throw UsageError("{}: {} has no effect: {} is in no combination", dimension.mark.text(),
                                 dimension.nameInFile(), expert->name);
        }
        sweep_.remarks = checkGrid(grid_, gridMethods_);
    }

    /// Its values are the only ones of the sweep, and have an effect.
    void requireAimFor(const GridDimension& dimension) const {
        if (!relaxes())
            throw UsageError("{}: {} has no effect: no omega is below 1", dimension.mark.text(), dimension.nameInFile());
        if (aim_->value.find(dimension.parameter))
            throw UsageError("{}: {} and aim.{} are both there; remove one of them", dimension.mark.text(),
                             dimension.nameInFile(), dimension.parameter);
    }

    bool relaxes() const {
        return std::ranges::any_of(omegas_, [](double omega) { return omega != 1.0; });
    }

    enum class GridPart { Merge, Aim };

    /// What multiplies the points of a method and combination.
    std::vector<const GridDimension*> dimensionsOf(std::size_t method, const std::vector<std::size_t>& combination,
                                                   GridPart part) const {
        std::vector<const GridDimension*> dimensions;
        for (const GridDimension& dimension : grid_) {
            const bool isThere = dimension.expert.empty() || std::ranges::any_of(combination, [&](std::size_t e) {
                                     return experts_[e].name == dimension.expert;
                                 });
            if (isThere && dimension.isAim == (part == GridPart::Aim) && takes(gridMethods_[method], dimension))
                dimensions.push_back(&dimension);
        }
        return dimensions;
    }

    void requireFewPoints() const {
        const auto plain = static_cast<double>(std::ranges::count(omegas_, 1.0));
        const double relaxed = static_cast<double>(omegas_.size()) - plain;
        double count = 0;
        for (std::size_t m = 0; m < methods_.size(); ++m)
            for (const auto& combination : combinations_)
                count += settingCount(dimensionsOf(m, combination, GridPart::Merge)) *
                         (plain + relaxed * settingCount(dimensionsOf(m, combination, GridPart::Aim)));
        if (count > static_cast<double>(kMostSweepPoints))
            throw UsageError("{}: {} methods x {} combinations x {} omegas{} are {:.0f} points; at most {} are one sweep",
                             fileName_, methods_.size(), combinations_.size(), omegas_.size(),
                             grid_.empty() ? "" : " with the grid", count, kMostSweepPoints);
    }

    void makePoints() {
        requireFewPoints();
        sweep_.points.push_back({"base", PointKind::Base, sweep_.baseModel, {}, {}, {}, {}});
        for (const auto& [name, model] : sweep_.experts)
            sweep_.points.push_back({name, PointKind::Expert, model, {}, {}, {}, {}});
        for (const SweepPoint& point : sweep_.points) names_.insert(point.name);
        for (std::size_t m = 0; m < methods_.size(); ++m)
            for (const auto& combination : combinations_)
                for (const GridSetting& setting : settingsOf(dimensionsOf(m, combination, GridPart::Merge)))
                    addPoints(m, combination, setting);
    }

    /// One merge: without AIM, and relaxed in every way.
    void addPoints(std::size_t m, const std::vector<std::size_t>& combination, const GridSetting& setting) {
        const MethodEntry& method = methods_[m];
        bool hasPlain = false;
        for (const GridSetting& way : settingsOf(dimensionsOf(m, combination, GridPart::Aim))) {
            GridSetting relaxed = setting;
            relaxed.insert(relaxed.end(), way.begin(), way.end());
            for (const double omega : omegas_) {
                if (omega == 1.0 && std::exchange(hasPlain, true)) continue;
                SweepPoint point = pointOf(method, combination, omega == 1.0 ? setting : relaxed, omega);
                UnreadKeys unread = checkMergeParameters(findMethod(point.config->method, method.mark), *point.config);
                if (checked_.insert(method.label).second) std::ranges::move(unread, std::back_inserter(sweep_.unread));
                if (point.isRelaxed() && !sweep_.aim) sweep_.aim = point.config->aim;
                if (!names_.insert(point.name).second)
                    throw UsageError("{}: two points would be called {}", method.mark.text(), point.name);
                if (sweep_.keep == Keep::Checkpoints && point.name.size() > kLongestFolderName)
                    throw UsageError("{}: {} is too long for a folder's name; give shorter names, or keep: scores",
                                     method.mark.text(), point.name);
                sweep_.points.push_back(std::move(point));
            }
        }
    }

    SweepPoint pointOf(const MethodEntry& method, const std::vector<std::size_t>& combination, const GridSetting& setting,
                       double omega) const {
        SweepPoint point;
        point.method = method.label;
        for (const std::size_t e : combination)
            point.combination += (point.combination.empty() ? "" : "+") + experts_[e].name;
        point.omega = omega;
        std::string settingText;
        for (const auto& [dimension, choice] : setting) {
            point.grid.emplace_back(dimension->key, choice->text);
            settingText += fmt::format("{}-{}-", dimension->key, choice->text);
        }
        std::ranges::replace(settingText, ':', '-');
        point.name = fmt::format("{}-{}-{}{}", point.method, point.combination, settingText, omegaText(omega));

        YamlNode document = mapping(method.mark);
        add(document, "merge_method", scalar(method.method, method.mark));
        add(document, "base_model", base_);
        YamlNode models{
            .kind = YamlNode::Kind::Sequence, .text = {}, .quoted = false, .items = {}, .entries = {}, .mark = method.mark};
        for (const std::size_t e : combination) models.items.push_back(modelEntry(method, experts_[e], setting));
        add(document, "models", std::move(models));
        addParameters(document, method, setting);
        for (const std::string& key : kMergeKeys)
            if (const YamlEntry* entry = file_.find(key)) add(document, key, entry->value);
        addFeatcal(document, method);
        if (point.isRelaxed()) {
            YamlNode aim = aim_->value;
            if (aim.kind == YamlNode::Kind::Mapping) {
                if (method.aim) replaceEntries(aim, *method.aim);
                for (const auto& [dimension, choice] : setting)
                    if (dimension->isAim) add(aim, dimension->parameter, choice->value);
                YamlNode value = scalar(fmt::format("{}", omega), aim_->mark);
                aim.entries.insert(aim.entries.begin(), {"omega", aim_->mark, std::move(value)});
            }
            add(document, "aim", std::move(aim));
        }
        point.config = mergeConfigOf(document, fileName_);
        return point;
    }

    /// Those of the method, and the values of the grid that are one for all models.
    static void addParameters(YamlNode& document, const MethodEntry& method, const GridSetting& setting) {
        YamlNode parameters = method.parameters ? *method.parameters : mapping(method.mark);
        bool isThere = method.parameters != nullptr;
        for (const auto& [dimension, choice] : setting) {
            if (dimension->isAim || !dimension->expert.empty()) continue;
            add(parameters, dimension->parameter, choice->value);
            isThere = true;
        }
        if (isThere) add(document, "parameters", std::move(parameters));
    }

    /// With what the method has in the place of the sweep's.
    void addFeatcal(YamlNode& document, const MethodEntry& method) const {
        const YamlEntry* const section = root_.find(kFeatcal);
        if (!section && !method.featcal) return;
        YamlNode featcal = section && section->value.kind == YamlNode::Kind::Mapping ? section->value : mapping(method.mark);
        if (method.featcal) replaceEntries(featcal, *method.featcal);
        add(document, kFeatcal, std::move(featcal));
    }

    /// With its own values of the grid, and a weight of 1 where the method requires one and the sweep names none.
    YamlNode modelEntry(const MethodEntry& method, const Expert& expert, const GridSetting& setting) const {
        YamlNode entry = mapping(expert.model.mark);
        add(entry, "model", expert.model);
        if (expert.calibration) add(entry, "calibration", *expert.calibration);
        YamlNode parameters = mapping(expert.model.mark);
        bool hasWeight = method.parameters && method.parameters->find("weight");
        for (const auto& [dimension, choice] : setting) {
            const bool isOwn = dimension->expert == expert.name;
            if (isOwn) add(parameters, dimension->parameter, choice->value);
            hasWeight = hasWeight || (dimension->parameter == "weight" && (isOwn || dimension->expert.empty()));
        }
        const std::vector<ParameterSpec>& specs = findMethod(method.method, method.mark).info().parameters;
        const auto weight = std::ranges::find(specs, "weight", &ParameterSpec::name);
        if (weight != specs.end() && !weight->fallback && !hasWeight)
            add(parameters, "weight", scalar("1.0", expert.model.mark));
        if (!parameters.entries.empty()) add(entry, "parameters", std::move(parameters));
        return entry;
    }

    static std::string omegaText(double omega) {
        const std::string digits = fmt::format("{}", omega);
        return fmt::format("omega-{}{}", digits, digits.find_first_of(".e") == std::string::npos ? ".0" : "");
    }

    const YamlNode& root_;
    MappingReader file_;
    std::string fileName_;
    SweepConfig sweep_;
    YamlNode base_;
    std::vector<Expert> experts_;
    std::vector<MethodEntry> methods_;
    std::vector<std::vector<std::size_t>> combinations_;  // indices of experts, ascending
    std::vector<double> omegas_;
    const YamlEntry* aim_ = nullptr;
    std::vector<GridDimension> grid_;
    std::vector<GridMethod> gridMethods_;  // as methods_
    std::set<std::string> names_;          // of points
    std::set<std::string> checked_;        // methods whose unread keys are known
};

}  // namespace

std::string_view pointKindName(PointKind kind) {
    switch (kind) {
        case PointKind::Base:
            return "base";
        case PointKind::Expert:
            return "expert";
        case PointKind::Merged:
            break;
    }
    return "merged";
}

SweepConfig parseSweepConfig(const std::string& text, const std::string& fileName,
                             const std::vector<std::string>& overrides) {
    const std::vector<YamlText> documents = splitDocuments(text);
    if (documents.size() > 1) throw UsageError("{}: a sweep is one document", fileName);
    YamlNode root = parseYaml(documents.front(), fileName);
    if (root.kind != YamlNode::Kind::Mapping)
        throw UsageError("{}: a sweep's config must be a mapping, found {}", fileName, describe(root));
    for (const std::string& override : overrides) applyOverride(root, override);
    return SweepReader(root, fileName).read();
}

std::vector<std::string> gridKeysOf(const std::vector<SweepPoint>& points) {
    std::vector<std::string> keys;
    for (const SweepPoint& point : points)
        for (const auto& [key, value] : point.grid)
            if (std::ranges::find(keys, key) == keys.end()) keys.push_back(key);
    return keys;
}

const std::string* SweepPoint::gridValue(const std::string& key) const {
    const auto found = std::ranges::find(grid, key, &std::pair<std::string, std::string>::first);
    return found == grid.end() ? nullptr : &found->second;
}

}  // namespace aimerge

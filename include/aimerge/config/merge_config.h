#pragma once
// A merge job as a document of its YAML file states it: mergekit's configuration language for the supported methods plus the
// `aim` section. Parsing validates types, ranges and names; no checkpoint is opened. Of keys that mergekit ignores
// config/unread_key.h says which are errors; MergeConfig::unread has the others.

#include "aimerge/config/parameter.h"
#include "aimerge/config/unread_key.h"
#include "aimerge/core/dtype.h"

#include <cstdint>
#include <filesystem>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <vector>

namespace aimerge {

using ParameterMap = std::map<std::string, ParameterSetting>;

/// The first three: per input channel of a module. Sensitivity: the gradient's magnitude of every parameter, and its mean
/// over a channel's outputs. Wanda: |w| times the root mean square of its input, of every parameter.
enum class Statistic { MeanAbs, Rms, MaxAbs, Sensitivity, SensitivityChannel, Wanda };
std::string_view statisticName(Statistic statistic);  // "mean_abs", "sensitivity_channel", ...

/// Whose activations a channel's importance is.
enum class ActivationSource {
    Base,         // as in the paper
    ExpertsMean,  // the mean of the statistics of all experts
    ExpertsMax,   // the largest
    Experts       // every expert's own hold back its own change, before the merge
};

std::string_view sourceName(ActivationSource source);  // "base", "mean", ...

/// Which weights AIM relaxes. Code: linear layers, norms and an untied lm_head, as the authors' code does. Linear: no norms.
enum class AimScope { Code, Linear };

/// What the statistic of a module's channels is divided by before it is an importance; what is then above 1 becomes 1.
enum class Normalisation {
    Max,       // the module's largest value, as in the paper
    Quantile,  // the value that a share `quantile` of its channels does not exceed
    Layer,     // the largest value of the modules of its decoder layer
    Global     // the largest value of all modules
};

/// How much a channel of importance A is held back, as a function of A that keeps 0 and 1.
enum class RelaxationShape {
    Linear,   // A, as in the paper
    Power,    // A^p
    Sigmoid,  // a logistic curve of steepness s around one half
    Top       // 1 for the most important share q of a module's channels, 0 for the others
};

/// What tells an effect of the importances from one of merely changing less.
enum class AimControl {
    None,
    Shuffled,  // the importances of a module, dealt out to its channels at random
    Mean,      // every channel of a module has the mean of their importances
    Scale      // every change of a tensor is scaled by the same factor, so that the tensor changes by as much
};

/// How the corpus becomes blocks of token ids.
enum class Packing {
    Stream,  // documents concatenated, cut into blocks of sequenceLength
    Lines  // reference code: stripped lines of at most sequenceLength tokens, at most `sequences` of them, concatenated, cut
};

/// Files of text (aimerge/corpus/corpus_files.h), and how much of a calibration they make up.
struct CorpusSource {
    std::string path;  // a file, a folder or a pattern
    double share = 0;  // above 0, relative to those of the other sources; 0: none has a share
};

struct CalibrationConfig {
    std::vector<CorpusSource> corpus;   // empty when tokenIds is given
    std::vector<std::string> textKeys;  // columns; a document is what stands under them, one after another. Empty: by layout
    std::string chatTemplate;           // of conversations, as MergeConfig::chatTemplate; empty: the model's own
    std::string tokenIds;               // path to .safetensors (tensor input_ids) or .npy; int64 or int32 [blocks, length]
    std::int64_t sequences = 256;       // of ready token ids: the first ones; 0 = all
    std::int64_t sequenceLength = 2048;  // 512 under the reference-code preset; of ready token ids: 0 = as they are
    std::uint64_t seed = 42;
    bool shuffle = true;  // order of documents (Stream) or lines (Lines)
    Packing packing = Packing::Stream;
    Dtype dtype = Dtype::BF16;    // compute dtype of the forward pass: BF16 or F32
    std::int64_t microBatch = 1;  // sequences per forward step; part of what fixes the bits
    bool sequential = false;      // of aim.calibration alone: what enters a layer has passed the merged layers below it
    SourceMark mark;

    /// What is read, for messages: "a.txt, b.parquet".
    std::string inputName() const;
};

/// Layers [from, to) of a model. A slice of no layers says where embeddings or head come from.
struct LayerRange {
    std::int64_t from = 0, to = 0;  // 0 <= from <= to
    SourceMark mark;
};

/// One entry of `models:`, or of the `sources:` of a slice.
struct ModelEntry {
    std::string model;  // path or hub name; "org/name@revision", "MODEL+ADAPTER" where one is given
    ParameterMap parameters;
    SourceMark mark;
    std::optional<LayerRange> layers = {};              // absent: all
    std::optional<CalibrationConfig> calibration = {};  // what this model is run on, where it differs from the others
};

/// Consecutive layers of the output, each merged from one layer of every source. `models:` is one slice over all layers.
struct Slice {
    std::vector<ModelEntry> sources = {};  // not empty, no model twice
    std::string baseModel = {};            // its own base_model; empty when absent
    ParameterMap parameters = {};
    SourceMark mark = {};
    bool wholeModels = false;  // written as `models:`, where a base_model that is not listed takes part
    std::string module = {};   // of `modules`, whose layers these are; empty: of the whole model
    SourceMark moduleMark = {};

    const ModelEntry* find(const std::string& model) const;  // nullptr when it is no source
};

struct AimConfig {
    std::vector<double> omegas;  // each in [0, 1], distinct; written as a number or a list. Empty beside omegaByTensor
    bool omegaIsList = false;    // then the output folder holds one folder per value, "omega-0.4"
    std::optional<ParameterSetting> omegaByTensor;  // {filter, value} or a list of them, the last for every tensor
    Statistic statistic = Statistic::MeanAbs;
    ActivationSource source = ActivationSource::Base;
    Normalisation normalisation = Normalisation::Max;
    double quantile = 1;  // in (0, 1], of Normalisation::Quantile
    RelaxationShape shape = RelaxationShape::Linear;
    double shapeValue = 1;  // p, s above 0; q in (0, 1]
    AimControl control = AimControl::None;
    bool usesSensitivity() const {
        return statistic == Statistic::Sensitivity || statistic == Statistic::SensitivityChannel;
    }
    bool usesExperts() const { return source != ActivationSource::Base; }
    /// What a point's omega holds back are the changes of the experts, not that of the merge.
    bool relaxesExperts() const { return source == ActivationSource::Experts; }
    /// Importances are of single elements, not of channels.
    bool isPerElement() const { return statistic == Statistic::Sensitivity || statistic == Statistic::Wanda; }
    std::string statisticsPath;  // a log to use instead of calibrating; empty = calibrate
    CalibrationConfig calibration;
    bool hasCalibration = false;
    std::int64_t expertPriorTokens = 100;  // of a mixture's block, that count besides an expert's own; 0: none
    AimScope scope = AimScope::Code;
    bool relaxTiedHead = false;  // preset reference-code: a tied lm_head is relaxed together with the embedding
    bool roundBeforeRelaxing =
        false;           // preset reference-code: theta_merged and delta are rounded to bf16 before the relaxation
    std::string preset;  // "", "paper" or "reference-code"
    SourceMark mark;
};

/// A model whose outputs a merge is to give after feature calibration.
struct FeatcalExpert {
    std::string model;  // path or hub name; of FeatcalConfig::base empty where it is base_model
    double weight = 1;  // at least 0
    std::optional<CalibrationConfig> calibration = {};  // on what it is run; absent: as expertCalibration() says
    SourceMark mark = {};
};

/// `featcal`: the merged layers are fitted to what experts compute (aimerge/calibration/featcal.h).
struct FeatcalConfig {
    double lambda = 0.01;                // above 0
    double rho = 1;                      // at least 0
    double alpha = 1;                    // in [0, 1]
    std::vector<FeatcalExpert> experts;  // empty: the models of the merge, without the base
    std::optional<FeatcalExpert> base;   // the base of rho; with a calibration also one more expert
    std::vector<std::string> modules;    // parts of the names of modules that are fitted; empty: all
    SourceMark mark;
};

enum class VocabularySource { None, Base, Union, Model };

/// tokenizer_source / tokenizer: {source, tokens, pad_to_multiple_of}.
struct TokenOverride {
    enum class Kind { Model, ModelToken, Zero } kind = Kind::Model;
    std::string model;                    // Model, ModelToken
    std::string token;                    // ModelToken by text
    std::optional<std::int64_t> tokenId;  // ModelToken by id
    bool force = false;
};
struct VocabularyConfig {
    VocabularySource source = VocabularySource::None;
    std::string model;                                                         // for VocabularySource::Model
    std::vector<std::pair<std::string, std::optional<TokenOverride>>> tokens;  // in file order
    std::int64_t padToMultipleOf = 0;                                          // 0 = off
    bool unsafeTruncateEmbeddings = false;
    SourceMark mark;
};

struct MergeConfig {
    std::filesystem::path file;
    std::string text;  // the YAML as given (with --set applied), after that of the documents in `uses`: makes the same again
    std::string method;                     // merge_method
    std::string name;                       // of the document; empty when absent
    std::vector<std::string> uses;          // names of the documents that it is made from, also through others
    std::filesystem::path documentsFolder;  // where their results lie: withDocumentsIn(); empty before
    std::string baseModel;                  // empty when absent
    std::vector<Slice> slices;              // in the order of the output's layers
    std::map<std::string, ParameterMap> moduleParameters;  // of `modules`, by Slice::module
    ParameterMap parameters;                               // global
    std::optional<Dtype> dtype, outDtype;                  // BF16, F16, F32
    std::uint64_t seed = 42;                               // of methods that draw random numbers
    VocabularyConfig vocabulary;
    std::string chatTemplate;  // chat_template: "", "auto", a name or a template
    std::optional<AimConfig> aim;
    std::optional<FeatcalConfig> featcal;
    std::optional<CalibrationConfig> calibration;  // what the experts are run on, for methods that need statistics of them
    UnreadKeys unread;                             // in the order of the file
    bool allowsCrimes = false;                     // --allow-crimes: ModelSet::open(); set by commands
    SourceMark methodMark, nameMark, baseModelMark, chatTemplateMark;

    /// The base of a slice: its own, or the file's where that is a source of the slice or `models:` is written; else empty.
    const std::string& baseOf(const Slice& slice) const;
    /// A model's name as the file has it: that of another document for a folder of withDocumentsIn().
    std::string nameInFile(const std::string& model) const;
};

/// What a model is run on for statistics of experts: its own `calibration`, else that of the file, else aim.calibration;
/// null when there is none.
/// @param model null for a base that is not listed
const CalibrationConfig* expertCalibration(const MergeConfig& config, const ModelEntry* model);

/// What a command needs of the file.
enum class ConfigUse {
    Merge,     // method and models or slices are required
    Calibrate  // only base_model and aim.calibration are; the rest is parsed when present
};

/// The text of a config file. @throws InputError when it cannot be read, or is too large for a config
std::string readMergeConfigText(const std::filesystem::path& file);

/// The documents of a file, each after those it uses, the result last: that without a name, else the file's last unless
/// another uses it, else the only unused one. A name (NAME, NAME+ADAPTER) stands for a model wherever one is named.
/// @param overrides `--set path.to.key=value`, applied in order to the YAML tree of the result before it is validated
/// @param use of the result; the others are merged
/// @throws UsageError with file, line and column
std::vector<MergeConfig> parseMergeConfigs(const std::string& text, const std::string& fileName,
                                           const std::vector<std::string>& overrides, ConfigUse use);

/// The result of them.
MergeConfig parseMergeConfig(const std::string& text, const std::string& fileName, const std::vector<std::string>& overrides,
                             ConfigUse use);

/// True when `model` is the name of the document, alone or with an adapter.
bool refersToDocument(const std::string& model, const std::string& documentName);

/// The config with `rename` of each name of a model in its place.
MergeConfig withModels(const std::function<std::string(const std::string& model)>& rename, MergeConfig config);

/// The config with the folder of its result, `folder`/NAME, in place of the name of each document that it uses.
MergeConfig withDocumentsIn(const std::filesystem::path& folder, MergeConfig config);

}  // namespace aimerge

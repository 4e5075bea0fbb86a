#pragma once
// A merge method is two small parts: an optional prepare pass over one parameter (small results: thresholds, scales) and an
// element-wise combine. It sees float32 values of one parameter and never touches files, MPI or dtypes.
// docs/contributing.md, "Adding a merge method", walks through one.

#include "aimerge/config/parameter.h"
#include "aimerge/merge/parameter_reader.h"
#include "aimerge/vocabulary/vocabulary_alignment.h"

#include <cstddef>
#include <cstdint>
#include <limits>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

namespace aimerge {

enum class ParameterScope { Shared, PerInput, PerNonBase };
enum class ParameterType {
    Number,
    WholeNumber,  // a Number that must be whole
    Boolean,
    Choice  // one of ParameterSpec::choices; its value is the index there
};

struct ParameterSpec {
    std::string name;  // "weight"
    ParameterType type;
    ParameterScope scope;
    std::optional<double> fallback;  // nullopt = required
    std::string description;         // one line for `aimerge methods`

    // What a number may be; infinities and NaN never are.
    double minimum = std::numeric_limits<double>::lowest(), maximum = std::numeric_limits<double>::max();
    bool minimumExcluded = false, maximumExcluded = false;

    std::vector<std::string> choices = {};
    bool hasNoEffect = false;  // accepted because mergekit has it
};

enum class BaseUse {
    Required,  // the experts' changes from base_model are merged
    Optional,  // likewise with a base_model; without one, the models themselves
    Aside,     // base_model takes no part, listed or not
    Ordinary   // base_model plays no special part in the arithmetic
};

/// The method sees base_model's values apart from its inputs.
constexpr bool readsBase(BaseUse use) {
    return use == BaseUse::Required || use == BaseUse::Optional;
}

/// What a method needs to know about every expert beyond its weights.
enum class ExpertStatistic {
    None,
    InputGram,  // of a linear layer [out, in]: the Gram matrix [in, in] of its inputs, sum x x^T / tokens. Others have none.
    Fisher,     // of every parameter, in its shape: the diagonal of the Fisher information
    Sensitivity  // likewise, the mean magnitude of the entropy's gradient: of the base, for AIM; no method needs it
};

struct MethodInfo {
    std::string name;
    std::string description;  // one line
    std::string paper;        // citation
    BaseUse base = BaseUse::Required;
    std::size_t minInputs = 1;  // inputs as the method sees them: without the base, unless that is an ordinary one
    std::size_t maxInputs = kAnyNumberOfInputs;
    std::vector<ParameterSpec> parameters;
    ExpertStatistic needs = ExpertStatistic::None;
    bool isRandom = false;      // draws from ResolvedParameters::seed
    bool readsColumns = false;  // of matrices [out, in]: what belongs to one input channel
    UnequalVocabularies unequalVocabularies = UnequalVocabularies::Refused;

    static constexpr std::size_t kAnyNumberOfInputs = std::numeric_limits<std::size_t>::max();
};

/// The resolved parameter values for one output tensor, in the order of MethodInfo::parameters. Booleans are 0 or 1, choices
/// are indices.
struct ResolvedParameters {
    std::vector<double> shared;                 // by parameter index; unused slots 0
    std::vector<std::vector<double>> perInput;  // [parameter index][input index], inputs as ParameterReader numbers them
    std::uint64_t seed = 42;                    // of random methods

    bool operator==(const ResolvedParameters&) const = default;
};

/// What is wrong with values that are each in range but cannot be used together.
struct ParameterProblem {
    std::size_t parameter = 0;         // whose setting is to be changed: an index in MethodInfo::parameters
    std::optional<std::size_t> input;  // and of which input, where each has a value
    std::string text;                  // "the weights of the 2 models add up to 0; change one"
};

struct DeviceTile;

/// Combines one parameter, element by element. Const and thread-safe.
class PreparedParameter {
public:
    virtual ~PreparedParameter() = default;

    /// Writes theta_merged for elements [first, first + out.size()). Any split of a parameter into
    /// such calls gives the same bits.
    /// @param base that many values; null where ParameterReader::hasBase() said no
    /// @param inputs one pointer to that many values per input; behind them, for ExpertStatistic::Fisher, one per input to
    ///        its Fisher values
    virtual void combine(std::int64_t first, const float* base, std::span<const float* const> inputs,
                         std::span<float> out) const = 0;

    /// Whether there is a kernel for this parameter.
    virtual bool runsOnDevice() const { return false; }

    /// Queues the same for a tile in the current GPU's memory, relaxation and rounding included (src/merge/device/device_tile.h),
    /// with the bits of the host. @pre runsOnDevice()
    virtual void combineOnDevice(std::int64_t /*first*/, const DeviceTile& /*tile*/) const {}

    /// What this object keeps in memory, when that grows with the parameter.
    virtual std::uint64_t heldBytes() const { return 0; }
};

class Method {
public:
    virtual ~Method() = default;
    virtual const MethodInfo& info() const = 0;

    /// Whether the values make sense together. Asked for every tensor before any weight is read.
    virtual std::optional<ParameterProblem> check(const ResolvedParameters& values) const;

    /// Passes over the parameter as often as it needs to (not at all for element-wise methods).
    /// @pre check() found nothing
    virtual std::unique_ptr<PreparedParameter> prepare(ParameterReader& parameter,
                                                       const ResolvedParameters& values) const = 0;

    /// Whether prepare() passes over the parameter, whose values are then read more than once.
    virtual bool passesOver(const ResolvedParameters& /*values*/) const { return true; }

    /// Upper bound of the memory of prepare() and of what it returns, when that grows with the parameter.
    virtual std::uint64_t workingBytes(Role role, const Shape& shape, const ResolvedParameters& values) const;
};

/// All methods, in the order of `aimerge methods`.
const std::vector<const Method*>& methods();

/// @throws UsageError with the mark and the nearest name
const Method& findMethod(const std::string& name, const SourceMark& mark);

}  // namespace aimerge

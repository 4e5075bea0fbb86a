#pragma once
// A merge parameter as a mergekit config writes it: a scalar, a gradient over depth, or a list of {filter, value}.
// Resolution is a pure function of (setting, tensor name, depth fraction); the order in which the places of a config are
// asked stands in config/parameter_lookup.h.

#include <optional>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

namespace aimerge {

/// Where a value stands in the YAML file, for error messages. 1-based; line 0 = `file` is the whole name of the place
/// ("--set aim.omega=3").
struct SourceMark {
    std::string file;
    int line = 0;
    int column = 0;

    std::string text() const;  // "merge.yaml:12:7"
};

/// One scalar, kept as written: parameters of boolean and numeric type are converted when they are asked for.
struct Scalar {
    std::string text;
    SourceMark mark;
};

struct ConditionalValue {
    std::string filter;          // empty or "*" matches every tensor; else a substring of the tensor name
    std::vector<Scalar> values;  // one scalar, or a gradient
};

/// One parameter's setting. An empty list counts as absent.
struct ParameterSetting {
    std::vector<ConditionalValue> conditions;  // first match wins; a plain scalar or gradient is one unconditional entry
    SourceMark mark;
    std::string name;  // as messages have it: "models[1].parameters.weight"

    /// The first condition whose filter matches, nullptr when none does.
    const ConditionalValue* conditionFor(std::string_view tensorName) const;

    /// Linear interpolation between the values, spec: p = depth (k-1), (1-frac) s_i + frac s_j in double.
    /// nullopt when no filter matches. @pre 0 <= depth <= 1
    /// @throws UsageError with the mark when the text is not a number / not a boolean
    std::optional<double> number(std::string_view tensorName, double depth) const;
    /// The element at floor(depth (k-1)), for settings that are not interpolated; nullptr when no filter matches.
    const Scalar* scalar(std::string_view tensorName, double depth) const;
    /// scalar() as a boolean. Numeric settings count as true when not 0.
    std::optional<bool> boolean(std::string_view tensorName, double depth) const;
};

}  // namespace aimerge

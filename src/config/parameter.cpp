#include "aimerge/config/parameter.h"

#include "aimerge/core/error.h"
#include "config/scalar_text.h"

#include <algorithm>
#include <cmath>

namespace aimerge {
namespace {

double numberOf(const Scalar& scalar, const std::string& name) {
    const auto number = numberFromText(scalar.text);
    if (!number) throw UsageError("{}: {} must be a finite number, found '{}'", scalar.mark.text(), name, scalar.text);
    return *number;
}

bool booleanOf(const Scalar& scalar, const std::string& name) {
    if (const auto boolean = booleanFromText(scalar.text)) return *boolean;
    if (const auto number = numberFromText(scalar.text)) return *number != 0;
    throw UsageError("{}: {} must be true or false, found '{}'", scalar.mark.text(), name, scalar.text);
}

}  // namespace

std::string SourceMark::text() const {
    return line == 0 ? file : fmt::format("{}:{}:{}", file, line, column);
}

const ConditionalValue* ParameterSetting::conditionFor(std::string_view tensorName) const {
    for (const ConditionalValue& condition : conditions)
        if (condition.filter.empty() || condition.filter == "*" ||
            tensorName.find(condition.filter) != std::string_view::npos)
            return &condition;
    return nullptr;
}

std::optional<double> ParameterSetting::number(std::string_view tensorName, double depth) const {
    const ConditionalValue* condition = conditionFor(tensorName);
    if (condition == nullptr) return std::nullopt;
    const std::vector<Scalar>& values = condition->values;
    if (values.size() == 1) return numberOf(values[0], name);
    const double position = depth * static_cast<double>(values.size() - 1);
    const auto lower = static_cast<std::size_t>(position);
    const std::size_t upper = std::min(values.size() - 1, lower + 1);
    const double fraction = position - static_cast<double>(lower);
    return (1 - fraction) * numberOf(values[lower], name) + fraction * numberOf(values[upper], name);
}

const Scalar* ParameterSetting::scalar(std::string_view tensorName, double depth) const {
    const ConditionalValue* condition = conditionFor(tensorName);
    if (condition == nullptr) return nullptr;
    return &condition->values[static_cast<std::size_t>(depth * static_cast<double>(condition->values.size() - 1))];
}

std::optional<bool> ParameterSetting::boolean(std::string_view tensorName, double depth) const {
    const Scalar* decisive = scalar(tensorName, depth);
    return decisive == nullptr ? std::nullopt : std::optional(booleanOf(*decisive, name));
}

}  // namespace aimerge

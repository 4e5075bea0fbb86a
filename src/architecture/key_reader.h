#pragma once

#include "aimerge/core/error.h"

#include <nlohmann/json.hpp>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

namespace aimerge {

/// Reads typed values of one JSON object. `strict` is for types of models whose keys are known to have these types;
/// elsewhere a value of another type counts as absent.
class KeyReader {
public:
    using Json = nlohmann::ordered_json;

    KeyReader(const Json& object, std::string prefix, const std::string& fileName, bool strict)
        : object_(object), prefix_(std::move(prefix)), fileName_(fileName), strict_(strict) {}

    /// Null is the same as absent in transformers.
    const Json* find(const char* key) const {
        const auto value = object_.find(key);
        return value == object_.end() || value->is_null() ? nullptr : &*value;
    }

    bool has(const char* key) const { return object_.contains(key); }  // also as null

    std::int64_t count(const char* key, std::int64_t fallback) const {
        const Json* value = find(key);
        if (value == nullptr) return fallback;
        // What does not fit a positive int32 is no size of a model, and would overflow products.
        if (value->is_number_integer() && value->get<std::int64_t>() > 0 && value->get<std::int64_t>() <= INT32_MAX)
            return value->get<std::int64_t>();
        return refuse(key, *value, "a whole number of at least 1", fallback);
    }

    std::int64_t requiredCount(const char* key) const {
        if (strict_ && find(key) == nullptr)
            throw InputError("{}: {}{} is missing, expected a whole number of at least 1", fileName_, prefix_, key);
        return count(key, 0);
    }

    double positive(const char* key, double fallback) const {
        const Json* value = find(key);
        if (value == nullptr) return fallback;
        if (value->is_number() && value->get<double>() > 0 && std::isfinite(value->get<double>()))
            return value->get<double>();
        return refuse(key, *value, "a number above 0", fallback);
    }

    bool flag(const char* key, bool fallback) const {
        const Json* value = find(key);
        if (value == nullptr) return fallback;
        return value->is_boolean() ? value->get<bool>() : refuse(key, *value, "true or false", fallback);
    }

    std::string text(const char* key, const std::string& fallback) const {
        const Json* value = find(key);
        if (value == nullptr) return fallback;
        return value->is_string() ? value->get<std::string>() : refuse(key, *value, "a string", fallback);
    }

    std::vector<double> positives(const char* key) const {
        const Json* value = find(key);
        if (value == nullptr) return {};
        const auto isPositive = [](const Json& entry) {
            return entry.is_number() && entry.get<double>() > 0 && std::isfinite(entry.get<double>());
        };
        if (!value->is_array() || !std::all_of(value->begin(), value->end(), isPositive))
            return refuse(key, *value, "a list of numbers above 0", std::vector<double>());
        return value->get<std::vector<double>>();
    }

    /// A list of true and false, or of 1 and 0. @throws InputError when it has not this many entries
    std::vector<bool> flags(const char* key, std::int64_t entries) const;
    /// layer_types, if it is there. @throws InputError when it has not this many entries, or others than these two
    std::vector<std::string> layerTypes(std::int64_t layers) const;
    KeyReader section(const char* key) const { return {*find(key), prefix_ + key + ".", fileName_, strict_}; }

    /// @throws InputError: a value that is known, and that the decoder does not run
    template <typename Found>
    [[noreturn]] void cannotRun(const char* key, const Found& found, const std::string& runs) const {
        throw InputError("{}: {}{} is {}; the decoder runs {}", fileName_, prefix_, key, Json(found).dump(), runs);
    }

    void requireFalse(const char* key) const {
        if (flag(key, false)) cannotRun(key, true, "false only");
    }
    void requireTrue(const char* key) const {
        if (!flag(key, true)) cannotRun(key, false, "true only");
    }

    template <typename Value>
    Value refuse(const char* key, const Json& found, const char* expected, Value fallback) const {
        if (!strict_) return fallback;
        throw InputError("{}: {}{} is {}, expected {}", fileName_, prefix_, key,
                         found.dump(-1, ' ', false, Json::error_handler_t::replace), expected);
    }

    const std::string& fileName() const { return fileName_; }
    bool isStrict() const { return strict_; }

private:
    const Json& object_;
    std::string prefix_;
    const std::string& fileName_;
    bool strict_;
};

}  // namespace aimerge

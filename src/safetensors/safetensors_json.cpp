#include "safetensors/safetensors_json.h"

#include "aimerge/core/error.h"
#include "aimerge/safetensors/safetensors.h"

#include <nlohmann/json.hpp>

#include <algorithm>
#include <utility>

namespace aimerge {
namespace {

constexpr const char* kMetadataKey = "__metadata__";

// The parser quotes what it has read of a token, which may be the whole header.
constexpr std::size_t kMaxDetail = 200;

/// Receives the header's tokens in order. A callback that returns false has set fault_, and the parser stops.
class HeaderReader final : public nlohmann::json_sax<nlohmann::json> {
public:
    bool start_object(std::size_t) override {
        switch (state_) {
            case State::Start:
                state_ = State::TopLevel;
                return true;
            case State::EntryValue:
                beginEntry();
                return true;
            case State::MetadataValue:
                state_ = State::Metadata;
                return true;
            default:
                return unexpected("an object");
        }
    }

    bool end_object() override {
        switch (state_) {
            case State::Metadata:
                state_ = State::TopLevel;
                return true;
            case State::Entry:
                return endEntry();
            default:
                state_ = State::End;
                return true;
        }
    }

    bool key(string_t& name) override {
        switch (state_) {
            case State::TopLevel:
                return topLevelKey(name);
            case State::Metadata:
                return metadataKey(name);
            default:
                return entryKey(name);
        }
    }

    bool string(string_t& text) override {
        switch (state_) {
            case State::Dtype:
                entry().dtype = std::move(text);
                state_ = State::Entry;
                return true;
            case State::MetadataText:
                *metadataText_ = std::move(text);
                state_ = State::Metadata;
                return true;
            default:
                return unexpected("a string");
        }
    }

    bool start_array(std::size_t) override {
        switch (state_) {
            case State::ShapeValue:
                state_ = State::Shape;
                return true;
            case State::OffsetsValue:
                state_ = State::Offsets;
                return true;
            default:
                return unexpected("a list");
        }
    }

    bool end_array() override {
        if (state_ == State::Offsets && offsets_ != 2)
            return fail("data_offsets of tensor {} has {} numbers, expected 2: begin and end", entry().name, offsets_);
        state_ = State::Entry;
        return true;
    }

    bool number_unsigned(number_unsigned_t value) override {
        if (state_ == State::Shape) {
            if (entry().shape.size() == kMaxDimensions)
                return fail("tensor {} has more than {} dimensions", entry().name, kMaxDimensions);
            entry().shape.push_back(value);
            return true;
        }
        if (state_ != State::Offsets) return unexpected("a number");
        if (offsets_ < 2) entry().dataOffsets[offsets_] = value;
        ++offsets_;
        return true;
    }

    bool number_integer(number_integer_t value) override { return badNumber(std::to_string(value)); }
    bool number_float(number_float_t, const string_t& text) override { return badNumber(text); }
    bool null() override { return unexpected("null"); }
    bool boolean(bool value) override { return unexpected(value ? "true" : "false"); }
    bool binary(binary_t&) override { return unexpected("binary data"); }

    bool parse_error(std::size_t position, const std::string&, const nlohmann::detail::exception& error) override {
        // "[json.exception.parse_error.101] parse error at line 1, column 7: syntax error while ..."
        const std::string_view text = error.what();
        const std::size_t detail = text.find(": ");
        return fail("not valid JSON at byte {} of the header: {}", position,
                    text.substr(detail == std::string_view::npos ? 0 : detail + 2, kMaxDetail));
    }

    const std::string& fault() const { return fault_; }

    /// Looked for once, at the end: a set of a million names would cost more than the parsing.
    bool namesAreDistinct() {
        std::vector<std::string_view> names;
        names.reserve(result_.tensors.size());
        for (const TensorEntry& tensor : result_.tensors) names.push_back(tensor.name);
        std::sort(names.begin(), names.end());
        const auto twice = std::adjacent_find(names.begin(), names.end());
        return twice == names.end() || fail("tensor {} is listed twice", *twice);
    }

    SafetensorsJson takeResult() { return std::move(result_); }

private:
    /// "...Value": a key was read, its value is next.
    enum class State {
        Start,
        TopLevel,
        EntryValue,
        MetadataValue,
        Metadata,
        MetadataText,
        Entry,
        Dtype,
        ShapeValue,
        Shape,
        OffsetsValue,
        Offsets,
        End
    };

    TensorEntry& entry() { return result_.tensors.back(); }

    template <typename... Args>
    bool fail(fmt::format_string<Args...> text, Args&&... args) {
        fault_ = fmt::format(text, std::forward<Args>(args)...);
        return false;
    }

    std::string place() const {
        switch (state_) {
            case State::Start:
            case State::TopLevel:
            case State::End:
                return "the header";
            case State::MetadataValue:
            case State::Metadata:
                return kMetadataKey;
            case State::MetadataText:
                return std::string(kMetadataKey) + "." + metadataKey_;
            case State::EntryValue:
                return "tensor " + entryName_;
            case State::Dtype:
                return "dtype of tensor " + entryName_;
            case State::ShapeValue:
            case State::Shape:
                return "shape of tensor " + entryName_;
            case State::OffsetsValue:
            case State::Offsets:
                return "data_offsets of tensor " + entryName_;
            case State::Entry:
                break;
        }
        return "tensor " + entryName_;
    }

    std::string expected() const {
        switch (state_) {
            case State::Dtype:
            case State::MetadataText:
                return "a string";
            case State::ShapeValue:
            case State::OffsetsValue:
                return "a list of whole numbers";
            case State::Shape:
            case State::Offsets:
                return "a whole number of at least 0";
            default:
                return "an object";
        }
    }

    bool unexpected(std::string_view found) { return fail("{} is {}, expected {}", place(), found, expected()); }

    bool badNumber(const std::string& text) {
        if (state_ != State::Shape && state_ != State::Offsets) return unexpected("a number");
        return fail("{} has {}, expected whole numbers from 0 to 2^63-1", place(), text);
    }

    bool topLevelKey(string_t& name) {
        if (name == kMetadataKey) {
            if (std::exchange(metadataSeen_, true)) return fail("{} is written twice", kMetadataKey);
            state_ = State::MetadataValue;
        } else {
            entryName_ = std::move(name);
            state_ = State::EntryValue;
        }
        return true;
    }

    bool metadataKey(string_t& name) {
        const auto [text, isNew] = result_.metadata.try_emplace(name);
        if (!isNew) return fail("{} has the key {} twice", kMetadataKey, name);
        metadataText_ = &text->second;
        metadataKey_ = std::move(name);
        state_ = State::MetadataText;
        return true;
    }

    void beginEntry() {
        result_.tensors.emplace_back().name = entryName_;
        dtypeSeen_ = shapeSeen_ = offsetsSeen_ = false;
        offsets_ = 0;
        state_ = State::Entry;
    }

    bool entryKey(const string_t& name) {
        bool* seen = nullptr;
        if (name == "dtype") {
            seen = &dtypeSeen_;
            state_ = State::Dtype;
        } else if (name == "shape") {
            seen = &shapeSeen_;
            state_ = State::ShapeValue;
        } else if (name == "data_offsets") {
            seen = &offsetsSeen_;
            state_ = State::OffsetsValue;
        } else {
            return fail("tensor {} has the unknown key {}, expected dtype, shape and data_offsets", entryName_, name);
        }
        if (std::exchange(*seen, true)) return fail("tensor {} has the key {} twice", entryName_, name);
        return true;
    }

    bool endEntry() {
        const char* missing = !dtypeSeen_ ? "dtype" : !shapeSeen_ ? "shape" : !offsetsSeen_ ? "data_offsets" : nullptr;
        if (missing != nullptr) return fail("tensor {} has no {}", entryName_, missing);
        state_ = State::TopLevel;
        return true;
    }

    State state_ = State::Start;
    SafetensorsJson result_;
    std::string entryName_, metadataKey_;
    std::string* metadataText_ = nullptr;
    std::size_t offsets_ = 0;
    bool metadataSeen_ = false, dtypeSeen_ = false, shapeSeen_ = false, offsetsSeen_ = false;
    std::string fault_;
};

}  // namespace

SafetensorsJson readSafetensorsJson(std::string_view json, const std::string& fileName) {
    if (json.empty() || json.front() != '{')
        throw InputError(
            "{}: the header does not begin with '{{'; this is not a safetensors file, or its beginning is damaged",
            fileName);
    // The parser takes a NUL between values for the end of its input.
    if (const std::size_t nul = json.find('\0'); nul != std::string_view::npos)
        throw InputError("{}: not valid JSON at byte {} of the header: a NUL byte", fileName, nul);
    HeaderReader reader;
    if (!nlohmann::json::sax_parse(json.begin(), json.end(), &reader) || !reader.namesAreDistinct())
        throw InputError("{}: {}", fileName, reader.fault());
    return reader.takeResult();
}

}  // namespace aimerge

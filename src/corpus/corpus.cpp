#include "aimerge/corpus/corpus.h"

#include "aimerge/core/error.h"
#include "corpus/text_stream.h"
#include "core/utf8.h"

#include <nlohmann/json.hpp>

#include <algorithm>
#include <memory>
#include <numeric>

namespace aimerge {
namespace {

enum class Format { Text, JsonLines };

/// By the file name: x.txt, x.jsonl, x.txt.zst, x.jsonl.zst.
Format formatOf(const std::filesystem::path& path) {
    const std::filesystem::path extension = path.extension() == ".zst" ? path.stem().extension() : path.extension();
    if (extension == ".txt") return Format::Text;
    if (extension == ".jsonl") return Format::JsonLines;
    throw InputError("{}: a corpus is a .txt or .jsonl file, either also as .zst; rename the file to say which it is",
                     path.string());
}

std::string keysText(const nlohmann::json& object) {
    std::string text;
    for (const auto& [key, value] : object.items()) text += (text.empty() ? "" : ", ") + key;
    return text.empty() ? "none" : text;
}

/// @param where "corpus.jsonl:17"
std::string textOfJsonLine(const std::string& line, const std::vector<std::string>& keys, const std::string& where) {
    nlohmann::json object;
    try {
        object = nlohmann::json::parse(line);
    } catch (const nlohmann::json::exception& error) {
        throw InputError("{}: the line is not valid JSON: {}", where, error.what());
    }
    if (!object.is_object()) throw InputError("{}: the line is not a JSON object", where);
    std::string text;
    for (const std::string& key : keys) {
        const auto found = object.find(key);
        if (found == object.end())
            throw InputError("{}: the line has no key '{}' (its keys: {}); name the key of the text in calibration.text_key",
                             where, key, keysText(object));
        if (!found->is_string()) throw InputError("{}: '{}' is {}, a text was expected", where, key, found->type_name());
        text += found->get_ref<const std::string&>();
    }
    return text;
}

bool isBlank(const std::string& line) {
    return line.find_first_not_of(" \t\r") == std::string::npos;
}

}  // namespace

Corpus Corpus::open(const std::filesystem::path& path, const std::vector<std::string>& textKeys, TextUnit unit) {
    const Format format = formatOf(path);
    const bool wholeFile = format == Format::Text && unit == TextUnit::WholeFile;
    Corpus corpus;
    corpus.path_ = path;
    if (format == Format::JsonLines) corpus.textKeys_ = textKeys;

    const std::unique_ptr<TextStream> stream = openTextStream(path);
    LineReader reader(*stream);
    std::string line;
    std::uint64_t textBytes = 0;
    while (reader.next(line)) {
        textBytes = reader.offset() + line.size() + (reader.endedByBreak() ? 1 : 0);
        const auto where = [&] { return fmt::format("{}:{}", path.string(), reader.number()); };
        if (format == Format::JsonLines) {
            if (isBlank(line)) continue;
            textOfJsonLine(line, textKeys, where());
        } else if (const auto invalid = firstInvalidUtf8(line)) {
            throw InputError("{}: not valid UTF-8 at byte {} of the line; convert the file to UTF-8", where(), *invalid + 1);
        }
        if (!wholeFile) corpus.places_.push_back({reader.offset(), line.size()});
    }
    if (wholeFile && textBytes > 0) corpus.places_.push_back({0, textBytes});
    return corpus;
}

std::string Corpus::textOf(std::string raw) const {
    return textKeys_.empty() ? std::move(raw) : textOfJsonLine(raw, textKeys_, path_.string());
}

std::vector<std::string> Corpus::read(const std::vector<std::size_t>& documents) const {
    std::vector<std::size_t> byOffset(documents.size());
    std::iota(byOffset.begin(), byOffset.end(), std::size_t{0});
    std::sort(byOffset.begin(), byOffset.end(), [&](std::size_t a, std::size_t b) { return documents[a] < documents[b]; });

    std::vector<std::string> texts(documents.size());
    const std::unique_ptr<TextStream> stream = openTextStream(path_);
    std::uint64_t position = 0;
    for (const std::size_t index : byOffset) {
        const Place& place = places_.at(documents[index]);
        stream->skip(place.offset - position);
        std::string raw(place.bytes, '\0');
        if (stream->read(raw) != raw.size())
            throw InputError("{}: the file became shorter while it was read", path_.string());
        position = place.offset + place.bytes;
        texts[index] = textOf(std::move(raw));
    }
    return texts;
}

std::string Corpus::readBeginning(std::size_t document, std::uint64_t limit) const {
    const Place& place = places_.at(document);
    const bool isJson = !textKeys_.empty();
    const std::unique_ptr<TextStream> stream = openTextStream(path_);
    stream->skip(place.offset);
    std::string text(isJson ? place.bytes : std::min<std::uint64_t>(place.bytes, limit), '\0');
    if (stream->read(text) != text.size()) throw InputError("{}: the file became shorter while it was read", path_.string());
    const bool isCut = text.size() < place.bytes;
    text = textOf(std::move(text));
    if (!isCut && text.size() <= limit) return text;
    const std::size_t bytes = std::min<std::size_t>(text.size(), limit);
    const std::size_t lineBreak = bytes == 0 ? std::string::npos : text.rfind('\n', bytes - 1);
    if (lineBreak != std::string::npos) return text.substr(0, lineBreak + 1);
    return std::string(wholeCharacters(std::string_view(text).substr(0, bytes)));
}

}  // namespace aimerge

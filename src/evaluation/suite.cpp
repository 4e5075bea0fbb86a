#include "aimerge/evaluation/suite.h"

#include "aimerge/core/error.h"
#include "aimerge/core/file.h"

#include <nlohmann/json.hpp>

#include <algorithm>
#include <limits>
#include <map>
#include <set>
#include <string_view>

namespace aimerge {
namespace {

using Json = nlohmann::json;

/// One line of a suite.
class ItemReader {
public:
    ItemReader(std::string place, const std::string& line) : place_(std::move(place)) {
        try {
            line_ = Json::parse(line);
        } catch (const Json::exception& error) {
            throw InputError("{}: not JSON: {}", place_, error.what());
        }
        if (!line_.is_object()) throw InputError("{}: expected an object with the keys of an item", place_);
    }

    SuiteItem read() {
        SuiteItem item;
        item.place = place_;
        item.task = stringAt("task");
        if (item.task.empty()) throw InputError("{}: task is empty", place_);
        if (has("text") || has("text_ids")) {
            item.kind = ItemKind::Text;
            item.continuations = {textAt("text", "text_ids")};
        } else if (has("choices") || has("answer")) {
            readChoices(item);
        } else {
            item.context = textAt("prompt", "context_ids");
            item.continuations = {textAt("target", "continuation_ids")};
        }
        for (const auto& [key, value] : line_.items())
            if (!known_.contains(key)) throw InputError("{}: unknown key \"{}\"", place_, key);
        for (const SuiteText& continuation : item.continuations)
            if (continuation.isEncoded ? continuation.ids.empty() : continuation.text.empty())
                throw InputError("{}: a {} is empty", place_, nameOf(item.kind));
        return item;
    }

private:
    static const char* nameOf(ItemKind kind) {
        switch (kind) {
            case ItemKind::Continuation:
                return "target";
            case ItemKind::Choices:
                return "choice";
            case ItemKind::Text:
                break;
        }
        return "text";
    }

    bool has(const char* key) const { return line_.contains(key); }

    const Json& at(const char* key) {
        known_.insert(key);
        const auto found = line_.find(key);
        if (found == line_.end()) throw InputError("{}: has no key \"{}\"", place_, key);
        return *found;
    }

    std::string stringAt(const char* key) { return asString(at(key), key); }

    std::string asString(const Json& value, const char* key) const {
        if (!value.is_string()) throw InputError("{}: {} is {}, expected a string", place_, key, value.dump());
        return value.get<std::string>();
    }

    std::vector<std::int32_t> asIds(const Json& value, const char* key) const {
        std::vector<std::int32_t> ids;
        const auto bad = [&](const Json& found) {
            return InputError("{}: {}: {} is no token id", place_, key, found.dump());
        };
        if (!value.is_array()) throw bad(value);
        for (const Json& id : value) {
            if (!id.is_number_unsigned() || id.get<std::uint64_t>() > std::numeric_limits<std::int32_t>::max())
                throw bad(id);
            ids.push_back(id.get<std::int32_t>());
        }
        return ids;
    }

    /// The text, or the ids that stand for it.
    SuiteText textAt(const char* textKey, const char* idsKey) {
        if (!has(idsKey)) return {stringAt(textKey), {}, false};
        if (has(textKey)) throw InputError("{}: has both \"{}\" and \"{}\"; keep one", place_, textKey, idsKey);
        return {{}, asIds(at(idsKey), idsKey), true};
    }

    void readChoices(SuiteItem& item) {
        item.kind = ItemKind::Choices;
        item.context = textAt("prompt", "context_ids");
        const bool isEncoded = has("continuation_ids");
        const char* const key = isEncoded ? "continuation_ids" : "choices";
        const Json& choices = at(key);
        if (!choices.is_array() || choices.size() < 2)
            throw InputError("{}: {} is {}, expected a list of at least two", place_, key, choices.dump());
        for (const Json& choice : choices)
            item.continuations.push_back(isEncoded ? SuiteText{{}, asIds(choice, key), true}
                                                   : SuiteText{asString(choice, key), {}, false});
        const Json& answer = at("answer");
        if (!answer.is_number_unsigned() || answer.get<std::uint64_t>() >= choices.size())
            throw InputError("{}: answer is {}, expected the number of a choice, 0 to {}", place_, answer.dump(),
                             choices.size() - 1);
        item.answer = answer.get<std::size_t>();
    }

    std::string place_;
    Json line_;
    std::set<std::string> known_;
};

void requireOneKind(const std::vector<SuiteItem>& items) {
    std::map<std::string, const SuiteItem*> first;
    for (const SuiteItem& item : items) {
        const SuiteItem& other = *first.emplace(item.task, &item).first->second;
        if (other.kind != item.kind)
            throw InputError("{}: task {} has items of another kind at {}; give them another task name", item.place,
                             item.task, other.place);
    }
}

}  // namespace

std::vector<SuiteItem> readSuite(const std::filesystem::path& path) {
    const std::string content = readTextFile(path);
    std::vector<SuiteItem> items;
    if (path.extension() == ".txt") {
        if (content.empty()) throw InputError("{}: is empty", path.string());
        items.push_back({.task = path.stem().string(),
                         .kind = ItemKind::Text,
                         .place = path.string(),
                         .context = {},
                         .continuations = {{content, {}, false}}});
        return items;
    }
    if (path.extension() != ".jsonl")
        throw InputError("{}: a suite is a .jsonl file of items or a .txt file that is one text", path.string());
    std::size_t number = 0;
    for (std::size_t begin = 0; begin < content.size();) {
        const std::size_t end = std::min(content.find('\n', begin), content.size());
        const std::string line = content.substr(begin, end - begin);
        begin = end + 1;
        ++number;
        if (line.find_first_not_of(" \t\r") == std::string::npos) continue;
        items.push_back(ItemReader(fmt::format("{}:{}", path.string(), number), line).read());
    }
    if (items.empty()) throw InputError("{}: has no items", path.string());
    requireOneKind(items);
    return items;
}

std::vector<SuiteItem> readSuites(const std::vector<std::string>& paths) {
    std::vector<SuiteItem> all;
    std::map<std::string, std::string> fileOf;
    for (const std::string& path : paths) {
        std::vector<SuiteItem> items = readSuite(path);
        for (const SuiteItem& item : items) {
            const auto [known, isNew] = fileOf.emplace(item.task, path);
            if (known->second != path)
                throw InputError("{}: task {} is also in {}; give one of them another name", item.place, item.task,
                                 known->second);
        }
        std::ranges::move(items, std::back_inserter(all));
    }
    return all;
}

}  // namespace aimerge

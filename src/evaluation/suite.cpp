#include "aimerge/evaluation/suite.h"

#include "aimerge/core/error.h"
#include "aimerge/corpus/corpus_files.h"
#include "aimerge/corpus/rows.h"

#include <nlohmann/json.hpp>

#include <algorithm>
#include <filesystem>
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
    ItemReader(const std::string& line, std::string place) : place_(std::move(place)) {
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
        if (!has("prompts")) item.context = textAt("prompt", "context_ids");
        const bool isEncoded = has("continuation_ids");
        const char* const key = isEncoded ? "continuation_ids" : "choices";
        const Json& choices = at(key);
        if (!choices.is_array() || choices.size() < 2)
            throw InputError("{}: {} is {}, expected a list of at least two", place_, key, choices.dump());
        for (const Json& choice : choices)
            item.continuations.push_back(isEncoded ? SuiteText{{}, asIds(choice, key), true}
                                                   : SuiteText{asString(choice, key), {}, false});
        if (has("prompts")) {
            for (const Json& prompt : listPerChoice("prompts", choices.size()))
                item.ownContexts.push_back({asString(prompt, "prompts"), {}, false});
        }
        if (has("lengths")) {
            for (const Json& length : listPerChoice("lengths", choices.size())) {
                if (!length.is_number() || length.get<double>() <= 0)
                    throw InputError("{}: lengths: {} is no number above 0", place_, length.dump());
                item.lengths.push_back(length.get<double>());
            }
        }
        const Json& answer = at("answer");
        if (!answer.is_number_unsigned() || answer.get<std::uint64_t>() >= choices.size())
            throw InputError("{}: answer is {}, expected the number of a choice, 0 to {}", place_, answer.dump(),
                             choices.size() - 1);
        item.answer = answer.get<std::size_t>();
    }

    const Json& listPerChoice(const char* key, std::size_t choices) {
        const Json& list = at(key);
        if (!list.is_array() || list.size() != choices)
            throw InputError("{}: {} is {}, expected a list of {}, one per choice", place_, key, list.dump(), choices);
        return list;
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

/// "general" of general.txt and general.txt.gz.
std::string taskOf(const std::filesystem::path& file) {
    const std::filesystem::path stem = file.stem();
    return stem.extension() == ".txt" ? stem.stem().string() : stem.string();
}

}  // namespace

std::vector<SuiteItem> readSuite(const std::string& path) {
    std::vector<SuiteItem> items;
    for (const std::filesystem::path& file : corpusFiles(path)) {
        if (textFormatOf(file) != TextFormat::Text) {
            forEachRow(file, [&](const std::string& row, const std::string& place) {
                items.push_back(ItemReader(row, place).read());
            });
            continue;
        }
        std::string content = readWholeText(file);
        if (content.empty()) throw InputError("{}: is empty", file.string());
        SuiteItem& item = items.emplace_back();
        item.task = taskOf(file);
        item.kind = ItemKind::Text;
        item.place = file.string();
        item.continuations = {{std::move(content), {}, false}};
    }
    if (items.empty()) throw InputError("{}: has no items", path);
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

#include "config/documents.h"

#include "aimerge/core/error.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <map>
#include <set>
#include <string_view>

namespace aimerge {
namespace {

/// Calls visit(std::string&) with everything that names a model; some of it may be empty.
template <typename Config, typename Visit>
void forEachModel(Config& config, const Visit& visit) {
    for (auto& slice : config.slices) {
        for (auto& source : slice.sources) visit(source.model);
        visit(slice.baseModel);
    }
    visit(config.baseModel);
    if (config.featcal)
        for (auto& expert : config.featcal->experts) visit(expert.model);
    if (config.featcal && config.featcal->base) visit(config.featcal->base->model);
    visit(config.vocabulary.model);
    for (auto& [text, token] : config.vocabulary.tokens)
        if (token) visit(token->model);
}

bool refersTo(const MergeConfig& config, const std::string& documentName) {
    bool found = false;
    forEachModel(config, [&](const std::string& model) { found = found || refersToDocument(model, documentName); });
    return found;
}

/// The text so that it can stand behind or before others in one file.
void append(std::string& text, const std::string& document) {
    if (!text.empty() && !text.ends_with('\n')) text += '\n';
    if (!text.empty() && splitDocuments("before: it\n" + document).size() == 1) text += "---\n";
    text += document;
}

/// @param uses by index: the documents that each uses itself
/// @param placed those that come before
[[noreturn]] void refuseCircle(const std::vector<MergeConfig>& documents, const std::vector<std::vector<std::size_t>>& uses,
                               const std::vector<std::size_t>& placed, std::size_t first) {
    std::vector<std::size_t> path{first};
    const auto isLeft = [&](std::size_t i) { return std::ranges::find(placed, i) == placed.end(); };
    while (std::ranges::count(path, path.back()) == 1) path.push_back(*std::ranges::find_if(uses[path.back()], isLeft));
    std::vector<std::string> circle;
    for (auto i = std::ranges::find(path, path.back()); i + 1 != path.end(); ++i)
        circle.push_back(fmt::format("'{}' uses '{}'", documents[*i].name, documents[*(i + 1)].name));
    throw UsageError("{}: documents cannot be made from each other in a circle: {} (a folder of that name is ./{})",
                     documents[path.back()].nameMark.text(), fmt::join(circle, ", "), documents[path.back()].name);
}

}  // namespace

void checkUsableDocument(const MergeConfig& config) {
    if (config.name.front() == '.' || config.name.find_first_of(std::string_view("/+\0", 3)) != std::string::npos)
        throw UsageError(
            "{}: name becomes a folder and stands for a model: it cannot begin with '.' nor have '/' or '+' in "
            "it, found '{}'",
            config.nameMark.text(), config.name);
    if (config.aim && config.aim->omegaIsList)
        throw UsageError("{}: aim.omega is a list, but this document is made for others and has one result; give one value",
                         config.aim->mark.text());
}

std::optional<std::size_t> documentWithoutName(const std::vector<YamlNode>& documents,
                                               const std::vector<SourceMark>& begins) {
    std::optional<std::size_t> nameless;
    std::map<std::string, SourceMark> names;
    for (std::size_t i = 0; i < documents.size(); ++i) {
        const YamlEntry* const name = documents[i].find("name");
        if (name == nullptr || name->value.text.empty()) {
            if (nameless)
                throw UsageError(
                    "{}: this document needs a 'name', by which others can use it; the result alone goes "
                    "without, and there is another one at {}",
                    begins[*nameless].text(), begins[i].text());
            nameless = i;
        } else if (const auto [known, isNew] = names.emplace(name->value.text, name->value.mark); !isNew) {
            throw UsageError("{}: the name '{}' is taken, by the document with {}", name->value.mark.text(),
                             name->value.text, known->second.text());
        }
    }
    return nameless;
}

bool isUsed(const std::string& documentName, const std::vector<MergeConfig>& documents) {
    return std::ranges::any_of(documents, [&](const MergeConfig& document) {
        return document.name != documentName && refersTo(document, documentName);
    });
}

std::optional<std::size_t> unusedDocument(const std::vector<MergeConfig>& documents) {
    std::optional<std::size_t> unused;
    for (std::size_t i = 0; i < documents.size(); ++i) {
        if (isUsed(documents[i].name, documents)) continue;
        if (unused)
            throw UsageError(
                "{}: no other document uses '{}', and none uses '{}'; the result of the file goes without a 'name'",
                documents[i].nameMark.text(), documents[i].name, documents[*unused].name);
        unused = i;
    }
    return unused;
}

std::vector<MergeConfig> inOrderOfUse(std::vector<MergeConfig> documents, std::size_t result) {
    std::vector<std::vector<std::size_t>> uses(documents.size());
    for (std::size_t i = 0; i < documents.size(); ++i)
        for (std::size_t j = 0; j < documents.size(); ++j)
            if (!documents[j].name.empty() && refersTo(documents[i], documents[j].name)) uses[i].push_back(j);

    std::vector<std::size_t> order;
    const auto isPlaced = [&](std::size_t i) { return std::ranges::find(order, i) != order.end(); };
    while (order.size() < documents.size()) {
        const bool onlyResultIsLeft = order.size() + 1 == documents.size();
        std::optional<std::size_t> next, left;
        for (std::size_t i = 0; i < documents.size() && !next; ++i) {
            if (isPlaced(i) || (i == result && !onlyResultIsLeft)) continue;
            if (!left) left = i;
            if (std::ranges::all_of(uses[i], isPlaced)) next = i;
        }
        if (!next) refuseCircle(documents, uses, order, *left);
        order.push_back(*next);
    }

    std::vector<MergeConfig> ordered;
    std::vector<std::set<std::size_t>> used;  // by each, directly or through others, as places in the order
    for (const std::size_t i : order) {
        std::set<std::size_t>& all = used.emplace_back();
        for (const std::size_t j : uses[i]) {
            const auto place = static_cast<std::size_t>(std::ranges::find(order, j) - order.begin());
            all.insert(place);
            all.insert(used[place].begin(), used[place].end());
        }
        MergeConfig& document = ordered.emplace_back(documents[i]);
        document.text.clear();
        for (const std::size_t place : all) {
            document.uses.push_back(ordered[place].name);
            append(document.text, documents[order[place]].text);
        }
        append(document.text, documents[i].text);
    }
    return ordered;
}

bool refersToDocument(const std::string& model, const std::string& documentName) {
    return model.starts_with(documentName) && (model.size() == documentName.size() || model[documentName.size()] == '+');
}

MergeConfig withModels(const std::function<std::string(const std::string& model)>& rename, MergeConfig config) {
    forEachModel(config, [&](std::string& model) {
        if (!model.empty()) model = rename(model);
    });
    return config;
}

MergeConfig withDocumentsIn(const std::filesystem::path& folder, MergeConfig config) {
    const auto resultOf = [&, uses = config.uses](const std::string& model) {
        const auto isNamed = [&](const std::string& document) { return refersToDocument(model, document); };
        return std::ranges::any_of(uses, isNamed) ? (folder / model).string() : model;
    };
    config = withModels(resultOf, std::move(config));
    config.documentsFolder = folder;
    return config;
}

std::string MergeConfig::nameInFile(const std::string& model) const {
    const std::string folder = documentsFolder.string() + "/";
    return !documentsFolder.empty() && model.starts_with(folder) ? model.substr(folder.size()) : model;
}

}  // namespace aimerge

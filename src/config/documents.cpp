#include "config/documents.h"

#include "aimerge/core/error.h"

#include <algorithm>
#include <set>

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

}  // namespace

void checkEarlierDocument(const MergeConfig& config, const SourceMark& begin) {
    if (config.name.empty())
        throw UsageError("{}: this document needs a 'name', by which a later one can use it; the last alone goes without",
                         begin.text());
    if (config.name.front() == '.' || config.name.find_first_of(std::string_view("/+\0", 3)) != std::string::npos)
        throw UsageError(
            "{}: name becomes a folder and stands for a model: it cannot begin with '.' nor have '/' or '+' in "
            "it, found '{}'",
            config.nameMark.text(), config.name);
    if (config.aim && config.aim->omegaIsList)
        throw UsageError("{}: aim.omega is a list, but this document, as others follow it, has one result; give one value",
                         config.aim->mark.text());
}

void linkDocuments(std::vector<MergeConfig>& documents) {
    std::vector<std::string> ownTexts;
    std::vector<std::set<std::size_t>> used;  // by each, directly or through others
    for (MergeConfig& document : documents) {
        ownTexts.push_back(document.text);
        std::set<std::size_t>& uses = used.emplace_back();
        for (std::size_t i = 0; i + 1 < used.size(); ++i) {
            if (documents[i].name == document.name)
                throw UsageError("{}: the name '{}' is taken, by the document with {}", document.nameMark.text(),
                                 document.name, documents[i].nameMark.text());
            if (!refersTo(document, documents[i].name)) continue;
            uses.insert(i);
            uses.insert(used[i].begin(), used[i].end());
        }
        document.text.clear();
        for (const std::size_t i : uses) {
            document.uses.push_back(documents[i].name);
            document.text += ownTexts[i];
        }
        document.text += ownTexts.back();
    }
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

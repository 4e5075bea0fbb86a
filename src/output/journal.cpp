#include "aimerge/output/journal.h"

#include "aimerge/core/revision.h"

#include <fmt/format.h>
#include <spdlog/spdlog.h>
#include <nlohmann/json.hpp>

#include <map>
#include <optional>
#include <tuple>

namespace aimerge {
namespace {

constexpr std::string_view kPrefix = "journal-", kExtension = ".jsonl";
constexpr const char* kRevisionKey = "journal";

std::optional<FinishedTensor> parseLine(std::string_view line) {
    const auto entry = nlohmann::json::parse(line, nullptr, false);
    if (!entry.is_object()) return std::nullopt;
    for (const char* key : {"folder", "tensor", "digest"}) {
        if (!entry.contains(key) || !entry[key].is_string()) return std::nullopt;
    }
    const std::optional<Digest> digest = Digest::fromHex(entry["digest"].get_ref<const std::string&>());
    if (!digest) return std::nullopt;
    return FinishedTensor{entry["folder"], entry["tensor"], *digest};
}

/// 0 where the file has no line that says it.
int revisionOf(std::string_view text) {
    const auto line = nlohmann::json::parse(text.substr(0, text.find('\n')), nullptr, false);
    const bool saysRevision = line.is_object() && line.contains(kRevisionKey) && line[kRevisionKey].is_number_integer();
    return saysRevision ? line[kRevisionKey].get<int>() : 0;
}

bool isKnown(int number) {
    return number >= 0 && number <= revision::kJournal;
}

/// A file to append to; empty when its contents were of a revision that is not known.
File openKnown(const std::filesystem::path& path) {
    const bool hasUnknown = std::filesystem::exists(path) && !isKnown(revisionOf(readTextFile(path)));
    File file = File::openForWriting(path);
    if (hasUnknown) file.resize(0);
    return file;
}

}  // namespace

std::string journalText(const std::vector<FinishedTensor>& tensors) {
    std::string text;
    for (const FinishedTensor& tensor : tensors) {
        const nlohmann::ordered_json line = {
            {"folder", tensor.folder}, {"tensor", tensor.tensor}, {"digest", tensor.digest.hex()}};
        text += line.dump() + "\n";
    }
    return text;
}

std::vector<FinishedTensor> parseJournal(std::string_view text) {
    std::vector<FinishedTensor> tensors;
    for (std::size_t begin = 0; begin < text.size();) {
        const std::size_t end = text.find('\n', begin);
        if (end == std::string_view::npos) break;  // torn: the writer ended within this line
        if (std::optional<FinishedTensor> tensor = parseLine(text.substr(begin, end - begin))) tensors.push_back(*tensor);
        begin = end + 1;
    }
    return tensors;
}

std::vector<FinishedTensor> readJournals(const std::filesystem::path& partialFolder) {
    std::map<std::tuple<std::string, std::string>, std::optional<Digest>> claims;  // nullopt: they differ
    for (const auto& entry : std::filesystem::directory_iterator(partialFolder)) {
        const std::string name = entry.path().filename().string();
        if (!name.starts_with(kPrefix) || !name.ends_with(kExtension)) continue;
        const std::string text = readTextFile(entry.path());
        if (const int number = revisionOf(text); !isKnown(number)) {
            spdlog::warn("{}: a journal of revision {}, this version reads up to {}; what it lists is merged again",
                         entry.path().string(), number, revision::kJournal);
            continue;
        }
        for (const FinishedTensor& tensor : parseJournal(text)) {
            const auto [claim, isNew] = claims.try_emplace({tensor.folder, tensor.tensor}, tensor.digest);
            if (!isNew && claim->second != tensor.digest) claim->second.reset();
        }
    }
    std::vector<FinishedTensor> tensors;
    for (const auto& [key, digest] : claims) {
        if (digest) tensors.push_back({std::get<0>(key), std::get<1>(key), *digest});
    }
    return tensors;
}

Journal::Journal(const std::filesystem::path& partialFolder, int rank)
    : file_(openKnown(partialFolder / fmt::format("{}{}{}", kPrefix, rank, kExtension))) {
    // Sets a torn last line of an earlier run apart from what follows.
    if (file_.size() > 0)
        file_.append("\n");
    else
        file_.append(nlohmann::json{{kRevisionKey, revision::kJournal}}.dump() + "\n");
}

void Journal::record(const FinishedTensor& tensor) {
    const std::string line = journalText({tensor});
    const std::scoped_lock lock(mutex_);
    file_.append(line);
}

}  // namespace aimerge

#include "aimerge/checkpoint/hub_cache.h"

#include "aimerge/core/error.h"
#include "aimerge/core/file.h"

#include <algorithm>
#include <array>
#include <system_error>

namespace aimerge {
namespace fs = std::filesystem;
namespace {

constexpr std::size_t kLongestHubName = 96;
constexpr std::uint64_t kLongestReference = 256;
constexpr std::string_view kMain = "main";
constexpr std::string_view kBlank = " \t\r\n";

bool isHubNamePart(std::string_view part) {
    const auto allowed = [](char c) {
        return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' || c == '_' ||
               c == '.';
    };
    return !part.empty() && part.front() != '.' && part.front() != '-' && part.back() != '.' && part.back() != '-' &&
           std::all_of(part.begin(), part.end(), allowed);
}

/// "org/name" -> "models--org--name"
std::string cacheFolderName(const std::string& name) {
    std::string folder = "models--";
    for (const char c : name) folder += c == '/' ? std::string("--") : std::string(1, c);
    return folder;
}

std::string downloadAdvice(const HubReference& reference) {
    const std::string what =
        reference.revision == kMain ? reference.name : fmt::format("{} --revision {}", reference.name, reference.revision);
    return fmt::format("download it with `hf download {0}` (older tools: `huggingface-cli download {0}`)", what);
}

/// Names without a way out of the cache: parts as hub names have them, as many as there are ("refs/pr/3").
bool isRevision(std::string_view revision) {
    while (true) {
        const std::size_t slash = revision.find('/');
        if (!isHubNamePart(revision.substr(0, slash))) return false;
        if (slash == std::string_view::npos) return true;
        revision.remove_prefix(slash + 1);
    }
}

/// The commit that a reference file names; empty when there is none.
std::string readCommit(const fs::path& reference) {
    if (!fs::is_regular_file(reference)) return "";
    const std::string text = readTextFile(reference, kLongestReference);
    const std::size_t begin = text.find_first_not_of(kBlank);
    if (begin == std::string::npos) return "";
    std::string commit = text.substr(begin, text.find_last_not_of(kBlank) + 1 - begin);
    if (!isHubNamePart(commit))
        throw InputError("{}: holds no commit hash, expected 40 hexadecimal digits", reference.string());
    return commit;
}

/// What a model is made of; not pictures, texts about it, and weights in other formats.
bool isRead(const fs::path& file) {
    constexpr std::array<std::string_view, 7> kExtensions{".json",  ".safetensors", ".model", ".txt",
                                                          ".jinja", ".tiktoken",    ".py"};
    return std::ranges::find(kExtensions, file.extension().string()) != kExtensions.end();
}

/// What <cache>/models--org--name/snapshots/<hash> is a snapshot of; without a name for other folders.
HubReference referenceOf(const fs::path& folder) {
    constexpr std::string_view kPrefix = "models--", kSeparator = "--";
    const fs::path snapshot = fs::absolute(folder).lexically_normal(), model = snapshot.parent_path().parent_path();
    std::string name = model.filename().string();
    if (!name.starts_with(kPrefix)) return {};
    name.erase(0, kPrefix.size());
    if (const std::size_t at = name.find(kSeparator); at != std::string::npos)
        name = fmt::format("{}/{}", name.substr(0, at), name.substr(at + kSeparator.size()));
    const std::string commit = snapshot.filename().string();
    const bool isMain = readCommit(model / "refs" / kMain) == commit;
    return {name, isMain ? std::string(kMain) : commit};
}

}  // namespace

HubReference HubReference::from(std::string_view text) {
    const std::size_t at = text.find('@');
    if (at == std::string_view::npos) return {std::string(text), std::string(kMain)};
    return {std::string(text.substr(0, at)), std::string(text.substr(at + 1))};
}

bool isHubName(std::string_view name) {
    const std::size_t slash = name.find('/');
    if (name.size() > kLongestHubName) return false;
    if (slash == std::string_view::npos) return isHubNamePart(name);
    return isHubNamePart(name.substr(0, slash)) && isHubNamePart(name.substr(slash + 1));
}

fs::path findInHubCache(const HubReference& reference, const fs::path& cache) {
    const auto& [name, revision] = reference;
    if (!isRevision(revision))
        throw InputError("{}@{}: no revision has such a name; give a branch, a tag or a commit hash", name, revision);
    const fs::path model = cache / cacheFolderName(name);
    if (!fs::is_directory(model))
        throw InputError("{}: no such folder, and no such model in the local hub cache {}; {}", name, cache.string(),
                         downloadAdvice(reference));
    if (revision != kMain && fs::is_directory(model / "snapshots" / revision)) return model / "snapshots" / revision;
    const std::string commit = readCommit(model / "refs" / revision);
    if (commit.empty())
        throw InputError("{}: the local hub cache has no {} revision of it ({} is missing); {}", name, revision,
                         (model / "refs" / revision).string(), downloadAdvice(reference));
    fs::path snapshot = model / "snapshots" / commit;
    if (!fs::is_directory(snapshot))
        throw InputError("{}: the local hub cache lacks the files of its {} revision ({}); {}", name, revision,
                         snapshot.string(), downloadAdvice(reference));
    return snapshot;
}

void refuseDanglingLinks(const fs::path& folder) {
    for (const fs::directory_entry& entry : fs::directory_iterator(folder)) {
        std::error_code error;  // of a link to itself, which is not there either
        if (!entry.is_symlink(error) || entry.exists(error) || !isRead(entry.path())) continue;
        const HubReference reference = referenceOf(folder);
        throw InputError("{}: is a link to {}, which is not there; {}", entry.path().string(),
                         fs::read_symlink(entry.path()).string(),
                         reference.name.empty() ? "put the file in its place, or remove the link"
                                                : fmt::format("{} again", downloadAdvice(reference)));
    }
}

}  // namespace aimerge

#include "aimerge/checkpoint/hub_cache.h"

#include "aimerge/core/error.h"
#include "aimerge/core/file.h"

#include <algorithm>

namespace aimerge {
namespace fs = std::filesystem;
namespace {

constexpr std::size_t kLongestHubName = 96;
constexpr std::uint64_t kLongestReference = 256;
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

std::string downloadAdvice(const std::string& name) {
    return fmt::format("download it with `hf download {0}` (older tools: `huggingface-cli download {0}`)", name);
}

/// The commit that refs/main names; empty when there is none.
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

}  // namespace

bool isHubName(std::string_view name) {
    const std::size_t slash = name.find('/');
    if (name.size() > kLongestHubName) return false;
    if (slash == std::string_view::npos) return isHubNamePart(name);
    return isHubNamePart(name.substr(0, slash)) && isHubNamePart(name.substr(slash + 1));
}

fs::path findInHubCache(const std::string& name, const fs::path& cache) {
    const fs::path model = cache / cacheFolderName(name);
    if (!fs::is_directory(model))
        throw InputError("{}: no such folder, and no such model in the local hub cache {}; {}", name, cache.string(),
                         downloadAdvice(name));
    const std::string commit = readCommit(model / "refs" / "main");
    if (commit.empty())
        throw InputError("{}: the local hub cache has no main revision of it ({} is missing); {}", name,
                         (model / "refs" / "main").string(), downloadAdvice(name));
    fs::path snapshot = model / "snapshots" / commit;
    if (!fs::is_directory(snapshot))
        throw InputError("{}: the local hub cache lacks the files of its main revision ({}); {}", name, snapshot.string(),
                         downloadAdvice(name));
    return snapshot;
}

}  // namespace aimerge

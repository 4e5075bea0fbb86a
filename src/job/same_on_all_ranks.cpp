#include "aimerge/job/same_on_all_ranks.h"

#include "aimerge/core/error.h"
#include "aimerge/core/file.h"
#include "aimerge/core/hash.h"
#include "aimerge/core/host_name.h"
#include "aimerge/core/version.h"
#include "aimerge/job/command_line.h"

#include <link.h>
#include <nlohmann/json.hpp>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>

namespace aimerge {
namespace {

using Json = nlohmann::json;

/// The machine may have put another file in the place of the one that runs; this is the one that runs.
constexpr const char* kThisProgram = "/proc/self/exe";

/// What of the library with this code lies in memory as it stands in its file: code and constants.
std::string digestOfThisLibrary() {
    struct Search {
        std::uintptr_t within;
        Hasher hasher = {};
    } search{reinterpret_cast<std::uintptr_t>(&digestOfThisLibrary)};
    const auto visit = [](dl_phdr_info* object, std::size_t, void* data) {
        Search& found = *static_cast<Search*>(data);
        const std::span segments(object->dlpi_phdr, object->dlpi_phnum);
        const auto holdsThisCode = [&](const ElfW(Phdr) & segment) {
            const std::uintptr_t begin = object->dlpi_addr + segment.p_vaddr;
            return segment.p_type == PT_LOAD && found.within >= begin && found.within < begin + segment.p_memsz;
        };
        if (std::ranges::none_of(segments, holdsThisCode)) return 0;
        for (const ElfW(Phdr) & segment : segments)
            if (segment.p_type == PT_LOAD && (segment.p_flags & PF_W) == 0) {
                // NOLINTNEXTLINE(performance-no-int-to-ptr): an address is what the loader gives
                const auto* const begin = reinterpret_cast<const std::byte*>(object->dlpi_addr + segment.p_vaddr);
                found.hasher.update(std::span(begin, segment.p_filesz));
            }
        return 1;
    };
    dl_iterate_phdr(visit, &search);
    return search.hasher.digest().hex();
}

struct Seen {
    std::string host;
    Json what;
};

/// Collective. What every rank sees, on rank 0.
std::vector<Seen> gatherSeen(World& world, const Json& own) {
    std::vector<Seen> all;
    const Json seen{{"host", hostName()}, {"sees", own}};
    // Paths need not be UTF-8.
    for (const std::string& text : world.gather(seen.dump(-1, ' ', false, Json::error_handler_t::replace))) {
        const Json rank = Json::parse(text);
        all.push_back({rank.at("host"), rank.at("sees")});
    }
    return all;
}

}  // namespace

void requireSameStart(World& world) {
    if (world.size() == 1) return;
    const std::string program = digestOf(readTextFile(kThisProgram)).hex() + digestOfThisLibrary();
    const std::vector<Seen> ranks = gatherSeen(world, {{"arguments", commandArguments()}, {"program", program}});
    for (std::size_t rank = 1; rank < ranks.size(); ++rank) {
        if (ranks[rank].what.at("arguments") != ranks[0].what.at("arguments"))
            throw UsageError("rank {} ({}) was started with other options than rank 0 ({}): `{}` and `{}`", rank,
                             ranks[rank].host, ranks[0].host, ranks[rank].what.at("arguments").get<std::string>(),
                             ranks[0].what.at("arguments").get<std::string>());
        if (ranks[rank].what.at("program") != ranks[0].what.at("program"))
            throw UsageError(
                "rank {} ({}) runs another build of aimerge than rank 0 ({}); install one build on all machines, or start "
                "it from "
                "a folder that all see",
                rank, ranks[rank].host, ranks[0].host);
    }
}

void requireSameInputs(World& world, const std::vector<const Checkpoint*>& models) {
    if (world.size() == 1) return;
    Json own = Json::array();
    for (const Checkpoint* model : models)
        for (const auto& [path, digest] : model->fileSamples()) own.push_back({path.string(), digest.hex()});
    const std::vector<Seen> ranks = gatherSeen(world, own);
    for (std::size_t rank = 1; rank < ranks.size(); ++rank) {
        const Json &here = ranks[0].what, &there = ranks[rank].what;
        for (std::size_t i = 0; i < here.size(); ++i)
            if (i >= there.size() || there[i] != here[i])
                throw InputError(
                    "{}: rank {} ({}) sees another file there than rank 0 ({}); copy the model again to that machine, put "
                    "it where "
                    "all see it, or let rank 0 send it: --io scatter",
                    here[i][0].get<std::string>(), rank, ranks[rank].host, ranks[0].host);
    }
}

}  // namespace aimerge

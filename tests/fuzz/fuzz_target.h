#pragma once
// A libFuzzer target is one file that defines fuzzOne(). The reader under test may refuse its input by an InputError or a
// UsageError, and by nothing else: any other exception, a sanitizer's report, more than 10 s or 2 GiB is a finding.

#include "aimerge/core/error.h"

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <string_view>

#include <unistd.h>

namespace aimerge::fuzz {

void fuzzOne(std::string_view input);

/// A file of this process in memory, for readers that take a path.
inline std::filesystem::path fileOf(std::string_view input, const std::filesystem::path& name) {
    static const std::filesystem::path folder =
        std::filesystem::path("/dev/shm") / ("aimerge-fuzz-" + std::to_string(::getpid()));
    const std::filesystem::path file = folder / name;
    std::filesystem::create_directories(file.parent_path());
    std::ofstream(file, std::ios::binary).write(input.data(), static_cast<std::streamsize>(input.size()));
    return file;
}

}  // namespace aimerge::fuzz

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    try {
        aimerge::fuzz::fuzzOne({reinterpret_cast<const char*>(data), size});
    } catch (const aimerge::InputError&) {
    } catch (const aimerge::UsageError&) {
    }
    return 0;
}

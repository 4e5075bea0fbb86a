#pragma once
// A folder of this process alone, removed with what is in it when the object goes.

#include <filesystem>

namespace aimerge {

class TemporaryFolder {
public:
    /// A new one below environment::scratchDirectory(). @throws RuntimeFault
    TemporaryFolder();
    ~TemporaryFolder();
    TemporaryFolder(TemporaryFolder&& other) noexcept;
    TemporaryFolder& operator=(TemporaryFolder&& other) noexcept;

    const std::filesystem::path& path() const { return path_; }

private:
    std::filesystem::path path_;  // empty when moved from
};

}  // namespace aimerge

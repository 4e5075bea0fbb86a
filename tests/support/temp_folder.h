#pragma once
// A folder of its own for one test, removed with everything in it when the object goes.

#include <stdlib.h>

#include <filesystem>
#include <string>
#include <system_error>

namespace aimerge {

class TempFolder {
public:
    TempFolder() {
        std::string name = (std::filesystem::temp_directory_path() / "aimerge-test-XXXXXX").string();
        if (::mkdtemp(name.data()) == nullptr)
            throw std::system_error(errno, std::generic_category(), "no temporary folder " + name);
        path_ = name;
    }
    ~TempFolder() {
        std::error_code ignored;  // a test that took away its own rights leaves the folder behind
        std::filesystem::remove_all(path_, ignored);
    }
    TempFolder(const TempFolder&) = delete;
    TempFolder& operator=(const TempFolder&) = delete;

    const std::filesystem::path& path() const { return path_; }

private:
    std::filesystem::path path_;
};

inline std::filesystem::path operator/(const TempFolder& folder, const std::filesystem::path& name) {
    return folder.path() / name;
}

}  // namespace aimerge

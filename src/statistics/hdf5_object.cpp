#include "statistics/hdf5_object.h"

#include <cstdlib>

namespace aimerge::hdf5 {

SilentErrors::SilentErrors() {
    ::setenv("HDF5_USE_FILE_LOCKING", "FALSE", 0);  // read once, when the library starts; what the user sets stays
    H5Eget_auto2(H5E_DEFAULT, &print_, &printTo_);
    H5Eset_auto2(H5E_DEFAULT, nullptr, nullptr);
}

SilentErrors::~SilentErrors() {
    H5Eset_auto2(H5E_DEFAULT, print_, printTo_);
}

std::string lastError() {
    std::string text;
    const auto keepFirst = [](unsigned depth, const H5E_error2_t* entry, void* result) -> herr_t {
        if (depth == 0 && entry->desc) *static_cast<std::string*>(result) = entry->desc;
        return 0;
    };
    H5Ewalk2(H5E_DEFAULT, H5E_WALK_UPWARD, keepFirst, &text);
    return text.empty() ? "no detail" : text;
}

}  // namespace aimerge::hdf5

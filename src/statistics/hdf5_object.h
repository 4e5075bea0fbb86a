#pragma once
// HDF5's C API behind small move-only owners. HDF5 prints errors on its own stack to stderr; here they are silenced and
// become the tail of one message: "stats.h5: /statistics/lm_head/rms: cannot be opened (object 'rms' doesn't exist)".

#include <hdf5.h>

#include <cstdint>
#include <filesystem>
#include <string>
#include <utility>

namespace aimerge::hdf5 {

/// Owner of an identifier; `close` is the H5?close of its kind.
template <herr_t (*close)(hid_t)>
class Object {
public:
    Object() = default;
    explicit Object(hid_t id) : id_(id) {}
    ~Object() {
        if (id_ >= 0) close(id_);
    }
    Object(Object&& other) noexcept : id_(std::exchange(other.id_, H5I_INVALID_HID)) {}
    Object& operator=(Object&& other) noexcept {
        std::swap(id_, other.id_);
        return *this;
    }

    hid_t id() const { return id_; }
    bool valid() const { return id_ >= 0; }

private:
    hid_t id_ = H5I_INVALID_HID;
};

using FileObject = Object<H5Fclose>;
using Group = Object<H5Gclose>;
using Dataset = Object<H5Dclose>;
using Space = Object<H5Sclose>;
using Type = Object<H5Tclose>;
using Attribute = Object<H5Aclose>;
using Properties = Object<H5Pclose>;

/// While it lives, HDF5 keeps its errors to itself. It stands before the first call of HDF5, which then locks no files: some
/// file systems cannot (Lustre without `-o flock`, NFS without a lock daemon), and a log is whole before it has its name.
class SilentErrors {
public:
    SilentErrors();
    ~SilentErrors();
    SilentErrors(const SilentErrors&) = delete;
    SilentErrors& operator=(const SilentErrors&) = delete;

private:
    H5E_auto2_t print_ = nullptr;
    void* printTo_ = nullptr;
};

/// What HDF5's error stack says at its deepest point; "no detail" when it is empty.
std::string lastError();

}  // namespace aimerge::hdf5

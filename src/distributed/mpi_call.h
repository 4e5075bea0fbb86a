#pragma once
// Every MPI return value passes through checkMpi.

#include "aimerge/core/error.h"

#include <fmt/format.h>
#include <mpi.h>

#include <utility>

namespace aimerge {

std::string mpiErrorText(int result);

/// @param call the call with its key arguments as a format string, put together only when it failed
/// @throws RuntimeFault "MPI_Isend of 12 bytes to rank 3 failed: ..."
template <typename... Args>
void checkMpi(int result, fmt::format_string<Args...> call, Args&&... args) {
    if (result == MPI_SUCCESS) return;
    throw RuntimeFault("{} failed: {}", fmt::format(call, std::forward<Args>(args)...), mpiErrorText(result));
}

}  // namespace aimerge

#pragma once
// The World of a test program that aimerge_test() runs with RANKS: made once by tests/support/mpi_main.cpp.

#include "aimerge/distributed/world.h"

namespace aimerge {

World& testWorld();

}  // namespace aimerge

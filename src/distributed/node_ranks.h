#pragma once
// The ranks of one machine, and what each may use of it.

namespace aimerge {

struct NodeRanks {
    int count = 1, own = 0;  // how many there are, and the number of this one among them
    int processors = 1;      // hardware threads for this one
};

/// Where there is no MPI.
NodeRanks aloneOnThisMachine();

/// Collective. A hardware thread that several ranks may run on is divided among them; so ranks that are bound get their own,
/// and ranks that are not get equal parts.
NodeRanks ranksOfThisMachine();

}  // namespace aimerge

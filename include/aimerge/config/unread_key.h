#pragma once
// Keys that nothing reads. mergekit ignores what it does not know, and people's files are full of such keys. Where mergekit
// has a say, a key that is not known is one of three things (docs/file-formats.md, "What nothing reads"):
// - an error, when it would have changed the result had it been written right: a slip of a known key, or a key at a place
//   where it has no effect, unless the right place says the same;
// - nothing, when its name begins with "x-": it holds anchors;
// - else a key of this list, which commands say once, and refuse with --strict.
// Sections that are aimerge's own have no such list: every unknown key in them is an error.

#include "aimerge/config/parameter.h"

#include <string>
#include <vector>

namespace aimerge {

struct UnreadKey {
    std::string key;
    std::string place;   // "at the top level", "in models[1]"
    SourceMark mark;     // of the key
    std::string value;   // when it is a scalar
    std::string reason;  // "the key 'tags' is not known here and is ignored"
};

using UnreadKeys = std::vector<UnreadKey>;

}  // namespace aimerge

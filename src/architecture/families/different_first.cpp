#include "architecture/families/families.h"

namespace aimerge {

/// The table of relative positions is in the first layer of each stack.
const Family kT5Family{.modelTypes = {"t5", "mt5", "umt5", "longt5", "switch_transformers"},
                       .positions = Positions::Relative,
                       .differentFirst = 1};

/// The first layer has one norm more.
const Family kRwkvFamily{.modelTypes = {"rwkv"}, .positions = Positions::Unsaid, .differentFirst = 1};

/// The first layer has no norm before its attention.
const Family kModernBertFamily{.modelTypes = {"modernbert", "modernbert-decoder"}, .differentFirst = 1};

}  // namespace aimerge

#pragma once
// What the kernel keeps of a file in memory.

#include "aimerge/core/byte_range.h"
#include "aimerge/core/file.h"

namespace aimerge {

enum class InPageCache { Yes, No, Unknown };

/// Whether these bytes are there, going by samples. Unknown: the kernel tells it only to who may write to the file.
InPageCache inPageCache(const File& file, ByteRange bytes);

/// The file's bytes are nowhere but in memory: tmpfs.
bool livesInMemory(const File& file);

}  // namespace aimerge

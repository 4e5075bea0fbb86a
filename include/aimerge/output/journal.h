#pragma once
// Which tensors of an unfinished output are already in its files. Every rank appends to a file of its own, one line per
// tensor, after the tensor's last byte was written. Nothing is synced: a process that dies loses nothing, and after a crash
// of the machine a line and its data may both be lost or not. So a line is a claim, and a resumed run re-reads the tensor to
// check it (ShardWriter::adopt); a line that is torn or unreadable is no claim at all.
//
// A file's first line says the revision of its form, {"journal":1}. One of a revision that this version does not know is
// begun anew, with a notice: its tensors are merged again.

#include "aimerge/core/file.h"
#include "aimerge/core/hash.h"

#include <filesystem>
#include <mutex>
#include <string>
#include <string_view>
#include <vector>

namespace aimerge {

struct FinishedTensor {
    std::string folder;  // below the build folder: "" or "omega-0.4"
    std::string tensor;
    Digest digest;  // safetensors/tensor_digest.h

    bool operator==(const FinishedTensor&) const = default;
};

/// One line of JSON per tensor: also the form in which ranks pass them on.
std::string journalText(const std::vector<FinishedTensor>& tensors);
std::vector<FinishedTensor> parseJournal(std::string_view text);

/// The claims of all ranks of earlier runs, however many there were, sorted by folder and tensor, each once. A tensor with
/// differing digests is left out.
std::vector<FinishedTensor> readJournals(const std::filesystem::path& partialFolder);

class Journal {
public:
    /// Continues the rank's file of an earlier run, unless its revision is not known.
    Journal(const std::filesystem::path& partialFolder, int rank);

    /// Thread-safe.
    void record(const FinishedTensor& tensor);

private:
    std::mutex mutex_;
    File file_;
};

}  // namespace aimerge

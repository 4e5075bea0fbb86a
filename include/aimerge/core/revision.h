#pragma once
// Which results are the same. What is kept for later runs (caches, unfinished outputs, journals) is keyed by these numbers
// and not by the version of the program, which says nothing about arithmetic: raise the number of a kind with every change
// that gives it other values, down to the last bit, or another form on disk. tests/system/test_revisions.py holds digests of
// small results beside the numbers, and fails where one changes without the other.

namespace aimerge::revision {

/// The blocks of token ids that a corpus, a tokenizer and settings give.
inline constexpr int kTokenBlocks = 1;
/// How a checkpoint's contents become one digest.
inline constexpr int kContentDigest = 1;
/// Activation statistics.
inline constexpr int kStatistics = 1;
/// What is measured on experts for methods, and on a base for AIM: Gram matrices, Fisher information, sensitivity.
inline constexpr int kExpertStatistics = 1;
/// The values of merged tensors, given models, parameters and statistics.
inline constexpr int kMergedValues = 1;
/// What feature calibration makes of merged tensors.
inline constexpr int kFeatcal = 1;
/// Scores of suites.
inline constexpr int kScores = 1;

// Forms of files. Of an older form, which says no number or a smaller one, the reader has to know what it needs.
/// Journals of unfinished outputs. Files without a number are as those of 1.
inline constexpr int kJournal = 1;
/// aimerge_manifest.json, whose key "format" it is.
inline constexpr int kManifest = 1;

}  // namespace aimerge::revision

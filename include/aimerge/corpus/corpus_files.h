#pragma once
// The files that a path of a config stands for: a file; a pattern with *, ? or [...]; a folder that datasets.save_to_disk
// wrote; or any other folder, whose corpus files are taken by their names.

#include <filesystem>
#include <string>
#include <vector>

namespace aimerge {

enum class TextFormat {
    Text,       // .txt
    JsonLines,  // .jsonl
    Json,       // .json: one list of objects, or an object per line
    Table       // .parquet, .arrow: read by a helper process
};

/// What a .txt file consists of.
enum class TextUnit { WholeFile, Line };

/// By the file's name; all but tables also with .gz or .zst behind it.
/// @throws InputError for any other name
TextFormat textFormatOf(const std::filesystem::path& file);

/// In the order in which they are read. Empty where nothing is there.
std::vector<std::filesystem::path> findCorpusFiles(const std::string& path);

/// As findCorpusFiles(). @throws InputError where there is none; when a folder holds no corpus file, or several splits
std::vector<std::filesystem::path> corpusFiles(const std::string& path);

}  // namespace aimerge

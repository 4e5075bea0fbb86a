#pragma once
// Which columns of a row are its text. A text is written in them as it is, or as a conversation, which a chat template turns
// into text.

#include <nlohmann/json.hpp>

#include <optional>
#include <string>
#include <vector>

namespace aimerge {

struct RowLayout {
    std::vector<std::string> keys;  // whose texts, or turns of a conversation, stand one after another
    bool isInstruction = false;     // Alpaca's instruction, input and output: a conversation of two turns

    /// The keys, and those that may stand beside them.
    std::vector<std::string> columns() const;
};

/// @param names of the columns @param textKeys that the user chose; empty: by the names of a known layout
/// @param place for messages @throws InputError naming the columns that there are
RowLayout layoutOf(const std::vector<std::string>& names, const std::vector<std::string>& textKeys,
                   const std::string& place);

std::vector<std::string> namesOf(const nlohmann::json& row);

/// @throws InputError when the text is no JSON object
nlohmann::json parseRow(const std::string& row, const std::string& place);

/// The text of a row; nullopt when it is a conversation. @throws InputError when a column is missing or neither
std::optional<std::string> plainTextOf(const nlohmann::json& row, const RowLayout& layout, const std::string& place);

}  // namespace aimerge

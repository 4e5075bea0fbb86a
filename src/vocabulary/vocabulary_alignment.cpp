#include "aimerge/vocabulary/vocabulary_alignment.h"

#include "aimerge/core/error.h"

#include <algorithm>
#include <unordered_map>
#include <unordered_set>
#include <utility>

namespace aimerge {
namespace {

using Inputs = std::vector<VocabularyInput>;

std::string shapesText(const Inputs& inputs) {
    std::string text;
    for (const VocabularyInput& input : inputs)
        text += fmt::format("{}{} {}", text.empty() ? "" : ", ", input.model, shapeText(input.shape));
    return text;
}

void requireEqualColumns(const Inputs& inputs, const std::string& tensor) {
    for (const VocabularyInput& input : inputs)
        if (input.shape.size() != 2 || input.shape[1] != inputs.front().shape.at(1))
            throw InputError("{}: the models differ in more than the vocabulary ({}); such models cannot be merged", tensor,
                             shapesText(inputs));
}

std::size_t indexOfModel(const Inputs& inputs, const std::string& model, const VocabularyConfig& config, const char* key) {
    for (std::size_t index = 0; index < inputs.size(); ++index)
        if (inputs[index].model == model) return index;
    std::string known;
    for (const VocabularyInput& input : inputs) known += (known.empty() ? "" : ", ") + input.model;
    throw UsageError("{}: {} names the model '{}', which is not among the models of this merge ({})", config.mark.text(),
                     key, model, known);
}

/// The model's token, when its tensors have a row for it.
const Token* tokenWithRow(const VocabularyInput& input, std::string_view text) {
    const Token* token = input.vocabulary->find(text);
    return token != nullptr && token->id < input.rows() ? token : nullptr;
}

RowSource rowOf(std::size_t input, std::int64_t row) {
    return {static_cast<std::uint32_t>(input), static_cast<std::uint32_t>(row)};
}

/// The tokens of the output by id. An id may have no token (nullptr text): a hole of the owner's tokenizer.
struct OutputVocabulary {
    std::size_t owner = 0;
    std::vector<const std::string*> texts;  // by output id
    std::unordered_set<std::string_view> known;
    OutputTokenizer tokenizer;

    /// @param token of an input, or of who else outlives this
    void addNew(const Token& token, bool normalized) {
        if (!known.insert(token.text).second) return;
        const std::int64_t id = static_cast<std::int64_t>(texts.size());
        texts.push_back(&token.text);
        tokenizer.newTokens.push_back(asAdded(token, id, normalized));
    }

    /// The owner's trained token with this id becomes an added one.
    void mark(const Token& token, std::int64_t id, bool normalized) {
        if (marked_.insert(token.text).second) tokenizer.marked.push_back(asAdded(token, id, normalized));
    }

private:
    static Token asAdded(Token token, std::int64_t id, bool normalized) {
        token.id = id;
        token.added = true;
        token.normalized = normalized;
        return token;
    }

    std::unordered_set<std::string_view> marked_;
};

OutputVocabulary vocabularyOfOwner(const Inputs& inputs, std::size_t owner) {
    OutputVocabulary output;
    output.owner = output.tokenizer.input = owner;
    const std::int64_t rows = inputs[owner].rows();
    for (const Token& token : inputs[owner].vocabulary->tokens()) {
        if (token.id >= rows) {
            output.tokenizer.dropFrom = rows;
            break;
        }
        if (token.id >= static_cast<std::int64_t>(output.texts.size()))
            output.texts.resize(static_cast<std::size_t>(token.id) + 1, nullptr);
        const std::string*& text = output.texts[static_cast<std::size_t>(token.id)];
        if (text == nullptr) text = &token.text;
        output.known.insert(token.text);
    }
    return output;
}

/// A token that some model was given beside its trained vocabulary.
bool isAdded(const Token& token) {
    return token.added || token.special;
}

/// Trained tokens of all the other models first, then the added and special ones; models in their order.
///
/// The other models' trained tokens can only become added tokens, too, which a tokenizer takes out of a text before its own
/// model sees it, longest first from the left. An ordinary "(<" would so take the beginning of "(<tool>". Tokenizers take
/// out the tokens that are not normalised before all normalised ones: the former are therefore what some model has as an
/// added token.
void addUnion(OutputVocabulary& output, const Inputs& inputs) {
    std::unordered_set<std::string_view> added;
    for (const VocabularyInput& input : inputs)
        for (const Token& token : input.vocabulary->tokens())
            if (isAdded(token) && token.id < input.rows()) added.insert(token.text);

    for (const VocabularyInput& input : inputs)
        for (const Token& token : input.vocabulary->tokens())
            if (token.id < input.rows() && !added.contains(token.text)) output.addNew(token, true);
    output.tokenizer.ownTokensFirst = !output.tokenizer.newTokens.empty();

    for (const VocabularyInput& input : inputs)
        for (const Token& token : input.vocabulary->tokens()) {
            if (token.id >= input.rows() || !isAdded(token)) continue;
            const Token* const known = tokenWithRow(inputs[output.owner], token.text);
            const bool normalized = token.normalized && !output.tokenizer.ownTokensFirst;
            if (known == nullptr)
                output.addNew(token, normalized);
            else if (!isAdded(*known))
                output.mark(token, known->id, normalized);
        }
}

/// Names under `tokens` that no tokenizer has become plain added tokens. `storage` owns their texts.
void addNamedTokens(OutputVocabulary& output, const VocabularyConfig& config, std::vector<Token>& storage) {
    storage.reserve(config.tokens.size());
    for (const auto& [text, override] : config.tokens) {
        Token token;
        token.text = text;
        output.addNew(storage.emplace_back(std::move(token)), !output.tokenizer.ownTokensFirst);
    }
}

/// What `tokens` says about one token, looked up in the inputs.
struct ResolvedOverride {
    std::vector<RowSource> sources;  // none (zeros) or one
    bool force = false;
};

ResolvedOverride resolve(const Inputs& inputs, const VocabularyConfig& config, const std::string& text,
                         const TokenOverride& override) {
    ResolvedOverride resolved{{}, override.force};
    if (override.kind == TokenOverride::Kind::Zero) return resolved;
    const std::size_t index = indexOfModel(inputs, override.model, config, "tokenizer.tokens");
    const VocabularyInput& input = inputs[index];
    if (override.kind == TokenOverride::Kind::ModelToken && override.tokenId) {
        if (*override.tokenId < 0 || *override.tokenId >= input.rows())
            throw InputError("tokenizer.tokens: '{}' takes row {} of {}, which has rows 0 to {}", text, *override.tokenId,
                             input.model, input.rows() - 1);
        resolved.sources.push_back(rowOf(index, *override.tokenId));
        return resolved;
    }
    const std::string& wanted = override.kind == TokenOverride::Kind::ModelToken ? override.token : text;
    const Token* token = tokenWithRow(input, wanted);
    if (token == nullptr)
        throw InputError("tokenizer.tokens: '{}' takes the row of token '{}' of {}, whose tokenizer has no such token", text,
                         wanted, input.model);
    resolved.sources.push_back(rowOf(index, token->id));
    return resolved;
}

/// The row for inputs without the token: that of its only holder, else the base's, else the mean
/// of the holders; none: zeros.
std::vector<RowSource> defaultRow(const Inputs& inputs, std::size_t baseIndex, std::string_view text) {
    std::vector<RowSource> holders;
    for (std::size_t index = 0; index < inputs.size(); ++index) {
        const Token* token = tokenWithRow(inputs[index], text);
        if (token == nullptr) continue;
        if (index == baseIndex) return {rowOf(index, token->id)};
        holders.push_back(rowOf(index, token->id));
    }
    return holders;
}

std::vector<RowMap> mapRows(const Inputs& inputs, std::size_t baseIndex, const VocabularyConfig& config,
                            const OutputVocabulary& output) {
    std::unordered_map<std::string_view, ResolvedOverride> overrides;
    for (const auto& [text, override] : config.tokens)
        if (override) overrides.try_emplace(text, resolve(inputs, config, text, *override));

    std::vector<RowMap> maps;
    for (std::size_t index = 0; index < inputs.size(); ++index) maps.emplace_back(index);
    for (std::size_t id = 0; id < output.texts.size(); ++id) {
        if (output.texts[id] == nullptr) {
            const RowSource ownersRow = rowOf(output.owner, static_cast<std::int64_t>(id));
            for (RowMap& map : maps) map.append({&ownersRow, 1});
            continue;
        }
        const std::string& text = *output.texts[id];
        const auto found = overrides.find(text);
        const bool forced = found != overrides.end() && found->second.force;
        const std::vector<RowSource> other =
            found != overrides.end() ? found->second.sources : defaultRow(inputs, baseIndex, text);
        for (std::size_t index = 0; index < inputs.size(); ++index) {
            const Token* own = forced ? nullptr : tokenWithRow(inputs[index], text);
            if (own == nullptr) {
                maps[index].append(other);
            } else {
                const RowSource ownRow = rowOf(index, own->id);
                maps[index].append({&ownRow, 1});
            }
        }
    }
    return maps;
}

void padToMultiple(VocabularyAlignment& alignment, std::int64_t multiple) {
    if (multiple <= 0) return;
    const std::int64_t padded = (alignment.rows + multiple - 1) / multiple * multiple;
    for (RowMap& map : alignment.maps) map.pad(padded - alignment.rows);
    alignment.rows = padded;
}

/// All inputs cut to the smallest, or left as they are when they agree.
VocabularyAlignment cutToSmallest(const Inputs& inputs, std::size_t baseIndex) {
    VocabularyAlignment alignment;
    alignment.rows = inputs.front().rows();
    for (const VocabularyInput& input : inputs) alignment.rows = std::min(alignment.rows, input.rows());
    for (std::size_t index = 0; index < inputs.size(); ++index)
        alignment.maps.push_back(RowMap::prefix(index, alignment.rows));
    alignment.tokenizer.input = baseIndex;
    if (inputs[baseIndex].rows() > alignment.rows) alignment.tokenizer.dropFrom = alignment.rows;
    return alignment;
}

/// The tokenizer is that of a largest model: the base where it is one, else the first.
VocabularyAlignment padToLargest(const Inputs& inputs, std::size_t baseIndex) {
    VocabularyAlignment alignment;
    alignment.tokenizer.input = baseIndex;
    for (std::size_t index = 0; index < inputs.size(); ++index)
        if (inputs[index].rows() > inputs[alignment.tokenizer.input].rows()) alignment.tokenizer.input = index;
    alignment.rows = inputs[alignment.tokenizer.input].rows();
    for (std::size_t index = 0; index < inputs.size(); ++index) {
        RowMap map = RowMap::prefix(index, inputs[index].rows());
        map.pad(alignment.rows - inputs[index].rows());
        alignment.maps.push_back(std::move(map));
    }
    return alignment;
}

VocabularyAlignment withoutTokenizerSettings(const Inputs& inputs, std::size_t baseIndex, const VocabularyConfig& config,
                                             const std::string& tensor, UnequalVocabularies unequal) {
    const bool equal = std::all_of(inputs.begin(), inputs.end(),
                                   [&](const VocabularyInput& input) { return input.rows() == inputs.front().rows(); });
    if (!equal && !config.unsafeTruncateEmbeddings && unequal == UnequalVocabularies::PaddedToLargest)
        return padToLargest(inputs, baseIndex);
    if (!equal && !config.unsafeTruncateEmbeddings)
        throw InputError(
            "{}: the models have vocabularies of different size ({}); set `tokenizer_source: base` or "
            "`tokenizer_source: union` to match their rows by token, or `unsafe_truncate_embeddings: true` to cut "
            "all of them to the smallest",
            tensor, shapesText(inputs));
    return cutToSmallest(inputs, baseIndex);
}

}  // namespace

bool VocabularyAlignment::isIdentity() const {
    return std::all_of(maps.begin(), maps.end(), [](const RowMap& map) { return map.isIdentity(); });
}

VocabularyAlignment alignVocabularies(const Inputs& inputs, std::size_t baseIndex, const VocabularyConfig& config,
                                      const std::string& tensor, UnequalVocabularies unequal) {
    requireEqualColumns(inputs, tensor);
    if (config.source == VocabularySource::None) return withoutTokenizerSettings(inputs, baseIndex, config, tensor, unequal);
    for (const VocabularyInput& input : inputs)
        if (input.vocabulary == nullptr)
            throw InputError("{}: tokenizer_source is set, but the tokenizer of this model was not found", input.model);

    const std::size_t owner = config.source == VocabularySource::Model
                                  ? indexOfModel(inputs, config.model, config, "tokenizer_source")
                                  : baseIndex;
    OutputVocabulary output = vocabularyOfOwner(inputs, owner);
    if (config.source == VocabularySource::Union) addUnion(output, inputs);
    std::vector<Token> namedTokens;
    addNamedTokens(output, config, namedTokens);

    VocabularyAlignment alignment;
    alignment.rows = static_cast<std::int64_t>(output.texts.size());
    alignment.maps = mapRows(inputs, baseIndex, config, output);
    alignment.tokenizer = std::move(output.tokenizer);
    padToMultiple(alignment, config.padToMultipleOf);
    return alignment;
}

}  // namespace aimerge

#include "aimerge/vocabulary/vocabulary_alignment.h"

#include "aimerge/core/error.h"
#include "aimerge/core/file.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>
#include <map>
#include <span>

namespace aimerge {
namespace {

const std::filesystem::path kGoldens = std::filesystem::path(AIMERGE_TEST_DATA) / "goldens";
const char* const kTensor = "model.embed_tokens.weight";

Token trained(const std::string& text, std::int64_t id) {
    Token token;
    token.text = text;
    token.id = id;
    return token;
}

Token added(const std::string& text, std::int64_t id) {
    Token token = trained(text, id);
    token.added = token.special = true;
    return token;
}

/// Three models: the base has a, b; the first expert swaps them and has c and an added p; the second has a, p, c, q.
struct Family {
    Vocabulary base{{trained("a", 0), trained("b", 1)}};
    Vocabulary first{{trained("b", 0), trained("a", 1), added("p", 2), trained("c", 3)}};
    Vocabulary second{{trained("a", 0), added("p", 1), trained("c", 2), trained("q", 3)}};
    std::vector<VocabularyInput> inputs{{"base", {3, 2}, &base}, {"first", {4, 2}, &first}, {"second", {4, 2}, &second}};
};

using Sources = std::vector<RowSource>;

std::vector<Sources> rowsOf(const RowMap& map) {
    std::vector<Sources> rows;
    for (std::int64_t row = 0; row < map.alignedRows(); ++row)
        rows.emplace_back(map.sources(row).begin(), map.sources(row).end());
    return rows;
}

VocabularyConfig sourceOf(VocabularySource source) {
    VocabularyConfig config;
    config.source = source;
    return config;
}

TEST(VocabularyAlignment, ToTheBaseDropsItsPaddingRowsAndGivesItsRowToModelsWithoutTheToken) {
    const Family family;

    const auto alignment = alignVocabularies(family.inputs, 0, sourceOf(VocabularySource::Base), kTensor);

    EXPECT_EQ(alignment.rows, 2);
    EXPECT_TRUE(alignment.maps[0].isIdentity());
    EXPECT_EQ(rowsOf(alignment.maps[1]), (std::vector<Sources>{{{1, 1}}, {{1, 0}}}));
    EXPECT_EQ(rowsOf(alignment.maps[2]), (std::vector<Sources>{{{2, 0}}, {{0, 1}}}));
    EXPECT_TRUE(alignment.tokenizer.unchanged());
}

TEST(VocabularyAlignment, OfTheUnionPutsTrainedTokensBeforeAddedOnesAndAveragesHoldersWhereTheBaseLacksTheToken) {
    const Family family;

    const auto alignment = alignVocabularies(family.inputs, 0, sourceOf(VocabularySource::Union), kTensor);

    // a b | c (first, second) q (second) | p (first, second)
    EXPECT_EQ(alignment.rows, 5);
    EXPECT_EQ(rowsOf(alignment.maps[0]),
              (std::vector<Sources>{{{0, 0}}, {{0, 1}}, {{1, 3}, {2, 2}}, {{2, 3}}, {{1, 2}, {2, 1}}}));
    EXPECT_EQ(rowsOf(alignment.maps[1]), (std::vector<Sources>{{{1, 1}}, {{1, 0}}, {{1, 3}}, {{2, 3}}, {{1, 2}}}));
    EXPECT_EQ(rowsOf(alignment.maps[2]), (std::vector<Sources>{{{2, 0}}, {{0, 1}}, {{2, 2}}, {{2, 3}}, {{2, 1}}}));
    ASSERT_EQ(alignment.tokenizer.newTokens.size(), 3u);
    EXPECT_EQ(alignment.tokenizer.newTokens[0].text, "c");
    EXPECT_EQ(alignment.tokenizer.newTokens[0].id, 2);
    EXPECT_FALSE(alignment.tokenizer.newTokens[0].special);
    EXPECT_EQ(alignment.tokenizer.newTokens[2].text, "p");
    EXPECT_EQ(alignment.tokenizer.newTokens[2].id, 4);
    EXPECT_TRUE(alignment.tokenizer.newTokens[2].special);
}

TEST(VocabularyAlignment, OfTheUnionPutsWhatAnyModelHasAddedBeforeOrdinaryTokensOfOthers) {
    Token plain = added("<tool>", 2), named = added("b", 2);
    plain.special = named.special = false;
    plain.normalized = named.normalized = true;
    const Vocabulary base{{trained("a", 0), trained("b", 1), plain}};
    const Vocabulary other{{trained("(<", 0), trained("a", 1), named, added("<eot>", 3)}};
    const std::vector<VocabularyInput> inputs{{"base", {3, 2}, &base}, {"other", {4, 2}, &other}};

    const auto alignment = alignVocabularies(inputs, 0, sourceOf(VocabularySource::Union), kTensor);

    EXPECT_TRUE(alignment.tokenizer.ownTokensFirst);
    ASSERT_EQ(alignment.tokenizer.newTokens.size(), 2u);
    EXPECT_EQ(alignment.tokenizer.newTokens[0].text, "(<");
    EXPECT_TRUE(alignment.tokenizer.newTokens[0].normalized);
    EXPECT_EQ(alignment.tokenizer.newTokens[1].text, "<eot>");
    EXPECT_FALSE(alignment.tokenizer.newTokens[1].normalized);
    ASSERT_EQ(alignment.tokenizer.marked.size(), 1u);
    EXPECT_EQ(alignment.tokenizer.marked[0].text, "b");
    EXPECT_EQ(alignment.tokenizer.marked[0].id, 1);
    EXPECT_FALSE(alignment.tokenizer.marked[0].normalized);
}

TEST(VocabularyAlignment, OfTheUnionLeavesTheFlagsOfAddedTokensWhereNoOrdinaryOneIsNew) {
    Token plain = added("<tool>", 1);
    plain.normalized = true;
    const Vocabulary base{{trained("a", 0)}}, other{{trained("a", 0), plain}};
    const std::vector<VocabularyInput> inputs{{"base", {1, 2}, &base}, {"other", {2, 2}, &other}};

    const auto alignment = alignVocabularies(inputs, 0, sourceOf(VocabularySource::Union), kTensor);

    EXPECT_FALSE(alignment.tokenizer.ownTokensFirst);
    EXPECT_TRUE(alignment.tokenizer.newTokens.at(0).normalized);
}

TEST(VocabularyAlignment, ToAModelTakesItsVocabulary) {
    const Family family;
    VocabularyConfig config = sourceOf(VocabularySource::Model);
    config.model = "second";

    const auto alignment = alignVocabularies(family.inputs, 0, config, kTensor);

    EXPECT_EQ(alignment.rows, 4);
    EXPECT_EQ(alignment.tokenizer.input, 2u);
    EXPECT_TRUE(alignment.maps[2].isIdentity());
    EXPECT_EQ(rowsOf(alignment.maps[0]), (std::vector<Sources>{{{0, 0}}, {{1, 2}, {2, 1}}, {{1, 3}, {2, 2}}, {{2, 3}}}));
}

TEST(VocabularyAlignment, TreatsATokenBeyondTheRowsAsAbsent) {
    Family family;
    family.inputs[2].shape = {2, 2};

    const auto alignment = alignVocabularies(family.inputs, 0, sourceOf(VocabularySource::Union), kTensor);

    // Of the second expert only a and p have rows: c is the first expert's alone, and q is gone.
    EXPECT_EQ(alignment.rows, 4);
    EXPECT_EQ(rowsOf(alignment.maps[0])[2], (Sources{{1, 3}}));
}

TEST(VocabularyAlignment, DropsTokensOfTheBaseThatHaveNoRow) {
    Family family;
    family.inputs[0].shape = {1, 2};

    const auto alignment = alignVocabularies(family.inputs, 0, sourceOf(VocabularySource::Base), kTensor);

    EXPECT_EQ(alignment.rows, 1);
    EXPECT_EQ(alignment.tokenizer.dropFrom, 1);
}

TEST(VocabularyAlignment, GivesIdsWithoutTokenTheOwnersRowInEveryInput) {
    const Vocabulary holed({trained("a", 0), trained("z", 2)}), full({trained("z", 0), trained("a", 1)});
    const std::vector<VocabularyInput> inputs = {{"base", {3, 2}, &holed}, {"expert", {2, 2}, &full}};

    const auto alignment = alignVocabularies(inputs, 0, sourceOf(VocabularySource::Base), kTensor);

    EXPECT_TRUE(alignment.maps[0].isIdentity());
    EXPECT_EQ(rowsOf(alignment.maps[1]), (std::vector<Sources>{{{1, 1}}, {{0, 1}}, {{1, 0}}}));
}

TEST(VocabularyAlignment, FollowsOverrides) {
    const Family family;
    VocabularyConfig config = sourceOf(VocabularySource::Base);
    using Kind = TokenOverride::Kind;
    config.tokens = {
        {"a", TokenOverride{.kind = Kind::Model, .model = "second", .token = "", .tokenId = {}, .force = true}},
        {"b", TokenOverride{.kind = Kind::Zero, .model = "", .token = "", .tokenId = {}, .force = false}},
        {"new", TokenOverride{.kind = Kind::ModelToken, .model = "first", .token = "c", .tokenId = {}, .force = false}},
        {"newer", TokenOverride{.kind = Kind::ModelToken, .model = "first", .token = "", .tokenId = 2, .force = false}},
        {"newest", std::nullopt}};

    const auto alignment = alignVocabularies(family.inputs, 0, config, kTensor);

    // "a" is the second expert's row everywhere; "b" is zero where it is missing (the second expert); then the new names.
    EXPECT_EQ(rowsOf(alignment.maps[0]), (std::vector<Sources>{{{2, 0}}, {{0, 1}}, {{1, 3}}, {{1, 2}}, {}}));
    EXPECT_EQ(rowsOf(alignment.maps[1]), (std::vector<Sources>{{{2, 0}}, {{1, 0}}, {{1, 3}}, {{1, 2}}, {}}));
    EXPECT_EQ(rowsOf(alignment.maps[2]), (std::vector<Sources>{{{2, 0}}, {}, {{1, 3}}, {{1, 2}}, {}}));
    ASSERT_EQ(alignment.tokenizer.newTokens.size(), 3u);
    EXPECT_EQ(alignment.tokenizer.newTokens[2].text, "newest");
    EXPECT_EQ(alignment.tokenizer.newTokens[2].id, 4);
}

TEST(VocabularyAlignment, PadsToAMultiple) {
    const Family family;
    VocabularyConfig config = sourceOf(VocabularySource::Union);
    config.padToMultipleOf = 4;

    const auto alignment = alignVocabularies(family.inputs, 0, config, kTensor);

    EXPECT_EQ(alignment.rows, 8);
    for (const RowMap& map : alignment.maps) {
        EXPECT_EQ(map.rows(), 8);
        EXPECT_EQ(map.alignedRows(), 5);
    }
}

TEST(VocabularyAlignment, WithoutSettingsNeedsNoVocabularyWhenSizesAgree) {
    const std::vector<VocabularyInput> inputs = {{"base", {4, 2}, nullptr}, {"expert", {4, 2}, nullptr}};

    const auto alignment = alignVocabularies(inputs, 0, VocabularyConfig{}, kTensor);

    EXPECT_TRUE(alignment.isIdentity());
    EXPECT_EQ(alignment.rows, 4);
    EXPECT_TRUE(alignment.tokenizer.unchanged());
}

TEST(VocabularyAlignment, WithoutSettingsNamesTensorShapesAndTheKeysThatSolveAMismatch) {
    const Family family;
    try {
        alignVocabularies(family.inputs, 0, VocabularyConfig{}, kTensor);
        FAIL() << "expected an InputError";
    } catch (const InputError& error) {
        for (const char* part : {"model.embed_tokens.weight", "base [3, 2]", "first [4, 2]", "second [4, 2]",
                                 "tokenizer_source: base", "tokenizer_source: union", "unsafe_truncate_embeddings: true"})
            EXPECT_THAT(error.what(), testing::HasSubstr(part));
    }
}

TEST(VocabularyAlignment, CutsAllToTheSmallestWhenAllowed) {
    const Family family;
    VocabularyConfig config;
    config.unsafeTruncateEmbeddings = true;

    const auto alignment = alignVocabularies(family.inputs, 1, config, kTensor);

    EXPECT_EQ(alignment.rows, 3);
    EXPECT_TRUE(alignment.isIdentity());
    EXPECT_EQ(alignment.tokenizer.dropFrom, 3);
}

TEST(VocabularyAlignment, PadsToTheLargestWhereTheMethodDoes) {
    const std::vector<VocabularyInput> inputs = {{"base", {3, 2}}, {"first", {5, 2}}, {"second", {4, 2}}};

    const auto alignment = alignVocabularies(inputs, 0, VocabularyConfig{}, kTensor, UnequalVocabularies::PaddedToLargest);

    EXPECT_EQ(alignment.rows, 5);
    EXPECT_EQ(alignment.tokenizer.input, 1u);
    EXPECT_TRUE(alignment.tokenizer.unchanged());
    EXPECT_EQ(alignment.maps[0].alignedRows(), 3);
    EXPECT_TRUE(alignment.maps[1].isIdentity());
    EXPECT_EQ(alignment.maps[2].alignedRows(), 4);
    for (const RowMap& map : alignment.maps) EXPECT_EQ(map.rows(), 5);
}

TEST(VocabularyAlignment, TakesSettingsBeforeWhatTheMethodDoes) {
    const Family family;
    VocabularyConfig cut;
    cut.unsafeTruncateEmbeddings = true;

    EXPECT_EQ(alignVocabularies(family.inputs, 0, cut, kTensor, UnequalVocabularies::PaddedToLargest).rows, 3);
    const VocabularyConfig base = sourceOf(VocabularySource::Base);
    EXPECT_EQ(alignVocabularies(family.inputs, 0, base, kTensor, UnequalVocabularies::PaddedToLargest).rows, 2);
}

struct BadRequest {
    const char* name;
    std::function<void(Family&, VocabularyConfig&)> spoil;
    ExitCode code;
    const char* message;
};

class VocabularyAlignmentOfBadRequest : public testing::TestWithParam<BadRequest> {};

TEST_P(VocabularyAlignmentOfBadRequest, IsAnError) {
    Family family;
    VocabularyConfig config = sourceOf(VocabularySource::Base);
    GetParam().spoil(family, config);
    try {
        alignVocabularies(family.inputs, 0, config, kTensor);
        FAIL() << "expected an error";
    } catch (const Error& error) {
        EXPECT_EQ(error.exitCode(), GetParam().code);
        EXPECT_THAT(error.what(), testing::HasSubstr(GetParam().message));
    }
}

void override(VocabularyConfig& config, TokenOverride::Kind kind, const char* model, const char* token,
              std::optional<std::int64_t> id) {
    config.tokens = {{"q", TokenOverride{.kind = kind, .model = model, .token = token, .tokenId = id, .force = false}}};
}

using Kind = TokenOverride::Kind;

INSTANTIATE_TEST_SUITE_P(
    Faults, VocabularyAlignmentOfBadRequest,
    testing::Values(
        BadRequest{"columns",
                   [](Family& f, VocabularyConfig&) {
                       f.inputs[1].shape = {4, 3};
                   },
                   ExitCode::Input, "first [4, 3]"},
        BadRequest{"tokenizer", [](Family& f, VocabularyConfig&) { f.inputs[1].vocabulary = nullptr; }, ExitCode::Input,
                   "first"},
        BadRequest{"source",
                   [](Family&, VocabularyConfig& c) {
                       c.source = VocabularySource::Model;
                       c.model = "third";
                   },
                   ExitCode::Usage, "'third', which is not among the models of this merge (base, first, second)"},
        BadRequest{"overrideModel", [](Family&, VocabularyConfig& c) { override(c, Kind::Model, "third", "", {}); },
                   ExitCode::Usage, "third"},
        BadRequest{"overrideToken", [](Family&, VocabularyConfig& c) { override(c, Kind::Model, "first", "", {}); },
                   ExitCode::Input, "'q' of first"},
        BadRequest{"overrideId", [](Family&, VocabularyConfig& c) { override(c, Kind::ModelToken, "first", "", 4); },
                   ExitCode::Input, "rows 0 to 3"}),
    [](const auto& info) { return info.param.name; });

/// A float32 matrix of a golden file.
struct Matrix {
    std::int64_t columns = 0;
    std::vector<float> values;

    std::span<const float> row(std::int64_t index) const {
        return std::span(values).subspan(static_cast<std::size_t>(index * columns), static_cast<std::size_t>(columns));
    }
};

Matrix readMatrix(const std::filesystem::path& path, const std::string& name) {
    for (const TensorInfo& tensor : readSafetensorsHeader(path).tensors) {
        if (tensor.name != name) continue;
        Matrix matrix{tensor.shape.at(1), std::vector<float>(static_cast<std::size_t>(tensor.elements()))};
        File::openForReading(path).readAt(tensor.bytes.begin, std::as_writable_bytes(std::span(matrix.values)));
        return matrix;
    }
    throw InputError("{}: no tensor {}", path.string(), name);
}

/// The golden family's embeddings, aligned row by row.
class GoldenFamily {
public:
    explicit GoldenFamily(const VocabularyConfig& config) {
        std::vector<VocabularyInput> inputs;
        for (const char* model : {"base", "expert_a", "expert_b", "expert_c"}) {
            const std::filesystem::path folder = kGoldens / "family_f32" / model;
            vocabularies_.push_back(Vocabulary::read(folder));
            matrices_.push_back(readMatrix(folder / "model.safetensors", kTensor));
        }
        for (std::size_t index = 0; index < matrices_.size(); ++index) {
            const auto rows = static_cast<std::int64_t>(matrices_[index].values.size()) / matrices_[index].columns;
            inputs.push_back({std::to_string(index), {rows, matrices_[index].columns}, &vocabularies_[index]});
        }
        alignment = alignVocabularies(inputs, 0, config, kTensor);
    }

    std::vector<float> row(std::size_t input, std::int64_t row) const {
        RowMean mean(64);
        for (const RowSource& source : alignment.maps[input].sources(row)) mean.add(matrices_[source.input].row(source.row));
        std::vector<float> out(64);
        mean.store(out);
        return out;
    }

    VocabularyAlignment alignment;

private:
    std::vector<Vocabulary> vocabularies_;
    std::vector<Matrix> matrices_;
};

/// @param combine base and the three experts at one element
void expectGolden(const std::string& file, const VocabularyConfig& config,
                  const std::function<float(float, float, float, float)>& combine) {
    const GoldenFamily family(config);
    const Matrix golden = readMatrix(kGoldens / "merge" / file, kTensor);
    ASSERT_EQ(static_cast<std::int64_t>(golden.values.size()), family.alignment.rows * 64);
    for (std::int64_t row = 0; row < family.alignment.rows; ++row) {
        const auto base = family.row(0, row), a = family.row(1, row), b = family.row(2, row), c = family.row(3, row);
        for (std::size_t column = 0; column < 64; ++column) {
            const float expected = golden.row(row)[column];
            // The tolerance that the golden's manifest states.
            ASSERT_NEAR(combine(base[column], a[column], b[column], c[column]), expected, 2e-6 + 2e-5 * std::abs(expected))
                << "row " << row << ", column " << column;
        }
    }
}

float taskArithmetic(float base, float a, float b, float c) {
    return base + ((a - base) + (b - base) + (c - base));
}

TEST(VocabularyAlignment, GivesTheGoldenTaskArithmeticOfTheUnion) {
    expectGolden("vocab_union_task_arithmetic.safetensors", sourceOf(VocabularySource::Union), taskArithmetic);
}

TEST(VocabularyAlignment, GivesTheGoldenLinearMergeOfTheUnion) {
    expectGolden("vocab_union_linear.safetensors", sourceOf(VocabularySource::Union),
                 [](float base, float a, float b, float c) { return (base + a + b + c) / 4; });
}

TEST(VocabularyAlignment, GivesTheGoldenTaskArithmeticOfTruncatedEmbeddings) {
    VocabularyConfig config;
    config.unsafeTruncateEmbeddings = true;
    expectGolden("vocab_truncate_task_arithmetic.safetensors", config, taskArithmetic);
}

}  // namespace
}  // namespace aimerge

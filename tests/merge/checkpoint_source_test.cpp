#include "aimerge/core/error.h"
#include "aimerge/merge/merge_tensor.h"
#include "aimerge/merge/tensor_source.h"
#include "merge/memory_parameter.h"
#include "support/safetensors_builder.h"
#include "support/temp_folder.h"

#include <gmock/gmock.h>

namespace aimerge {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

/// A model folder with one tensor "model.embed_tokens.weight".
class OneTensor {
public:
    OneTensor(const std::string& dtype, const std::vector<std::int64_t>& shape, const std::string& bytes) {
        writeBytes(folder_ / "config.json", R"({"architectures": ["Any"], "model_type": "any"})");
        SafetensorsBuilder().add("model.embed_tokens.weight", dtype, shape, bytes).write(folder_ / "model.safetensors");
        checkpoint_ = Checkpoint::open(folder_.path().string());
    }

    InputView view() const { return {&*checkpoint_, checkpoint_->find("model.embed_tokens.weight")}; }
    std::string name() const { return checkpoint_->name(); }

private:
    TempFolder folder_;
    std::optional<Checkpoint> checkpoint_;
};

TEST(DirectSource, ReadsEveryDtypeFromAnyElement) {
    const OneTensor bf16("BF16", {4}, bytesOf<std::uint16_t>({0x3F80, 0xC000, 0x4040, 0x0000}));
    const OneTensor f16("F16", {4}, bytesOf<std::uint16_t>({0x3C00, 0xC000, 0x4200, 0x0000}));
    const OneTensor f32("F32", {4}, bytesOf<float>({1, -2, 3, 0}));
    const OneTensor f64("F64", {4}, bytesOf<double>({1, -2, 3, 0}));
    for (const OneTensor* model : {&bf16, &f16, &f32, &f64}) {
        EXPECT_THAT(valuesOf(*directSource(model->view()), 0, 4), ElementsAre(1, -2, 3, 0));
        EXPECT_THAT(valuesOf(*directSource(model->view()), 1, 2), ElementsAre(-2, 3));
    }
}

TEST(DirectSource, NamesModelTensorElementAndValueThatIsNotFinite) {
    struct Row {
        std::string dtype, bytes, value;
    };
    const std::vector<Row> rows{{"BF16", bytesOf<std::uint16_t>({0x3F80, 0xFF80}), "-inf"},
                                {"F16", bytesOf<std::uint16_t>({0x3C00, 0x7E00}), "nan"},
                                {"F32", bytesOf<float>({1, std::numeric_limits<float>::infinity()}), "inf"},
                                {"F64", bytesOf<double>({1, 1e300}), "1e+300"}};
    for (const Row& row : rows) {
        const OneTensor model(row.dtype, {2}, row.bytes);
        try {
            valuesOf(*directSource(model.view()), 0, 2);
            ADD_FAILURE() << "accepted " << row.dtype;
        } catch (const InputError& error) {
            EXPECT_THAT(error.what(),
                        HasSubstr(model.name() + ": model.embed_tokens.weight is " + row.value + " at element 1;"));
        }
    }
}

TEST(AlignedSource, PutsRowsTogetherFromSeveralModels) {
    const OneTensor own("F32", {3, 2}, bytesOf<float>({1, 2, 3, 4, 5, 6}));
    const OneTensor other("BF16", {2, 2}, bytesOf<std::uint16_t>({0x4120, 0x41A0, 0x41F0, 0x4220}));  // 10 20 30 40
    RowMap map(0);
    const auto append = [&](std::vector<RowSource> sources) { map.append(sources); };
    append({{0, 1}});
    append({{0, 2}});
    append({{1, 0}});
    append({});                // zeros
    append({{0, 0}, {1, 1}});  // mean
    map.pad(2);
    const auto source = alignedSource(0, {own.view(), other.view()}, map);
    // Padding: the mean of all aligned rows, (3+5+10+0+15.5)/5 and (4+6+20+0+21)/5.
    const Floats all{3, 4, 5, 6, 10, 20, 0, 0, 15.5f, 21, 6.7f, 10.2f, 6.7f, 10.2f};
    for (std::int64_t first = 0; first < 14; ++first) {
        for (std::size_t count = 1; first + static_cast<std::int64_t>(count) <= 14; ++count)
            EXPECT_EQ(valuesOf(*source, first, count),
                      Floats(all.begin() + first, all.begin() + first + static_cast<std::ptrdiff_t>(count)));
    }
}

TEST(AlignedSource, CutsAtThePrefix) {
    const OneTensor own("F32", {3, 2}, bytesOf<float>({1, 2, 3, 4, 5, 6}));
    EXPECT_THAT(valuesOf(*alignedSource(0, {own.view()}, RowMap::prefix(0, 2)), 0, 4), ElementsAre(1, 2, 3, 4));
}

void copy(const TensorCopy& tensor, MemorySink& sink, std::size_t points = 1) {
    ThreadPool threads(2);
    copyTensors({&tensor, 1}, points, threads, sink);
}

TEST(CopyTensors, TakesIdenticalBytesOver) {
    std::vector<std::int64_t> values(700'000);  // more than a block
    for (std::size_t i = 0; i < values.size(); ++i) values[i] = static_cast<std::int64_t>(i * i);
    const OneTensor a("I64", {700'000}, bytesOf(values)), b("I64", {700'000}, bytesOf(values));
    MemorySink sink;
    copy({"position_ids", Dtype::I64, {a.view(), b.view()}}, sink, 2);
    EXPECT_EQ(sink.values<std::int64_t>(0, 0), values);
    EXPECT_EQ(sink.values<std::int64_t>(0, 1), values);
    EXPECT_EQ(sink.finished(), 1u);
}

TEST(CopyTensors, RefusesBytesThatDiffer) {
    const OneTensor a("I64", {2}, bytesOf<std::int64_t>({1, 2})), b("I64", {2}, bytesOf<std::int64_t>({1, 3}));
    MemorySink sink;
    try {
        copy({"position_ids", Dtype::I64, {a.view(), b.view()}}, sink);
        FAIL() << "accepted";
    } catch (const InputError& error) {
        EXPECT_THAT(error.what(), HasSubstr("position_ids: the values in " + a.name() + " and " + b.name() + " differ"));
        EXPECT_THAT(error.what(), HasSubstr("int64"));
    }
}

TEST(CopyTensors, ConvertsToTheOutputsDtype) {
    const float infinity = std::numeric_limits<float>::infinity();
    const OneTensor model("F32", {3}, bytesOf<float>({1, 1 + 0x1p-9f, -infinity}));
    MemorySink sink;
    copy({"mask", Dtype::BF16, {model.view()}}, sink);
    EXPECT_THAT(sink.values<std::uint16_t>(0), ElementsAre(0x3F80, 0x3F80, 0xFF80));
}

}  // namespace
}  // namespace aimerge

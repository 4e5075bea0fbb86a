// Run with 1, 2, 3 and 4 ranks: with four, one rank has no layer.

#include "aimerge/calibration/measure_experts.h"
#include "aimerge/calibration/gradient_memory.h"
#include "aimerge/model/gradient.h"
#include "calibration/gram_observer.h"
#include "calibration/stage_run.h"
#include "corpus/golden_corpus.h"
#include "support/mpi_world.h"
#include "support/temp_folder.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <ATen/ATen.h>
#include <c10/core/InferenceMode.h>
#include <torch/csrc/autograd/autograd.h>

#include <filesystem>

namespace aimerge {
namespace {

namespace fs = std::filesystem;
using Tensors = std::map<std::string, std::vector<float>>;

Tensors readTensors(const fs::path& folder) {
    Tensors tensors;
    for (const auto& entry : fs::directory_iterator(folder)) {
        const File file = File::openForReading(entry.path());
        for (const TensorInfo& tensor : readSafetensorsHeader(entry.path()).tensors) {
            std::vector<float> values(static_cast<std::size_t>(tensor.elements()));
            file.readAt(tensor.bytes.begin, std::as_writable_bytes(std::span(values)));
            tensors.emplace(tensor.name, std::move(values));
        }
    }
    return tensors;
}

/// A folder that all ranks see, there until the last of them is done with it.
class SharedFolder {
public:
    SharedFolder() : path_(testWorld().broadcast(folder_.path().string())) {}
    ~SharedFolder() { testWorld().barrier(); }
    const fs::path& path() const { return path_; }

private:
    TempFolder folder_;
    fs::path path_;
};

/// sum x x^T / tokens in float64 of whatever enters the modules of each input.
class PlainGrams : public StageObserver {
public:
    explicit PlainGrams(const DecoderDescription& decoder) : decoder_(decoder) {}
    void beginMicroBatch(std::int64_t) override {}
    void observe(const ModuleInput& where, const at::Tensor& input) override {
        const at::Tensor rows = input.reshape({-1, input.size(-1)}).to(at::kDouble);
        auto& [sum, tokens] = sums_[decoder_.modulesAt(where).front() + ".gram"];
        const at::Tensor product = at::einsum("ti,tj->ij", {rows, rows});
        sum = sum.defined() ? sum + product : product;
        tokens += rows.size(0);
    }
    at::Tensor gram(const std::string& name) const {
        const auto& [sum, tokens] = sums_.at(name);
        return sum / tokens;
    }

private:
    DecoderDescription decoder_;
    std::map<std::string, std::pair<at::Tensor, std::int64_t>> sums_;
};

Tensors measure(void (*work)(World&, const CalibrationJob&, const fs::path&), const char* model, Dtype dtype,
                std::int64_t microBatch, std::int64_t blockCount, std::uint64_t memoryLimit = 0) {
    const Checkpoint expert = Checkpoint::open(goldenPath(model).string());
    CalibrationConfig config;
    config.dtype = dtype;
    config.microBatch = microBatch;
    const TokenBlocks blocks = goldenBlocks(blockCount);
    const Plan plan = planOfThreeLayers(testWorld().size(), false);
    const SharedFolder folder;
    work(testWorld(), {expert, config, plan, blocks, 1, memoryLimit}, folder.path());
    testWorld().barrier();  // all have written
    return readTensors(folder.path());
}

TEST(MeasureGrams, AreMeansOfOuterProductsOfWhatEntersTheLayers) {
    const Tensors got = measure(measureGrams, "family_f32/expert_a", Dtype::F32, 3, 8);

    const c10::InferenceMode inference;
    const Checkpoint expert = Checkpoint::open(goldenPath("family_f32/expert_a").string());
    CalibrationConfig config;
    config.dtype = Dtype::F32;
    config.microBatch = 3;
    const TokenBlocks blocks = goldenBlocks();
    Stage whole;
    whole.endLayer = 3;
    PlainGrams plain(*expert.modelConfig().decoder);
    const Plan plan;
    MpiTransport nobody(testWorld(), whole);
    runStage(testWorld(), nobody, {expert, config, plan, blocks}, whole, MicroBatches(blocks.blocks, config.microBatch), {},
             plain);

    ASSERT_EQ(got.size(), 3 * 4 + 1);  // per layer the inputs of attention, o_proj, MLP and down_proj; and the head's
    for (const auto& entry : got) {
        const std::string& name = entry.first;
        const std::vector<float>& values = entry.second;
        const at::Tensor want = plain.gram(name);
        const std::int64_t size = want.size(0);
        ASSERT_EQ(static_cast<std::int64_t>(values.size()), size * size) << name;
        const auto at = [&](std::int64_t r, std::int64_t c) { return values[static_cast<std::size_t>(r * size + c)]; };
        for (std::int64_t r = 0; r < size; ++r) {
            for (std::int64_t c = 0; c < size; ++c) {
                const double scale = std::sqrt(want[r][r].item<double>() * want[c][c].item<double>());
                // A float32 sum of 192 products errs by at most 192 x 2^-24 of the sum of magnitudes, which scale bounds.
                ASSERT_NEAR(at(r, c), want[r][c].item<double>(), 192 * 0x1p-24 * scale) << name << " " << r << " " << c;
                ASSERT_EQ(at(r, c), at(c, r)) << name;
            }
        }
    }
}

TEST(MeasureGrams, HaveTheBitsOfOneRank) {
    const Tensors got = measure(measureGrams, "family_bf16/expert_b", Dtype::BF16, 2, 7);

    const SharedFolder folders;
    const fs::path alone = folders.path() / std::to_string(testWorld().rank());
    fs::create_directory(alone);
    const Checkpoint expert = Checkpoint::open(goldenPath("family_bf16/expert_b").string());
    CalibrationConfig config;
    config.microBatch = 2;
    const TokenBlocks blocks = goldenBlocks(7);
    const Plan plan;
    Stage whole;
    whole.endLayer = 3;
    {
        const c10::InferenceMode inference;
        GramObserver observer(alone, "alone", *expert.modelConfig().decoder, 0);
        MpiTransport nobody(testWorld(), whole);
        runStage(testWorld(), nobody, {expert, config, plan, blocks}, whole, MicroBatches(blocks.blocks, config.microBatch),
                 {}, observer, LayerOrder::OneAtATime);
        observer.finish();
    }
    EXPECT_EQ(got, readTensors(alone));
}

TEST(MeasureFisher, HasEveryParameterAndNoNegativeValue) {
    const Tensors got = measure(measureFisher, "family_f32/expert_a", Dtype::F32, 1, 2);

    const Checkpoint expert = Checkpoint::open(goldenPath("family_f32/expert_a").string());
    ASSERT_EQ(got.size(), expert.tensors().size());
    for (const TensorInfo& tensor : expert.tensors()) {
        const std::vector<float>& values = got.at(tensor.name);
        ASSERT_EQ(static_cast<std::int64_t>(values.size()), tensor.elements()) << tensor.name;
        EXPECT_THAT(values, testing::Each(testing::Ge(0.0f))) << tensor.name;
        EXPECT_THAT(values, testing::Contains(testing::Gt(0.0f))) << tensor.name;
    }
}

/// Squares of gradients, added up.
class PlainSums : public GradientObserver {
public:
    void observe(const std::string& parameter, at::IntArrayRef sizes, std::int64_t firstRow,
                 const at::Tensor& gradient) override {
        const at::Tensor wide = gradient.to(at::kFloat);
        sumOf(parameter, sizes).narrow(0, firstRow, gradient.size(0)).addcmul_(wide, wide);
    }
    void observeRows(const std::string& parameter, std::int64_t vocabulary, const at::Tensor& rows,
                     const at::Tensor& gradient) override {
        at::Tensor& sum = sumOf(parameter, {vocabulary, gradient.size(1)});
        sum.index_put_({rows}, sum.index({rows}).addcmul_(gradient, gradient));
    }
    std::map<std::string, at::Tensor> sums;

private:
    at::Tensor& sumOf(const std::string& parameter, at::IntArrayRef sizes) {
        at::Tensor& sum = sums[parameter];
        if (!sum.defined()) sum = at::zeros(sizes, at::kFloat);
        return sum;
    }
};

/// As autograd has it.
at::Tensor gradientOfNextTokenLoss(const at::Tensor& logits, std::span<const std::int32_t> ids) {
    const at::Tensor next = at::tensor(at::ArrayRef<int>(ids.data() + 1, ids.size() - 1)).to(at::kLong);
    const at::Tensor leaf = logits.to(at::kFloat, /*non_blocking=*/false, /*copy=*/true).set_requires_grad(true);
    const at::Tensor loss = at::cross_entropy_loss(leaf.narrow(0, 0, next.numel()), next, {}, at::Reduction::Sum);
    return torch::autograd::grad({loss}, {leaf})[0].to(logits.scalar_type());
}

TEST(MeasureFisher, HasTheBitsOfOneStageWhateverIsKept) {
    constexpr std::int64_t kBlocks = 7;
    const Checkpoint expert = Checkpoint::open(goldenPath("family_bf16/expert_b").string());
    const TokenBlocks blocks = goldenBlocks(kBlocks);
    const Decoder decoder(expert, Dtype::BF16, blocks.length);
    PlainSums plain;
    StageGradient whole(decoder, 0, 3, blocks.length, Kept::Nothing, {0, 3}, plain);
    for (std::int64_t block = 0; block < kBlocks; ++block) {
        GradientPass pass;
        pass.ids = std::span(blocks.ids)
                       .subspan(static_cast<std::size_t>(block * blocks.length), static_cast<std::size_t>(blocks.length));
        whole.embed(pass);
        whole.forward(pass);
        whole.backwardThroughHead(pass, gradientOfNextTokenLoss);
        whole.backward(pass);
        whole.backwardThroughEmbedding(pass);
    }
    if (decoder.config().tieWordEmbeddings)
        plain.sums.at(decoder.description().embedding).add_(plain.sums.extract(decoder.headParameter()).mapped());

    const GradientMemory memory = gradientMemory(decoder.config(), 1, 3, blocks.length, Dtype::BF16, 0);
    const std::uint64_t forOneLayer = 2 * memory.ends + memory.states + memory.layerSums;  // and two tables, on one rank
    ASSERT_EQ(gradientMemory(decoder.config(), 3, 1, blocks.length, Dtype::BF16, forOneLayer).layersAtOnce(), 1);
    for (const std::uint64_t memoryLimit : {std::uint64_t{0}, std::uint64_t{1} << 40, forOneLayer}) {
        const Tensors got = measure(measureFisher, "family_bf16/expert_b", Dtype::BF16, 1, kBlocks, memoryLimit);

        ASSERT_EQ(got.size(), plain.sums.size());
        for (auto& [name, sum] : plain.sums) {
            const at::Tensor mean = sum / kBlocks;
            const float* const want = mean.const_data_ptr<float>();
            EXPECT_TRUE(std::equal(got.at(name).begin(), got.at(name).end(), want, want + mean.numel())) << name;
        }
    }
}

}  // namespace
}  // namespace aimerge

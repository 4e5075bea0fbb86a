#include "aimerge/checkpoint/model_set.h"
#include "aimerge/core/error.h"
#include "support/expect_error.h"
#include "support/log_capture.h"
#include "support/temp_folder.h"
#include "support/tiny_llama.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <utility>

namespace aimerge {
namespace {

using testing::AllOf;
using testing::HasSubstr;
using testing::IsEmpty;
using Action = MatchedTensor::Action;

/// Three models, changed before they are matched: experts a and b, then the base.
class TensorMatching : public testing::Test {
protected:
    TinyLlama a_, b_, base_;
    LogCapture log_;

    ModelSet set() {
        a_.write(folder_ / "a");
        b_.write(folder_ / "b");
        base_.write(folder_ / "base");
        MergeConfig config;
        config.slices.push_back({.wholeModels = true});
        for (const char* name : {"a", "b"}) config.slices[0].sources.push_back({(folder_ / name).string(), {}, {}});
        config.baseModel = (folder_ / "base").string();
        return ModelSet::open(config);
    }
    std::string refusal() {
        const ModelSet models = set();
        return messageOf<InputError>([&] { matchTensors(models); });
    }
    std::string file(const std::string& model) const { return (folder_ / model / "model.safetensors").string(); }

    TempFolder folder_;
};

const MatchedTensor* findIn(const std::vector<MatchedTensor>& tensors, const std::string& name) {
    const auto found =
        std::find_if(tensors.begin(), tensors.end(), [&](const MatchedTensor& tensor) { return tensor.name == name; });
    return found == tensors.end() ? nullptr : &*found;
}

TEST_F(TensorMatching, MergesWhatAllHaveInModelOrder) {
    const ModelSet models = set();

    const std::vector<MatchedTensor> tensors = matchTensors(models);

    ASSERT_EQ(tensors.size(), base_.tensors.size());
    for (std::size_t i = 0; i < tensors.size(); ++i) {
        EXPECT_EQ(tensors[i].name, models.reference().tensors()[i].name);
        EXPECT_EQ(tensors[i].action, Action::Merge);
        ASSERT_EQ(tensors[i].inputs.size(), 3u);
        for (std::size_t model = 0; model < 3; ++model)
            EXPECT_EQ(tensors[i].inputs[model].tensor, models.models[model].find(tensors[i].name));
    }
    EXPECT_THAT(log_.text(), IsEmpty());
}

TEST_F(TensorMatching, AcceptsFloatingTypesThatDiffer) {
    a_.tensors["model.norm.weight"] = {"BF16", {4}, std::string(8, '\0')};
    const ModelSet models = set();

    EXPECT_EQ(findIn(matchTensors(models), "model.norm.weight")->action, Action::Merge);
}

TEST_F(TensorMatching, LeavesOutWhatLoadersDerive) {
    a_.addFloats("model.layers.0.self_attn.rotary_emb.inv_freq", {1});
    base_.addFloats("model.layers.1.attn.masked_bias", {1});
    base_.addFloats("model.layers.1.attn.bias", {1, 1, 2, 2});
    const ModelSet models = set();

    const std::vector<MatchedTensor> tensors = matchTensors(models);

    EXPECT_EQ(tensors.size(), b_.tensors.size());
    EXPECT_THAT(log_.text(), HasSubstr("info: 3 buffers that loaders derive by themselves are left out "
                                       "(model.layers.0.self_attn.rotary_emb.inv_freq, ...)"));
}

TEST_F(TensorMatching, MergesALearnedAttentionBias) {
    for (TinyLlama* model : {&a_, &b_, &base_}) model->addFloats("model.layers.1.attn.bias", {4});
    const ModelSet models = set();

    EXPECT_NE(findIn(matchTensors(models), "model.layers.1.attn.bias"), nullptr);
}

TEST_F(TensorMatching, CopiesWhatOnlyTheBaseHas) {
    base_.addFloats("model.extra.one", {2});
    base_.addFloats("model.extra.two", {2});
    const ModelSet models = set();

    const std::vector<MatchedTensor> tensors = matchTensors(models);

    const MatchedTensor* copied = findIn(tensors, "model.extra.two");
    ASSERT_NE(copied, nullptr);
    EXPECT_EQ(copied->action, Action::CopyFromBase);
    EXPECT_EQ(copied->inputs[0].tensor, nullptr);
    EXPECT_EQ(copied->inputs[1].tensor, nullptr);
    EXPECT_EQ(copied->inputs[2].tensor, models.reference().find("model.extra.two"));
    EXPECT_THAT(log_.text(), HasSubstr("warning: 2 tensors are only in " + (folder_ / "base").string() +
                                       " and are copied from it unmerged (model.extra.one, ...)"));
}

TEST_F(TensorMatching, MergesASingleModelWithItself) {
    base_.write(folder_ / "only");
    MergeConfig config;
    config.slices.push_back({.sources = {{(folder_ / "only").string(), {}, {}}}, .wholeModels = true});
    const ModelSet models = ModelSet::open(config);

    for (const MatchedTensor& tensor : matchTensors(models)) EXPECT_EQ(tensor.action, Action::Merge) << tensor.name;
}

TEST_F(TensorMatching, RefusesWhatOnlyAnExpertHas) {
    b_.addFloats("model.extra", {2});

    EXPECT_THAT(refusal(), HasSubstr(file("b") + ": tensor model.extra is not in " + (folder_ / "base").string()));
}

TEST_F(TensorMatching, RefusesWhatSomeExpertsLack) {
    a_.tensors.erase("model.norm.weight");

    EXPECT_THAT(refusal(), HasSubstr((folder_ / "a").string() +
                                     ": tensor model.norm.weight is missing, but 2 of the 3 models have it"));
}

TEST_F(TensorMatching, RefusesShapesThatDiffer) {
    b_.addFloats("model.layers.1.mlp.up_proj.weight", {4, 8});

    EXPECT_THAT(
        refusal(),
        HasSubstr(file("b") + ": tensor model.layers.1.mlp.up_proj.weight has shape [4, 8], but [8, 4] in " + file("base")));
}

TEST_F(TensorMatching, LeavesDifferentVocabulariesToTheirOwnStep) {
    b_.addFloats("model.embed_tokens.weight", {7, 4});
    b_.addFloats("lm_head.weight", {7, 4});
    const ModelSet models = set();

    const std::vector<MatchedTensor> tensors = matchTensors(models);

    EXPECT_EQ(findIn(tensors, "lm_head.weight")->inputs[1].tensor->shape, (Shape{7, 4}));
    EXPECT_EQ(findIn(tensors, "lm_head.weight")->action, Action::Merge);
}

TEST_F(TensorMatching, RefusesVocabulariesOfAnotherWidth) {
    b_.addFloats("model.embed_tokens.weight", {6, 5});

    EXPECT_THAT(refusal(), HasSubstr("tensor model.embed_tokens.weight has shape [6, 5], but [6, 4] in"));
}

TEST_F(TensorMatching, PutsTheEmbeddingInThePlaceOfATiedHead) {
    for (TinyLlama* model : {&a_, &base_}) {
        model->config["tie_word_embeddings"] = true;
        model->tensors.erase("lm_head.weight");
    }
    const ModelSet models = set();

    const std::vector<MatchedTensor> tensors = matchTensors(models);

    const MatchedTensor& head = tensors.back();
    EXPECT_EQ(head.name, "lm_head.weight");
    EXPECT_EQ(head.action, Action::Merge);
    EXPECT_EQ(head.inputs[0].tensor, models.models[0].find("model.embed_tokens.weight"));
    EXPECT_EQ(head.inputs[1].tensor, models.models[1].find("lm_head.weight"));
    EXPECT_EQ(head.inputs[2].tensor, models.models[2].find("model.embed_tokens.weight"));
}

TEST_F(TensorMatching, WritesNoHeadWhereAllAreTied) {
    for (TinyLlama* model : {&a_, &b_, &base_}) {
        model->config["tie_word_embeddings"] = true;
        model->tensors.erase("lm_head.weight");
    }
    const ModelSet models = set();

    EXPECT_EQ(findIn(matchTensors(models), "lm_head.weight"), nullptr);
    EXPECT_FALSE(models.headIsWritten());
}

TEST_F(TensorMatching, CopiesWholeNumbersThatAreTheSame) {
    for (TinyLlama* model : {&a_, &b_, &base_}) model->tensors["model.ids"] = {"I64", {2}, std::string(16, '\0')};
    const ModelSet models = set();

    EXPECT_EQ(findIn(matchTensors(models), "model.ids")->action, Action::CopyIdentical);
}

TEST_F(TensorMatching, RefusesTypesThatCannotBeMerged) {
    const struct {
        TinyTensor expert, base;
        std::string message;
    } rows[] = {
        {{"I64", {2}, std::string(16, '\0')}, {"F32", {2}, std::string(8, '\0')}, "tensor model.x is I64, but F32 in"},
        {{"F32", {2}, std::string(8, '\0')}, {"I32", {2}, std::string(8, '\0')}, "tensor model.x is F32, but I32 in"},
        {{"I64", {2}, std::string(16, '\0')}, {"I32", {2}, std::string(8, '\0')}, "tensor model.x is I64, but I32 in"},
        {{"F8_E4M3", {2}, "ab"}, {"F32", {2}, std::string(8, '\0')}, "tensor model.x is F8_E4M3, which cannot be merged"},
        {{"F8_E8M0", {2}, "ab"}, {"F32", {2}, std::string(8, '\0')}, "tensor model.x is F8_E8M0, which cannot be merged"},
        {{"C64", {2}, std::string(16, '\0')}, {"F32", {2}, std::string(8, '\0')}, "tensor model.x is C64, which cannot"},
        {{"F4", {2}, "a"}, {"F32", {2}, std::string(8, '\0')}, "tensor model.x is F4, which cannot be merged"},
    };
    for (const auto& row : rows) {
        a_.tensors["model.x"] = b_.tensors["model.x"] = row.expert;
        base_.tensors["model.x"] = row.base;

        EXPECT_THAT(refusal(), AllOf(HasSubstr(file("a")), HasSubstr(row.message)));
    }
}

TEST_F(TensorMatching, RefusesToCopyWhatIsPacked) {
    base_.tensors["model.x"] = {"F6_E2M3", {4}, "abc"};

    EXPECT_THAT(refusal(), AllOf(HasSubstr(file("base")), HasSubstr("tensor model.x is F6_E2M3, which cannot be merged")));
}

/// A layer for multi-token prediction behind the two others.
void addPrediction(TinyLlama& model) {
    model.config["num_nextn_predict_layers"] = 1;
    model.addFloats("model.layers.2.eh_proj.weight", {4, 8});
}

TEST_F(TensorMatching, MergesPredictionLayersThatAllHave) {
    for (TinyLlama* model : {&a_, &b_, &base_}) addPrediction(*model);
    const ModelSet models = set();

    const std::vector<MatchedTensor> tensors = matchTensors(models);
    const MatchedTensor* tensor = findIn(tensors, "model.layers.2.eh_proj.weight");

    ASSERT_NE(tensor, nullptr);
    EXPECT_EQ(tensor->action, Action::Merge);
    EXPECT_EQ(tensor->depth, 1);
}

TEST_F(TensorMatching, CopiesPredictionLayersThatAnExpertLacks) {
    for (TinyLlama* model : {&a_, &base_}) addPrediction(*model);
    const ModelSet models = set();

    EXPECT_EQ(findIn(matchTensors(models), "model.layers.2.eh_proj.weight")->action, Action::CopyFromBase);
    EXPECT_THAT(log_.text(), HasSubstr("copied from it unmerged (model.layers.2.eh_proj.weight)"));
}

TEST_F(TensorMatching, LeavesOutPredictionLayersThatTheBaseLacks) {
    addPrediction(a_);
    const ModelSet models = set();

    EXPECT_EQ(findIn(matchTensors(models), "model.layers.2.eh_proj.weight"), nullptr);
    EXPECT_THAT(log_.text(), HasSubstr("1 tensors of layers for multi-token prediction are left out"));
}

TEST_F(TensorMatching, LeavesOutWhatAWrapperPutBeforeAllNames) {
    for (TinyLlama* model : {&b_, &base_}) {
        const auto names = std::exchange(model->tensors, {});
        for (const auto& [name, tensor] : names) model->tensors["module._orig_mod." + name] = tensor;
    }
    const ModelSet models = set();

    EXPECT_NE(findIn(matchTensors(models), "model.layers.0.mlp.up_proj.weight"), nullptr);
    EXPECT_THAT(log_.text(), HasSubstr("_orig_mod. stands before all of them"));
}

TEST_F(TensorMatching, TakesNamesThatOtherToolsWroteForTheBases) {
    const auto wrapped = std::exchange(b_.tensors, {});
    for (const auto& [name, tensor] : wrapped) b_.tensors["language_model." + name] = tensor;
    const ModelSet models = set();

    const std::vector<MatchedTensor> tensors = matchTensors(models);

    EXPECT_EQ(tensors.size(), base_.tensors.size());
    EXPECT_THAT(log_.text(), HasSubstr("language_model.lm_head.weight is taken for lm_head.weight"));
}

}  // namespace
}  // namespace aimerge

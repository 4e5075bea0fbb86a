#include "aimerge/merge/job_check.h"
#include "aimerge/core/error.h"
#include "aimerge/merge/resolve_parameters.h"

#include <gmock/gmock.h>

namespace aimerge {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

MergeConfig configOf(const std::string& text) {
    return parseMergeConfig(text, "merge.yaml", {}, ConfigUse::Merge);
}

const MethodInfo& infoOf(const std::string& method) {
    return findMethod(method, {}).info();
}

TEST(CheckMergeConfig, AcceptsWhatTheMethodsTake) {
    for (const char* text : {"merge_method: linear\nmodels:\n- {model: a, parameters: {weight: -1}}\n- {model: b, "
                             "parameters: {weight: [0, 1]}}\n",
                             "merge_method: linear\nbase_model: a\nparameters: {weight: 1}\nmodels: [{model: a}]\n",
                             "merge_method: ties\nbase_model: a\nparameters: {weight: 1, density: 1.0, int8_mask: true, "
                             "lambda: -2}\nmodels: [{model: a}, {model: b}]\n",
                             "merge_method: task_arithmetic\nbase_model: a\nmodels: [{model: b, parameters: {weight: 1, "
                             "density: [{filter: mlp, value: [0, 1]}]}}]\n",
                             "merge_method: task_arithmetic\nbase_model: a+lora\nmodels: [{model: a+lora}]\n",
                             "merge_method: slerp\nbase_model: a\nparameters: {t: 1.5}\nmodels: [{model: b}]\n"}) {
        const MergeConfig config = configOf(text);
        EXPECT_THAT(checkMergeConfig(findMethod(config.method, {}), config), testing::IsEmpty()) << text;
    }
}

TEST(CheckMergeConfig, ListsWhatNothingReads) {
    struct Row {
        const char* text;
        std::vector<std::string> reasons;
    };
    const std::vector<Row> rows{
        {"merge_method: slerp\nbase_model: a\nparameters: {t: 0.5, embed_slerp: true}\nmodels: [{model: a, parameters: "
         "{weight: "
         "1}}, {model: b}]\n",
         {"the key 'embed_slerp' is not known here and is ignored; embeddings are merged like other tensors; 't' with a "
          "filter "
          "gives them a value of their own",
          "the method slerp has no parameter 'weight', which is ignored; it has t"}},
        {"merge_method: ties\nbase_model: a\nparameters: {weight: 1, int_space: cs}\nmodels: [{model: b}]\n",
         {"the method ties has no parameter 'int_space', which is ignored; it has weight, density, lambda, normalize, "
          "rescale, "
          "int8_mask"}},
        {"merge_method: arcee_fusion\nbase_model: a\nmodels: [{model: b, parameters: {weight: 1}}]\n",
         {"the method arcee_fusion has no parameter 'weight', which is ignored; it has none"}},
        {"merge_method: linear\nmodels: [{model: b, parameters: {weight: 1, scale: 2}}]\n",
         {"the method linear has no parameter 'scale', which is ignored; it has weight, normalize"}},
        {"merge_method: ties\nbase_model: a\nparameters: {weight: 1, normalize: [{value: 0}]}\n"
         "models: [{model: b, parameters: {normalize: off, int8_mask: true, lambda: 1.0}}]\n",
         {"'int8_mask' is one value for all models and has no effect here; write it under the global parameters",
          "'lambda' is one value for all models and has no effect here; write it under the global parameters",
          "'normalize' is one value for all models and has no effect here; write it under the global parameters"}},
        {"merge_method: ties\nbase_model: a\nparameters: {weight: 1}\nmodels: [{model: a, parameters: {weight: 2}}, {model: "
         "b}]\n",
         {"'weight' has no effect on the base model of ties"}},
    };
    for (const Row& row : rows) {
        const MergeConfig config = configOf(row.text);
        std::vector<std::string> reasons;
        for (const UnreadKey& key : checkMergeConfig(findMethod(config.method, {}), config)) reasons.push_back(key.reason);
        EXPECT_EQ(reasons, row.reasons) << row.text;
    }
}

TEST(CheckMergeConfig, RefusesWhatTheyDoNot) {
    struct Row {
        const char* text;
        const char* message;
    };
    const std::vector<Row> rows{
        {"merge_method: ties\nbase_model: a\nmodels:\n- {model: b, parameters: {wieght: 1}}\n",
         "4:35: the method ties has no parameter 'wieght'; did you mean 'weight'?"},
        {"merge_method: ties\nbase_model: a\nmodels:\n- {model: b, parameters: {weight: 1}, density: 0.5}\n",
         "4:39: 'density' is a parameter of ties and has no effect in models[0]; write it under 'parameters'"},
        {"merge_method: ties\nbase_model: a\nmodels:\n- {model: b, parameters: {weight: 1}, densty: 0.5}\n",
         "4:39: 'density' is a parameter of ties and has no effect in models[0]; write it under 'parameters' (found "
         "'densty')"},
        {"merge_method: sce\nbase_model: a\nselect_topk: 0.1\nmodels: [{model: b}]\n",
         "3:1: 'select_topk' is a parameter of sce and has no effect at the top level"},
        {"merge_method: ties\nbase_model: a\nparameters: {weight: 1}\nmodels: [{model: b, parameters: {lambda: 0.5}}]\n",
         "4:42: 'lambda' is one value for all models and has no effect here"},
        {"merge_method: slerp\nbase_model: a\nmodels: [{model: b, parameters: {t: 0.5}}]\n",
         "3:37: 't' is one value for all models and has no effect here; write it under the global parameters"},
        {"merge_method: ties\nbase_model: a\nmodels: [{model: b}]\nparameters: {density: -0.1}\n",
         "'density' is -0.1; it must be at least 0 and at most 1"},
        {"merge_method: ties\nbase_model: a\nmodels: [{model: b}]\nparameters: {density: [0.5, 1.5]}\n",
         "'density' is 1.5; it must be at least 0 and at most 1"},
        {"merge_method: ties\nbase_model: a\nmodels: [{model: b}]\nparameters: {weight: [{filter: mlp, value: .inf}]}\n",
         "weight must be a finite number, found '.inf'"},
        {"merge_method: ties\nmodels: [{model: b}]\nparameters: {weight: 1}\n", "ties needs base_model"},
        {"merge_method: slerp\nbase_model: b\nmodels: [{model: b}]\nparameters: {t: 1}\n",
         "slerp needs exactly 1 model under 'models' besides the base, found 0"},
    };
    for (const Row& row : rows) {
        try {
            const MergeConfig config = configOf(row.text);
            checkMergeConfig(findMethod(config.method, {}), config);
            ADD_FAILURE() << "accepted: " << row.text;
        } catch (const UsageError& error) {
            EXPECT_THAT(error.what(), HasSubstr(row.message));
            EXPECT_THAT(error.what(), HasSubstr("merge.yaml"));
        }
    }
}

TEST(MethodInputs, LeaveOutTheBaseWhereItIsTreatedApart) {
    EXPECT_THAT(methodInputs(infoOf("ties"), {.inputs = {{0}, {1}, {2}}, .baseInput = 1}), ElementsAre(0, 2));
    EXPECT_THAT(methodInputs(infoOf("ties"), {.inputs = {{0}, {1}, {2}}, .baseInput = 2}), ElementsAre(0, 1));
    EXPECT_THAT(methodInputs(infoOf("linear"), {.inputs = {{0}, {1}, {2}}, .baseInput = 1}), ElementsAre(0, 1, 2));
    EXPECT_THAT(methodInputs(infoOf("linear"), {.inputs = {{0}, {1}}}), ElementsAre(0, 1));
}

TEST(MethodInputs, LeaveOutTheBaseOfASliceThatIsNoSourceOfIt) {
    EXPECT_THAT(methodInputs(infoOf("passthrough"), {.inputs = {{0}, {1}}, .baseInput = 1, .baseIsListed = false}),
                ElementsAre(0));
}

TEST(ResolveParameters, AsksTheModelThenTheGlobalOnesThenTheDefault) {
    const MergeConfig config = configOf(
        "merge_method: ties\nbase_model: base\nparameters: {weight: 0.5, density: 0.25, lambda: [0, 2]}\n"
        "models: [{model: a, parameters: {weight: [{filter: mlp, value: 3}], lambda: 7}}, {model: base}, {model: b, "
        "parameters: {density: 0.75}}]\n");
    const std::vector<InputPlace> inputs{{0, "model.layers.1.mlp.up_proj.weight"}, {2, "model.layers.1.mlp.up_proj.weight"}};
    const ResolvedParameters mlp =
        resolveParameters(infoOf("ties"), config, inputs, {"model.layers.1.mlp.up_proj.weight", 0.5});
    EXPECT_THAT(mlp.perInput[0], ElementsAre(3, 0.5));      // weight
    EXPECT_THAT(mlp.perInput[1], ElementsAre(0.25, 0.75));  // density
    EXPECT_THAT(mlp.shared,
                ElementsAre(0, 0, 1, 1, 0, 0));  // lambda of the gradient's middle; normalize, rescale, int8_mask
    const std::vector<InputPlace> normInputs{{0, "model.norm.weight"}, {2, "model.norm.weight"}};
    const ResolvedParameters norm = resolveParameters(infoOf("ties"), config, normInputs, {"model.norm.weight", 0});
    EXPECT_THAT(norm.perInput[0], ElementsAre(0.5, 0.5));
    EXPECT_EQ(norm.shared[2], 0);
}

TEST(ResolveParameters, GivesAnUnlistedBaseTheGlobalValues) {
    const MergeConfig config = configOf(
        "merge_method: linear\nbase_model: base\nparameters: {weight: 2}\nmodels: [{model: a, parameters: {weight: 1}}]\n");
    const std::vector<InputPlace> inputs{{0, "w"}, {1, "w"}};
    EXPECT_THAT(resolveParameters(infoOf("linear"), config, inputs, {"w", 0}).perInput[0], ElementsAre(1, 2));
}

TEST(ResolveParameters, NamesModelAndTensorOfAMissingValue) {
    const MergeConfig config =
        configOf("merge_method: linear\nbase_model: base\nmodels: [{model: a, parameters: {weight: 1}}]\n");
    const std::vector<InputPlace> inputs{{0, "model.norm.weight"}, {1, "model.norm.weight"}};
    try {
        resolveParameters(infoOf("linear"), config, inputs, {"model.norm.weight", 0});
        FAIL() << "accepted";
    } catch (const UsageError& error) {
        EXPECT_THAT(error.what(),
                    HasSubstr(":1:15: the parameter 'weight' has no value for model 'base' and tensor model.norm.weight"));
    }
}

TEST(ResolveParameters, PointsToTheMethodOfAMissingSharedValue) {
    const MergeConfig config = configOf("merge_method: slerp\nbase_model: base\nmodels: [{model: a}]\n");
    const std::vector<InputPlace> inputs{{0, "w"}};
    try {
        resolveParameters(infoOf("slerp"), config, inputs, {"w", 0});
        FAIL() << "accepted";
    } catch (const UsageError& error) {
        EXPECT_THAT(error.what(), HasSubstr(":1:15: slerp needs the parameter 't', which has no value for tensor w"));
    }
}

}  // namespace
}  // namespace aimerge

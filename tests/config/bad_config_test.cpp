// Every mistake in a config is one row: the text and how the message must begin.

#include "aimerge/config/merge_config.h"
#include "aimerge/core/error.h"
#include "config/parsed_config.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace aimerge {
namespace {

struct BadConfig {
    std::string text;
    std::string message;  // how it begins
};

void expectRefused(const std::vector<BadConfig>& rows, const std::string& prefix, ConfigUse use) {
    for (const BadConfig& row : rows) {
        EXPECT_THAT([&] { parsed(prefix + row.text, {}, use); },
                    testing::ThrowsMessage<UsageError>(testing::StartsWith("merge.yaml" + row.message)))
            << row.text;
    }
}

TEST(BadConfig, TheWholeFile) {
    expectRefused(
        {
            {"", ": the file is empty; a merge configuration was expected"},
            {"# only a comment\n", ": the file is empty"},
            {"just text\n", ":1:1: the file must be a mapping with the keys merge_method, base_model,"},
            {"- a\n- b\n", ":1:1: the file must be a mapping"},
            {"models: [{model: a}]\n", ": 'merge_method' is missing"},
            {"merge_method: ties\n", ": 'models' is missing or empty"},
            {"merge_method: ties\nmodels: []\n", ": 'models' is missing or empty"},
            {"merge_method: [ties]\n", ":1:15: merge_method must be text, found a list"},
            {"merge_method: ''\n", ":1:15: merge_method is an empty text"},
            {"merge_methd: ties\n",
             ":1:1: unknown key 'merge_methd' at the top level; did you mean 'merge_method'? (known keys: merge_method, "
             "base_model"},
            {"merge_method: ties\nmerge_method: linear\n", ":2:1: the key 'merge_method' is written twice"},
        },
        "", ConfigUse::Merge);
}

TEST(BadConfig, TheListOfModels) {
    const std::string method = "merge_method: ties\n";
    expectRefused(
        {
            {"models: a\n", ":2:9: models must be a list of entries '- model: NAME', found 'a'"},
            {"models: {model: a}\n", ":2:9: models must be a list of entries '- model: NAME', found a mapping"},
            {"models:\n  - a\n",
             ":3:5: models[0] must be a mapping with the keys model, parameters, calibration, "
             "found 'a'"},
            {"models:\n  - parameters: {}\n", ":3:5: models[0] needs a 'model'"},
            {"models:\n  - model:\n", ":3:5: models[0] needs a 'model'"},
            {"models:\n  - model: [x]\n",
             ":3:12: models[0].model must be text, or a mapping with the key model, found a list"},
            {"models:\n  - model: a\n    revision: v1\n",
             ":4:5: 'revision' has no effect in models[0]; write the model as NAME@REVISION"},
            {"models:\n  - model: a\n    lora: b\n",
             ":4:5: 'lora' has no effect in models[0]; write the model as NAME+ADAPTER"},
            {"models:\n  - model: a\n  - model: b\n    parmeters: 1\n",
             ":5:5: unknown key 'parmeters' in models[1]; did you mean 'parameters'?"},
            {"models:\n  - model: ./a\n  - model: a/\n", ":4:12: the model 'a/' is listed twice, first at merge.yaml:3:12"},
        },
        method, ConfigUse::Merge);
}

TEST(BadConfig, Slices) {
    expectRefused(
        {
            {"slices: a\n", ":2:9: slices must be a list of slices '- sources: [...]', found 'a'"},
            {"slices: []\n", ": 'models' is missing or empty: list the models to merge, or their 'slices'"},
            {"slices:\n  - sources: []\n", ":3:5: slices[0] needs 'sources'"},
            {"slices:\n  - source: []\n",
             ":3:5: unknown key 'source' in slices[0]; did you mean 'sources'? (known keys: sources, base_model, "
             "parameters)"},
            {"slices:\n  - sources: [{model: a}]\n    merge_method: slerp\n",
             ":4:5: 'merge_method' has no effect in slices[0]; write it at the top level"},
            {"slices:\n  - sources:\n    - model: a\n      layer_rnge: [0, 1]\n",
             ":5:7: unknown key 'layer_rnge' in slices[0].sources[0]; did you mean 'layer_range'?"},
            {"slices:\n  - sources: [{model: a, layer_range: 3}]\n",
             ":3:39: slices[0].sources[0].layer_range must be a list of two layers [from, to), found '3'"},
            {"slices:\n  - sources: [{model: a, layer_range: [3]}]\n",
             ":3:39: slices[0].sources[0].layer_range must be a list of two layers [from, to), found 1 of them"},
            {"slices:\n  - sources: [{model: a, layer_range: [3, 1]}]\n",
             ":3:39: slices[0].sources[0].layer_range ends before it begins: [3, 1)"},
            {"slices:\n  - sources: [{model: a, layer_range: [0, 010]}]\n",
             ":3:43: slices[0].sources[0].layer_range must be whole numbers of at least 0, found '010'"},
            {"slices:\n  - sources: [{model: a, layer_range: [-1, 1]}]\n",
             ":3:40: slices[0].sources[0].layer_range must be whole numbers of at least 0, found '-1'"},
            {"slices:\n  - sources: [{model: a, layer_range: [0, 1.5]}]\n",
             ":3:43: slices[0].sources[0].layer_range must be whole numbers of at least 0, found '1.5'"},
            {"slices:\n  - sources: [{model: a}, {model: a}]\n",
             ":3:35: the model 'a' is listed twice, first at merge.yaml:3:23"},
            {"models: [{model: a}]\nslices: [{sources: [{model: a}]}]\n",
             ":3:1: 'models' and 'slices' exclude each other: whole models, or layers of them"},
            {"models: [{model: a, layer_range: [0, 1]}]\n",
             ":2:21: 'layer_range' has no effect in models[0]; write it in the 'sources' of a slice"},
        },
        "merge_method: passthrough\n", ConfigUse::Merge);
}

TEST(BadConfig, Modules) {
    expectRefused(
        {
            {"modules: {}\n", ":2:1: modules must have a section per module: default for the whole model"},
            {"modules: {vision_tower: {}}\n", ":2:11: modules.vision_tower needs 'models' or 'slices'"},
            {"modules: {default: {models: [{model: a}]}, vision_tower: {models: [{model: a}]}}\n",
             ":2:11: the module default is the whole model, and has no other beside it"},
            {"modules: {default: {modls: []}}\n",
             ":2:21: unknown key 'modls' in modules.default; did you mean 'models'? (known keys: models, slices, "
             "parameters)"},
            {"modules: {default: {models: [{model: a}], slices: []}}\n",
             ":2:43: 'modules.default.models' and 'modules.default.slices' exclude each other"},
            {"modules: {default: {models: [{model: a}]}}\nslices: [{sources: [{model: a}]}]\n",
             ":3:1: 'slices' and 'modules' exclude each other; write it inside of modules.default"},
        },
        "merge_method: ties\n", ConfigUse::Merge);
}

TEST(BadConfig, ReferencesToModels) {
    expectRefused(
        {
            {"base_model: [a]\n", ":4:13: base_model must be text, or a mapping with the key model, found a list"},
            {"base_model: {model: {revision: x}}\n", ":4:21: base_model.model needs a 'path'"},
            {"base_model: {model: a, lora: {revision: b}}\n", ":4:30: base_model.lora needs a 'path'"},
            {"base_model: {model: a, lroa: b}\n", ":4:24: unknown key 'lroa' in base_model; did you mean 'lora'?"},
            {"base_model: {model: a, revision: b}\n", ":4:24: 'revision' has no effect in base_model"},
            {"base_model: ''\n", ":4:13: base_model is an empty text"},
        },
        "merge_method: ties\nmodels: [{model: a}]\ndtype: float32\n", ConfigUse::Merge);
}

TEST(BadConfig, Parameters) {
    expectRefused(
        {
            {"parameters: [1]\n", ":4:13: parameters must be a mapping from parameter names to values, found a list"},
            {"parameters:\n  weight: [1, [2]]\n",
             ":5:15: every value of the gradient parameters.weight must be a number, true or false, found a list"},
            {"parameters:\n  weight: [1, {value: 2}]\n", ":5:15: every value of the gradient parameters.weight must be"},
            {"parameters:\n  weight: [{value: 2}, 1]\n",
             ":5:24: parameters.weight[1] must be a mapping with the keys filter, value, found '1'"},
            {"parameters:\n  weight: {filter: mlp}\n", ":5:11: parameters.weight needs a 'value'"},
            {"parameters:\n  weight: {filter: mlp, value: []}\n", ":5:32: parameters.weight.value is an empty list"},
            {"parameters:\n  weight: {filtr: mlp, value: 1}\n",
             ":5:12: unknown key 'filtr' in parameters.weight; did you mean 'filter'?"},
            {"parameters:\n  weight: {filter: [mlp], value: 1}\n",
             ":5:20: parameters.weight.filter must be text, found a list"},
            {"parameters: {dtype: float16}\n", ":4:14: 'dtype' has no effect in parameters; write it at the top level"},
            {"parameters: {a: 1, a: 2}\n", ":4:20: the key 'a' is written twice"},
        },
        kThreeLines, ConfigUse::Merge);
}

TEST(BadConfig, DtypesAndVocabulary) {
    expectRefused(
        {
            {"dtype: bfloat\n",
             ":4:8: dtype must be one of bfloat16, float16, float32, found 'bfloat'; did you mean 'bfloat16'?"},
            {"out_dtype: [float16]\n", ":4:12: out_dtype must be one of bfloat16, float16, float32, found a list"},
            {"unsafe_truncate_embeddings: maybe\n",
             ":4:29: unsafe_truncate_embeddings must be true or false, found 'maybe'"},
            {"tokenizer_source: base\nunsafe_truncate_embeddings: true\n",
             ":5:1: 'unsafe_truncate_embeddings' cuts vocabularies"},
            {"tokenizer_source: base\ntokenizer: {source: base}\n",
             ":5:1: 'tokenizer' and 'tokenizer_source' exclude each other; write tokenizer: {source: base}"},
            {"tokenizer: base\n",
             ":4:12: tokenizer must be a mapping with the keys source, tokens, pad_to_multiple_of, found 'base'"},
            {"tokenizer: {pad_to_multiple_of: 0}\n",
             ":4:33: tokenizer.pad_to_multiple_of must be a whole number of at least 1"},
            {"tokenizer: {tokens: [x]}\n",
             ":4:21: tokenizer.tokens must be a mapping from tokens to their source, found a list"},
            {"tokenizer: {tokens: {x: {sorce: a}}}\n",
             ":4:26: unknown key 'sorce' in tokenizer.tokens.x; did you mean 'source'?"},
            {"tokenizer: {tokens: {x: {force: true}}}\n",
             ":4:25: tokenizer.tokens.x has 'force' but no 'source' to take the row from"},
            {"tokenizer: {tokens: {x: {source: {kind: one}}}}\n",
             ":4:41: tokenizer.tokens.x.source.kind must be one of zero, model_token, found 'one'"},
            {"tokenizer: {tokens: {x: {source: {model: a}}}}\n", ":4:34: tokenizer.tokens.x.source needs a 'kind'"},
            {"tokenizer: {tokens: {x: {source: {kind: zero, model: a}}}}\n",
             ":4:47: tokenizer.tokens.x.source.model says nothing with 'kind: zero'"},
            {"tokenizer: {tokens: {x: {source: {kind: model_token, token: a}}}}\n",
             ":4:34: tokenizer.tokens.x.source needs a 'model'"},
            {"tokenizer: {tokens: {x: {source: {kind: model_token, model: a}}}}\n",
             ":4:34: tokenizer.tokens.x.source needs either 'token' or 'token_id'"},
            {"tokenizer: {tokens: {x: {source: {kind: model_token, model: a, token: b, token_id: 3}}}}\n",
             ":4:34: tokenizer.tokens.x.source needs either 'token' or 'token_id'"},
            {"tokenizer: {tokens: {x: {source: {kind: model_token, model: a, token_id: -1}}}}\n",
             ":4:74: tokenizer.tokens.x.source.token_id must be a whole number of at least 0, found '-1'"},
        },
        kThreeLines, ConfigUse::Merge);
}

TEST(BadConfig, TheAimSection) {
    const std::string aim = kThreeLines + "aim:\n  statistics: log.h5\n";
    expectRefused(
        {
            {"  omga: 0.4\n",
             ":6:3: unknown key 'omga' in aim; did you mean 'omega'? (known keys: omega, statistic, statistics, "
             "calibration, scope"},
            {"", ":4:1: aim needs 'omega', a number in [0, 1] or a list of them"},
            {"  omega:\n", ":4:1: aim needs 'omega'"},
            {"  omega: 1.5\n",
             ":6:10: aim.omega must lie in [0, 1] (1 = plain merge, 0 = the most active channels of the base), found 1.5"},
            {"  omega: 0\n  normalisation: quantile\n", ":7:18: aim.normalisation is max, layer, global, or quantile:Q"},
            {"  omega: 0\n  normalisation: quantile:2\n", ":7:18: aim.normalisation is max"},
            {"  omega: 0\n  shape: power\n", ":7:10: aim.shape is linear, power:P"},
            {"  omega: 0\n  shape: power:-1\n", ":7:10: aim.shape is linear"},
            {"  omega: 0\n  shape: top:1.5\n", ":7:10: aim.shape is linear"},
            {"  omega: 0\n  shape: sigmoid:x\n", ":7:10: aim.shape is linear"},
            {"  omega: 0\n  control: random\n", ":7:12: aim.control"},
            {"  omega: -0.1\n", ":6:10: aim.omega must lie in [0, 1]"},
            {"  omega: .nan\n", ":6:10: aim.omega must be a finite number, found '.nan'"},
            {"  omega: .inf\n", ":6:10: aim.omega must be a finite number, found '.inf'"},
            {"  omega: half\n", ":6:10: aim.omega must be a finite number, found 'half'"},
            {"  omega: {a: 1}\n", ":6:11: unknown key 'a' in aim.omega"},
            {"  omega: {filter: mlp, value: 0.4}\n", ":6:10: aim.omega needs an entry without a filter"},
            {"  omega: {value: []}\n", ":6:18: aim.omega.value is an empty list"},
            {"  omega: {value: [0.4, 2]}\n", ":6:24: aim.omega must lie in [0, 1]"},
            {"  omega: {value: [0.4, yes]}\n", ":6:24: aim.omega must be a finite number, found 'yes'"},
            {"  omega: [{filter: mlp, value: 0.4}, 0.3]\n", ":6:38: aim.omega[1] must be a mapping"},
            {"  omega: []\n", ":6:10: aim.omega is an empty list"},
            {"  omega: [0.4, 0.2, 0.40]\n", ":6:21: aim.omega lists 0.40 twice"},
            {"  omega: [0, -0]\n", ":6:14: aim.omega lists -0 twice"},
            {"  omega: [0.4, 2]\n", ":6:16: aim.omega must lie in [0, 1]"},
            {"  omega: [0.4, ]\n  omega: 1\n", ":7:3: the key 'omega' is written twice"},
            {"  omega: 1\n  statistic: mean-abs\n",
             ":7:14: aim.statistic must be one of mean_abs, rms, max_abs, sensitivity, sensitivity_channel, wanda, "
             "found 'mean-abs'; did you mean 'mean_abs'?"},
            {"  omega: 1\n  scope: all\n", ":7:10: aim.scope must be one of code, linear, found 'all'"},
            {"  omega: 1\n  preset: papr\n",
             ":7:11: aim.preset must be one of paper, reference-code, found 'papr'; did you mean 'paper'?"},
            {"  omega: 1\n  relax_tied_head: 2\n", ":7:20: aim.relax_tied_head must be true or false, found '2'"},
        },
        aim, ConfigUse::Merge);
    expectRefused(
        {
            {"aim:\n", ":4:1: aim must be a mapping with the keys omega, "},
            {"aim: 0.4\n", ":4:6: aim must be a mapping with the keys omega, statistic, statistics"},
            {"aim: {omega: 0.4}\n", ":4:1: aim needs activations: give 'statistics'"},
            {"aim: {omega: 0.4, calibration: {sequences: 3}}\n", ":4:1: aim needs activations"},
        },
        kThreeLines, ConfigUse::Merge);
}

TEST(BadConfig, TheCalibrationSection) {
    const std::string section = kThreeLines + "aim:\n  omega: 1\n  calibration:\n    corpus: text.txt\n";
    expectRefused(
        {
            {"    sequence: 3\n", ":8:5: unknown key 'sequence' in aim.calibration; did you mean 'sequences'?"},
            {"    token_ids: x.npy\n", ":8:5: 'token_ids' and 'corpus' exclude each other"},
            {"    sequences: 0\n", ":8:16: aim.calibration.sequences must be a whole number of at least 1, found '0'"},
            {"    sequences: 2.5\n", ":8:16: aim.calibration.sequences must be a whole number of at least 1, found '2.5'"},
            {"    sequences: 010\n", ":8:16: aim.calibration.sequences must be a whole number of at least 1, found '010'"},
            {"    sequence_length: many\n", ":8:22: aim.calibration.sequence_length must be a whole number"},
            {"    micro_batch: -1\n", ":8:18: aim.calibration.micro_batch must be a whole number of at least 1"},
            {"    seed: -1\n", ":8:11: aim.calibration.seed must be a whole number from 0 to 2^64 - 1, found '-1'"},
            {"    seed: 18446744073709551616\n", ":8:11: aim.calibration.seed must be a whole number from 0 to 2^64 - 1"},
            {"    seed: [1]\n", ":8:11: aim.calibration.seed must be a whole number, found a list"},
            {"    shuffle: sometimes\n", ":8:14: aim.calibration.shuffle must be true or false, found 'sometimes'"},
            {"    shuffle: {}\n", ":8:14: aim.calibration.shuffle must be true or false, found a mapping"},
            {"    packing: blocks\n", ":8:14: aim.calibration.packing must be one of stream, lines, found 'blocks'"},
            {"    dtype: float16\n", ":8:12: aim.calibration.dtype must be one of bfloat16, float32, found 'float16'"},
            {"    text_key: []\n", ":8:15: aim.calibration.text_key must be a text or a list of texts, and none empty"},
            {"    text_key: [a, '']\n", ":8:15: aim.calibration.text_key must be a text or a list of texts, and none empty"},
            {"    text_key: {}\n", ":8:15: aim.calibration.text_key must be a text or a list of texts, found a mapping"},
        },
        section, ConfigUse::Merge);
}

TEST(BadConfig, TheFeatcalSection) {
    expectRefused(
        {
            {"  lamda: 1\n", ":5:3: unknown key 'lamda' in featcal; did you mean 'lambda'?"},
            {"  lambda: 0\n", ":5:11: featcal.lambda must be above 0"},
            {"  lambda: -1\n", ":5:11: featcal.lambda must be a number of at least 0, found '-1'"},
            {"  rho: nan\n", ":5:8: featcal.rho must be a finite number, found 'nan'"},
            {"  alpha: 1.5\n", ":5:10: featcal.alpha must be a number of at least 0 and at most 1, found '1.5'"},
            {"  modules: []\n", ":5:12: featcal.modules must be a text or a list of texts, and none empty"},
            {"  experts: a\n", ":5:12: featcal.experts must be a list of entries '- model: NAME', found"},
            {"  experts: [{weight: 1}]\n", ":5:13: featcal.experts[0] needs a 'model'"},
            {"  experts: [{model: a, weight: -1}]\n", ":5:32: featcal.experts[0].weight must be a number of at least 0"},
            {"  experts: [{model: a}, {model: a}]\n", ":5:33: the expert 'a' is listed twice"},
            {"  experts: [{model: a, calibration: {seed: 1}}]\n",
             ":5:24: featcal.experts[0].calibration needs a text 'corpus'"},
            {"  base: {models: a}\n", ":5:10: unknown key 'models' in featcal.base; did you mean 'model'?"},
        },
        kThreeLines + "featcal:\n", ConfigUse::Merge);
}

TEST(BadConfig, WhatCalibrateNeeds) {
    expectRefused(
        {
            {"aim: {calibration: {corpus: x}}\n", ": 'base_model' is missing"},
            {"base_model: base\n", ": 'aim.calibration' is missing"},
            {"base_model: base\naim: {statistics: log.h5}\n",
             ":2:1: aim.calibration needs a text 'corpus' or ready 'token_ids'"},
            {"base_model: base\naim: {calibration: {seed: 1}}\n", ":2:7: aim.calibration needs a text 'corpus'"},
            {"base_model: base\naim: {omega: 2, calibration: {corpus: x}}\n", ":2:14: aim.omega must lie in [0, 1]"},
            {"base_model: base\naim: {calibration: {corpus: x}}\nmodels: 3\n", ":3:9: models must be a list"},
        },
        "", ConfigUse::Calibrate);
}

}  // namespace
}  // namespace aimerge

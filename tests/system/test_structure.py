"""What aimerge makes of a model's structure beyond the table of model types (test_models.py): values that go by the depth of a layer, vocabularies of
other sizes, layers that config.json does not count, statistics of another model."""
import json
import re
import shutil
import unittest

import h5py
import numpy as np
from safetensors.numpy import load_file, save_file

import model_families as families
import recorded_statistics as recorded
from family_test import FamilyTest
from peers import transformers

EPSILON = np.finfo(np.float32).eps
ADDED = 4  # tokens that an expert has more than its base


class Depth(FamilyTest):
    """Gradients of every kind of parameter, in models whose layers are not called model.layers.N."""

    NAMES = ("gpt_neox", "gemma3", "t5", "mamba")

    def shares(self, folder, got):
        """{name: share of the expert's change that the result has}"""
        tensors, result = self.tensors(folder), {}
        for name, base in tensors["base"].items():
            change = (tensors["expert_1"][name] - base).astype(np.float64)
            result[name] = float(((got[name] - base) * change).sum() / (change * change).sum())
        return result

    def assert_by_depth(self, name, folder, got, value):
        """@param value of a depth"""
        family = families.FAMILIES[name]
        counts = families.layer_counts(family, families.read(folder / "base"))
        for tensor, share in self.shares(folder, got).items():
            self.assertAlmostEqual(share, value(families.depth_of(family, tensor, counts)), delta=1e-4, msg=f"{name}: {tensor}")

    def test_slerp(self):
        """Models so near to each other are merged along the straight line: t is the share."""
        for name in self.NAMES:
            with self.subTest(family=name):
                folder = self.make(name)
                base, expert = families.read(folder / "base"), families.read(folder / "expert_1")
                save_file({key: values + (expert[key] - values) / 64 for key, values in base.items()}, folder / "expert_1/model.safetensors",
                          metadata={"format": "pt"})
                got = self.merged(self.merge_of(folder, "slerp", {}, parameters={"t": [0, 1]}), f"{name}-out")
                self.assert_by_depth(name, folder, got, lambda depth: depth)

    def test_lambda(self):
        for name in self.NAMES:
            with self.subTest(family=name):
                folder = self.make(name)
                got = self.merged(self.merge_of(folder, parameters={"lambda": [1, 0]}), f"{name}-out")
                self.assert_by_depth(name, folder, got, lambda depth: 1 - depth)

    def test_density(self):
        """With one expert ties keeps what it does not trim."""
        for name in self.NAMES:
            with self.subTest(family=name):
                folder, family = self.make(name), families.FAMILIES[name]
                got = self.merged(self.merge_of(folder, "ties", {"weight": 1.0, "density": [0.25, 0.75]}), f"{name}-out")
                tensors = self.tensors(folder)
                counts = families.layer_counts(family, tensors["base"])
                for tensor, base in tensors["base"].items():
                    density = 0.25 + 0.5 * families.depth_of(family, tensor, counts)
                    self.assertEqual(np.count_nonzero(got[tensor] != base), max(1, int(density * base.size)), f"{name}: {tensor}")

    def test_omega(self):
        """At omega 1 a layer is that of the plain merge, at omega 0 it is held back the most."""
        folder = self.make("gpt_neox")
        with recorded.quiet():
            path = recorded.record(folder / "base", self.folder / "recorded.h5")
        log = recorded.Log(path)
        got = self.merged(self.merge_of(folder, aim={"omega": {"value": [0, 1]}, "statistics": str(path)}))
        tensors, family = self.tensors(folder), families.FAMILIES["gpt_neox"]
        counts = families.layer_counts(family, tensors["base"])
        for name, base in tensors["base"].items():
            change = (tensors["expert_1"][name] - base).astype(np.float64)
            importance = recorded.importance(log, tensors["base"], name)
            if importance is not None:
                change = change * (1 - importance * (1 - families.depth_of(family, name, counts)))
            np.testing.assert_allclose(got[name], base + change, rtol=4 * EPSILON, atol=1e-6, err_msg=name)


class Vocabularies(FamilyTest):
    """An expert with added tokens, of models whose embedding is not called model.embed_tokens."""

    NAMES = ("gpt_neox", "gpt2", "llama, tied", "gemma3", "qwen2_5_vl", "t5", "bert")

    def make_with_added_tokens(self, name):
        folder = self.make(name)
        family = families.FAMILIES[name]
        with recorded.quiet():
            model = getattr(transformers, family.loader).from_pretrained(folder / "expert_1")
            model.resize_token_embeddings(families.VOCABULARY + ADDED, mean_resizing=False)
            shutil.rmtree(folder / "expert_1")
            model.save_pretrained(folder / "expert_1")
        return folder

    def sizes(self, folder):
        """Every vocab_size in a config.json, with its path."""
        def walk(values, path=""):
            for key, value in values.items():
                if isinstance(value, dict):
                    yield from walk(value, f"{path}{key}.")
                elif key == "vocab_size":
                    yield path + key, value
        return dict(walk(json.loads((folder / "config.json").read_text())))

    def test_are_cut_where_the_config_says_so(self):
        for name in self.NAMES:
            with self.subTest(family=name):
                folder = self.make_with_added_tokens(name)
                got = self.merged(self.merge_of(folder, unsafe_truncate_embeddings=True), f"{name}-out")
                tensors = self.tensors(folder)
                for key, base in tensors["base"].items():
                    expert = tensors["expert_1"][key][tuple(slice(size) for size in base.shape)]
                    np.testing.assert_array_equal(got[key], base + (expert - base), err_msg=key)
                self.assertEqual(self.sizes(self.folder / f"{name}-out"), self.sizes(folder / "base"))

    def test_are_united(self):
        """Tokens that only the expert has get its rows; where config.json says the size it says the new one, and nowhere else."""
        for name in self.NAMES:
            with self.subTest(family=name):
                folder = self.make_with_added_tokens(name)
                base = families.with_tokenizer(folder / "base", folder / "base-tokens", np.arange(families.VOCABULARY))
                expert = families.with_tokenizer(folder / "expert_1", folder / "expert-tokens", np.arange(families.VOCABULARY + ADDED))
                config = {"merge_method": "task_arithmetic", "base_model": str(base), "tokenizer_source": "union",
                          "models": [{"model": str(expert), "parameters": {"weight": 1.0}}]}
                got, tensors = self.merged(config, f"{name}-out"), self.tensors(folder)
                for key, values in tensors["base"].items():
                    axes = families.vocabulary_axes(values.shape)
                    grown = tensors["expert_1"][key]
                    if not axes:
                        np.testing.assert_array_equal(got[key], values + (grown - values), err_msg=key)
                        continue
                    self.assertEqual(got[key].shape, grown.shape, key)
                    known, new = np.split(got[key], [families.VOCABULARY], axes[0])
                    expert_known, expert_new = np.split(grown, [families.VOCABULARY], axes[0])
                    np.testing.assert_array_equal(known, values + (expert_known - values), err_msg=key)
                    np.testing.assert_array_equal(new, expert_new, err_msg=key)
                sizes = {path: size + ADDED for path, size in self.sizes(folder / "base").items()}
                self.assertEqual(self.sizes(self.folder / f"{name}-out"), sizes)

    def test_without_a_word_the_refusal_says_what_would_do(self):
        for name in self.NAMES:
            with self.subTest(family=name):
                folder = self.make_with_added_tokens(name)
                refused = self.aimerge("merge", self.config(self.merge_of(folder)), "--out", self.folder / "out", expect=None)
                self.assert_refused(refused, "tokenizer_source")


class MultiTokenPrediction(FamilyTest):
    """Checkpoints with one layer more than num_hidden_layers, which predicts the token after the next; transformers does not load it."""

    NAME = "glm4_moe"

    def add_layer(self, folder, seed):
        path = folder / "model.safetensors"
        tensors = load_file(path)
        number = families.layer_counts(families.FAMILIES[self.NAME], tensors)["model.layers."]
        last, own = f"model.layers.{number - 1}.", f"model.layers.{number}."
        random = np.random.default_rng(seed)
        added = {name.replace(last, own): values + random.normal(0, 0.02, values.shape).astype(np.float32)
                 for name, values in tensors.items() if name.startswith(last)}
        added[f"{own}eh_proj.weight"] = random.normal(0, 0.02, (32, 64)).astype(np.float32)
        for norm in ("enorm", "hnorm", "shared_head.norm"):
            added[f"{own}{norm}.weight"] = random.normal(1, 0.02, 32).astype(np.float32)
        save_file(tensors | added, path, metadata={"format": "pt"})
        self.edit_config(folder, num_nextn_predict_layers=1)
        return added

    def test_a_layer_that_only_the_base_has_is_the_bases(self):
        folder = self.make(self.NAME)
        added = self.add_layer(folder / "base", 1)
        result = self.aimerge("merge", self.config(self.merge_of(folder)), "--out", self.folder / "out")
        got, tensors = families.read(self.folder / "out"), self.tensors(folder)
        self.assertRegex(result.stderr, r"(?i)warn[\s\S]*(model\.layers\.3\b|multi-token)")
        for name, base in tensors["base"].items():
            want = base if name in added else base + (tensors["expert_1"][name] - base)
            np.testing.assert_array_equal(got[name], want, err_msg=name)

    def test_a_layer_that_all_have_is_merged(self):
        folder = self.make(self.NAME)
        for seed, place in enumerate(("base", "expert_1")):
            self.add_layer(folder / place, seed)
        got, tensors = self.merged(self.merge_of(folder)), self.tensors(folder)
        self.assertEqual(set(got), set(tensors["base"]))
        for name, base in tensors["base"].items():
            np.testing.assert_array_equal(got[name], base + (tensors["expert_1"][name] - base), err_msg=name)

    def test_it_is_no_layer_of_the_depth(self):
        folder = self.make(self.NAME)
        for seed, place in enumerate(("base", "expert_1")):
            self.add_layer(folder / place, seed)
        got, tensors = self.merged(self.merge_of(folder, of_expert={"weight": [0, 1]})), self.tensors(folder)
        for layer, share in ((0, 0), (1, 0.5), (2, 1)):
            name = f"model.layers.{layer}.self_attn.o_proj.weight"
            base = tensors["base"][name]
            np.testing.assert_array_equal(got[name], base + np.float32(share) * (tensors["expert_1"][name] - base), err_msg=name)


class Identity(FamilyTest):
    """Statistics are those of weights and of what config.json says about the forward pass."""

    YARN = {"rope_type": "yarn", "rope_theta": 10000.0, "factor": 8.0, "original_max_position_embeddings": 16}

    def setUp(self):
        super().setUp()
        self.plain = self.make("llama")
        # Weights far enough from their start for the attention to look at where tokens are.
        for place in ("base", "expert_1"):
            path = self.plain / place / "model.safetensors"
            save_file({name: values * (5 if "q_proj" in name or "k_proj" in name else 1) for name, values in load_file(path).items()}, path,
                      metadata={"format": "pt"})

    def changed(self, name, **changes):
        """A copy of the model, with the same weights and other values in config.json."""
        folder = shutil.copytree(self.plain, self.folder / name)
        for place in ("base", "expert_1"):
            self.edit_config(folder / place, **changes)
        return folder

    def calibrate(self, folder, expect=0, **variables):
        log = self.folder / f"{folder.name}-{len(list(self.folder.iterdir()))}.h5"
        config = self.merge_of(folder, aim={"omega": 0.4, "calibration": self.calibration()})
        result = self.aimerge("calibrate", self.config(config), "--out", log, expect=expect, **variables)
        return log if expect == 0 else result

    def means(self, log):
        with h5py.File(log) as file:
            return file["statistics/model.layers.2.self_attn.o_proj/mean_abs"][:]

    def test_another_rotation_has_statistics_of_its_own(self):
        yarn = self.changed("yarn", rope_parameters=self.YARN)
        plain = self.means(self.calibrate(self.plain))
        found = self.means(self.calibrate(yarn))
        wanted = self.means(self.calibrate(yarn, AIMERGE_CACHE_DIR=str(self.folder / "another-cache")))
        np.testing.assert_array_equal(found, wanted)
        self.assertGreater(np.abs(found - plain).max(), 0.01 * plain.max())

    def test_another_model_type_is_refused_in_spite_of_the_cache(self):
        self.calibrate(self.plain)
        other = self.changed("other", model_type="olmo", architectures=["OlmoForCausalLM"])
        self.assertIn("olmo", self.calibrate(other, expect=3).stderr)

    def test_another_model_type_of_the_same_tensors_has_statistics_of_its_own(self):
        plain = self.means(self.calibrate(self.plain))
        granite = self.changed("granite", model_type="granite", architectures=["GraniteForCausalLM"], embedding_multiplier=12.0)
        self.assertGreater(np.abs(self.means(self.calibrate(granite)) - plain).max(), 0.01 * plain.max())

    def assert_log_refused(self, log):
        config = self.merge_of(self.changed("yarn", rope_parameters=self.YARN), aim={"omega": 0.4, "statistics": str(log)})
        self.assert_refused(self.aimerge("merge", self.config(config), "--out", self.folder / "out", expect=None), "rope_parameters")

    def test_a_log_of_another_rotation_is_refused(self):
        self.assert_log_refused(self.calibrate(self.plain))

    def test_a_recorded_log_of_another_rotation_is_refused(self):
        with recorded.quiet():
            self.assert_log_refused(recorded.record(self.plain / "base", self.folder / "recorded.h5"))

    def test_what_the_forward_pass_does_not_read_may_differ(self):
        log = self.calibrate(self.plain)
        same = self.changed("same", transformers_version="5.0.0", use_cache=False, _name_or_path="elsewhere")
        self.merged(self.merge_of(same, aim={"omega": 0.4, "statistics": str(log)}))


class Coverage(FamilyTest):
    """Statistics that cover a model in part."""

    def setUp(self):
        super().setUp()
        self.model = self.make("gpt_neox")
        with recorded.quiet():
            self.log = recorded.record(self.model / "base", self.folder / "recorded.h5")

    def without(self, pattern):
        """A log that lacks the modules whose names match."""
        path = self.folder / "part.h5"
        shutil.copy(self.log, path)
        with h5py.File(path, "a") as file:
            for module in list(file["statistics"]):
                if re.search(pattern, module):
                    del file["statistics"][module]
        return path

    def merge_by(self, log, expect=0):
        config = self.merge_of(self.model, aim={"omega": 0.0, "statistics": str(log)})
        return self.aimerge("merge", self.config(config), "--out", self.folder / "out", expect=expect)

    def test_what_is_not_covered_keeps_the_merged_value_and_is_named(self):
        result = self.merge_by(self.without(r"layers\.1\.mlp\.dense_h_to_4h$"))
        name = "gpt_neox.layers.1.mlp.dense_h_to_4h.weight"
        base, expert = (families.read(self.model / place)[name] for place in ("base", "expert_1"))
        np.testing.assert_array_equal(families.read(self.folder / "out")[name], base + (expert - base))
        self.assertRegex(result.stderr, r"gpt_neox\.layers\.(1|N)\.mlp\.dense_h_to_4h")

    def test_a_stack_that_nothing_covers_is_refused(self):
        self.assert_refused(self.merge_by(self.without(r"layers\.\d+\.(mlp|attention)"), expect=None), r"gpt_neox\.layers")

    def test_the_manifest_counts(self):
        self.merge_by(self.log)
        matrices = [name for name, values in families.read(self.model / "base").items()
                    if families.is_multiplied(families.FAMILIES["gpt_neox"], name, values.shape)]
        self.assertEqual(len(matrices), 3 * 4 + 1)
        self.assertRegex((self.folder / "out/aimerge_manifest.json").read_text(), r'"[^"]*(relaxed|matrices)[^"]*":\s*13\b')


if __name__ == "__main__":
    unittest.main()

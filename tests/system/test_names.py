"""Models that another version of transformers, or another program, saved with other tensor names: merged under the base's names, or refused with the
reason."""
import re
import shutil
import unittest

import numpy as np

import model_families as families
import recorded_statistics as recorded
from family_test import FamilyTest
from other_names import COMPILED, GEMMA3_IN_MEMORY, GPT2_OF_THE_HUB, replacing
from peers import transformers


class Names(FamilyTest):
    def make_renamed(self, family, base=replacing(), expert=replacing()):
        """A family whose base and expert_1 have other names."""
        folder = self.make(family)
        for place, rename in (("base", base), ("expert_1", expert)):
            self.rename(folder / place, rename)
        return folder

    def rename(self, folder, rename):
        self.edit_tensors(folder, lambda tensors: {rename(name): values for name, values in tensors.items()})

    def merge(self, folder, expect=0, **keys):
        return self.aimerge("merge", self.config(self.merge_of(folder, **keys)), "--out", self.folder / "out", expect=expect)

    def assert_merged(self, folder, original=replacing(), **keys):
        """Merges `folder`. @param original gives the expert's name of a tensor of the base"""
        shutil.rmtree(self.folder / "out", ignore_errors=True)
        result = self.merge(folder, **keys)
        got, tensors = families.read(self.folder / "out"), self.tensors(folder)
        self.assertEqual(set(got), set(tensors["base"]))
        for name, base in tensors["base"].items():
            np.testing.assert_array_equal(got[name], base + (tensors["expert_1"][original(name)] - base), err_msg=name)
        return result

    def assert_says(self, result, *names):
        """That one model has names of its own, with an example."""
        self.assertRegex(result.stderr, "other names")
        for name in names:
            self.assertIn(name, result.stderr)

    def assert_loads(self, family):
        with recorded.quiet():
            _, info = getattr(transformers, families.FAMILIES[family].loader).from_pretrained(self.folder / "out", output_loading_info=True)
        self.assertFalse({key: values for key, values in info.items() if values})


class Prefixes(Names):
    def test_gpt2_of_the_hub_as_base(self):
        folder = self.make_renamed("gpt2", base=GPT2_OF_THE_HUB)
        result = self.assert_merged(folder, lambda name: f"transformer.{name}")
        self.assert_says(result, "expert_1", "transformer.h.0.attn.c_attn.bias", "h.0.attn.c_attn.bias")
        self.assertTrue((self.folder / "out/model.safetensors").exists())
        self.assert_loads("gpt2")

    def test_gpt2_of_the_hub_as_expert(self):
        folder = self.make_renamed("gpt2", expert=GPT2_OF_THE_HUB)
        self.assert_says(self.assert_merged(folder, GPT2_OF_THE_HUB), "expert_1")
        self.assert_loads("gpt2")

    def test_gpt2_slices_of_both_kinds_of_names(self):
        folder = self.make_renamed("gpt2", expert=GPT2_OF_THE_HUB)
        config = {"merge_method": "passthrough", "slices": [{"sources": [{"model": str(folder / "base"), "layer_range": [0, 1]}]},
                                                            {"sources": [{"model": str(folder / "expert_1"), "layer_range": [1, 3]}]},
                                                            {"sources": [{"model": str(folder / "expert_1"), "layer_range": [2, 3]}]}]}
        got, tensors = self.merged(config), self.tensors(folder)
        sources = [("base", 0), ("expert_1", 1), ("expert_1", 2), ("expert_1", 2)]
        for layer, (place, number) in enumerate(sources):
            name = f"transformer.h.{layer}.mlp.c_fc.weight"
            original = name.replace(f".{layer}.", f".{number}.")
            np.testing.assert_array_equal(got[name], tensors[place][original if place == "base" else GPT2_OF_THE_HUB(original)], err_msg=name)
        np.testing.assert_array_equal(got["transformer.wte.weight"], tensors["base"]["transformer.wte.weight"])
        np.testing.assert_array_equal(got["transformer.ln_f.weight"], tensors["expert_1"]["ln_f.weight"])
        self.assertNotIn("transformer.h.4.mlp.c_fc.weight", got)

    def test_gemma3_in_memory_as_base(self):
        folder = self.make_renamed("gemma3", base=GEMMA3_IN_MEMORY)
        original = {GEMMA3_IN_MEMORY(name): name for name in families.read(folder / "expert_1")}
        result = self.assert_merged(folder, original.get)
        self.assert_says(result, "expert_1")
        self.assert_loads("gemma3")

    def test_gemma3_in_memory_as_expert(self):
        folder = self.make_renamed("gemma3", expert=GEMMA3_IN_MEMORY)
        self.assert_merged(folder, GEMMA3_IN_MEMORY)
        self.assert_loads("gemma3")

    def test_gemma3_with_a_head_of_its_own(self):
        """The head lies beside the text model in memory, and within it in the file."""
        folder = self.make("gemma3")
        for number, place in enumerate(("base", "expert_1")):
            head = np.random.default_rng(number).normal(0, 0.02, (families.VOCABULARY, 32)).astype(np.float32)
            self.edit_tensors(folder / place, lambda tensors: tensors | {"language_model.lm_head.weight": head})
            self.edit_config(folder / place, tie_word_embeddings=False)
        self.rename(folder / "base", GEMMA3_IN_MEMORY)
        original = {GEMMA3_IN_MEMORY(name): name for name in families.read(folder / "expert_1")}
        self.assertIn("lm_head.weight", original)
        self.assert_merged(folder, original.get)

    def test_a_compiled_model(self):
        for family in ("llama", "gpt2", "gemma3"):
            with self.subTest(family):
                folder = self.make_renamed(family, expert=COMPILED)
                self.assert_says(self.assert_merged(folder, COMPILED), "_orig_mod.")

    def test_a_compiled_model_as_base(self):
        """Its prefix is no part of the model: the result is without it, and loads."""
        for family in ("llama", "gpt2"):
            with self.subTest(family):
                folder = self.make(family)
                tensors = self.tensors(folder)
                self.rename(folder / "base", COMPILED)
                got = self.merged(self.merge_of(folder))
                self.assertEqual(set(got), set(tensors["base"]))
                for name, base in tensors["base"].items():
                    np.testing.assert_array_equal(got[name], base + (tensors["expert_1"][name] - base), err_msg=name)
                self.assert_loads(family)
                shutil.rmtree(self.folder / "out")

    def test_a_compiled_expert_is_measured_under_the_base_s_names(self):
        folder = self.make("llama")
        config = {"merge_method": "regmean", "base_model": str(folder / "base"), "calibration": self.calibration(),
                  "models": [{"model": str(folder / place)} for place in ("expert_1", "expert_2")]}
        want = self.merged(config, "want")
        self.rename(folder / "expert_1", COMPILED)
        got = self.merged(config, "got")
        for name, values in want.items():
            np.testing.assert_array_equal(got[name], values, err_msg=name)

    def test_gradients_go_by_the_layer_in_spite_of_the_names(self):
        folder = self.make_renamed("gpt2", expert=GPT2_OF_THE_HUB)
        got, tensors = self.merged(self.merge_of(folder, of_expert={"weight": [0, 1]})), self.tensors(folder)
        for layer, share in ((0, 0), (1, 0.5), (2, 1)):
            name = f"transformer.h.{layer}.attn.c_proj.weight"
            base = tensors["base"][name]
            change = tensors["expert_1"][GPT2_OF_THE_HUB(name)] - base
            np.testing.assert_array_equal(got[name], base + np.float32(share) * change, err_msg=name)

    def test_a_log_that_was_recorded_on_the_other_names(self):
        """The base's names are those of the output; its statistics are recorded under them."""
        folder = self.make_renamed("gpt2", base=GPT2_OF_THE_HUB)
        with recorded.quiet():
            path = recorded.record(folder / "base", self.folder / "recorded.h5")
        log, tensors = recorded.Log(path), self.tensors(folder)
        got = self.merged(self.merge_of(folder, aim={"omega": 0.4, "statistics": str(path)}))
        relaxed = 0
        for name, base in tensors["base"].items():
            change = (tensors["expert_1"][f"transformer.{name}"] - base).astype(np.float64)
            importance = recorded.importance(log, tensors["base"], name)
            relaxed += importance is not None and base.ndim == 2
            want = base + (change if importance is None else (1 - importance * 0.6) * change)
            np.testing.assert_allclose(got[name], want, rtol=1e-6, atol=1e-7, err_msg=name)
        self.assertEqual(relaxed, 3 * 4)


class InMemory(Names):
    """What transformers has in memory, which older versions and save_original_format=False write, beside what it writes now."""

    NAMES = ("gpt_neox", "nemotron_h", "gemma3", "paligemma", "llava", "mistral3", "internvl", "qwen2_vl", "qwen2_5_vl")

    def save_again(self, family, source, target, **settings):
        with recorded.quiet():
            model = getattr(transformers, families.FAMILIES[family].loader).from_pretrained(source)
            model.save_pretrained(target, **settings)

    def test_either_as_base(self):
        for name in self.NAMES:
            with self.subTest(family=name):
                folder = self.make(name)
                for place in ("base", "expert_1"):
                    self.save_again(name, folder / place, folder / f"{place}-in-memory", save_original_format=False)
                tensors = self.tensors(folder)
                self.assertNotEqual(set(tensors["base"]), set(families.read(folder / "base-in-memory")))
                got = self.merged(self.config_of(folder, "base", "expert_1-in-memory"), f"{name}-1")
                self.assertEqual(set(got), set(tensors["base"]))
                for key, base in tensors["base"].items():
                    np.testing.assert_array_equal(got[key], base + (tensors["expert_1"][key] - base), err_msg=key)
                self.save_again(name, self.folder / f"{name}-1", self.folder / f"{name}-want", save_original_format=False)
                got = self.merged(self.config_of(folder, "base-in-memory", "expert_1"), f"{name}-2")
                want = families.read(self.folder / f"{name}-want")
                self.assertEqual(set(got), set(want))
                for key, values in want.items():
                    np.testing.assert_array_equal(got[key], values, err_msg=key)

    def config_of(self, folder, base, expert):
        return {"merge_method": "task_arithmetic", "base_model": str(folder / base),
                "models": [{"model": str(folder / expert), "parameters": {"weight": 1.0}}]}


class Refusals(Names):
    def test_fused_and_separate_experts(self):
        separate, fused = self.make("qwen3_moe"), self.folder / "fused"
        with recorded.quiet():
            model = transformers.AutoModelForCausalLM.from_pretrained(separate / "expert_1")
            model.save_pretrained(fused, save_original_format=False)
        for base, expert in ((separate / "base", fused), (fused, separate / "base")):
            with self.subTest(base=base.name):
                config = {"merge_method": "linear", "base_model": str(base),
                          "models": [{"model": str(path), "parameters": {"weight": 1.0}} for path in (base, expert)]}
                result = self.aimerge("merge", self.config(config), "--out", self.folder / "out", expect=3)
                self.assertRegex(result.stderr, r"(in one tensor, the other one by one|which in turn has)[\s\S]*save_pretrained")
                self.assertIn(".mlp.experts.", result.stderr)
                self.assertFalse((self.folder / "out").exists())

    def test_another_architecture(self):
        llama, neox = self.make("llama"), self.make("gpt_neox")
        config = self.merge_of(llama)
        config["models"][0]["model"] = str(neox / "expert_1")
        result = self.aimerge("merge", self.config(config), "--out", self.folder / "out", expect=3)
        self.assertRegex(result.stderr, r"GPTNeoXForCausalLM[\s\S]*LlamaForCausalLM")

    def test_other_names_under_the_same_config(self):
        """config.json says the same of both, so that the names are what tells them apart."""
        folder = self.make("llama")
        shutil.copy(self.make("gpt_neox") / "expert_1/model.safetensors", folder / "expert_1/model.safetensors")
        result = self.merge(folder, expect=3)
        self.assertRegex(result.stderr, r"model\.layers\.[\s\S]*(one version of transformers|different architectures)")

    def test_names_that_fit_in_part(self):
        """One tensor of another name is not taken for one that is missing."""
        folder = self.make("llama")
        self.rename(folder / "expert_1", lambda name: re.sub(r"layers\.1\.mlp\.up_proj", "layers.1.mlp.upward", name))
        result = self.merge(folder, expect=3)
        self.assertIn("model.layers.1.mlp.upward.weight", result.stderr)

    def test_a_part_of_a_layer_that_is_called_otherwise(self):
        """Nothing is to be removed from either model: they are to be saved by one tool."""
        folder = self.make("granitemoe")
        with recorded.quiet():
            model = transformers.AutoModelForCausalLM.from_pretrained(folder / "expert_1")
            shutil.rmtree(folder / "expert_1")
            model.save_pretrained(folder / "expert_1", save_original_format=False)
        result = self.merge(folder, expect=3)
        self.assertRegex(result.stderr, r"experts\.down_proj[\s\S]*input_linear[\s\S]*save_pretrained")

    def test_two_tensors_that_would_get_one_name(self):
        folder = self.make("llama")
        self.edit_tensors(folder / "expert_1", lambda tensors: tensors | {"_orig_mod.model.norm.weight": tensors["model.norm.weight"]})
        result = self.merge(folder, expect=3)
        self.assertIn("_orig_mod.model.norm.weight", result.stderr)


if __name__ == "__main__":
    unittest.main()

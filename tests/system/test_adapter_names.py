"""LoRA adapters whose tensors are called what the model's modules are called in memory, over a file with other names."""
import json
import re
import unittest

import numpy as np
from safetensors.numpy import save_file

import model_families as families
from family_test import FamilyTest
from other_names import GEMMA3_IN_MEMORY, GPT2_OF_THE_HUB

RANK, ALPHA = 4, 6
EPSILON = np.finfo(np.float32).eps


class AdapterNames(FamilyTest):
    runs = 0

    def write_adapter(self, modules, **settings):
        """An adapter for modules {name in memory: (outputs, inputs)}. Returns {name: scaling B A}, [out, in]."""
        folder, random = self.folder / "adapter", np.random.default_rng(5)
        folder.mkdir(exist_ok=True)
        tensors, changes = {}, {}
        for module, (outputs, inputs) in modules.items():
            a, b = (random.normal(0, 0.1, shape).astype(np.float32) for shape in ((RANK, inputs), (outputs, RANK)))
            tensors |= {f"base_model.model.{module}.lora_A.weight": a, f"base_model.model.{module}.lora_B.weight": b}
            changes[module] = ALPHA / RANK * b.astype(np.float64) @ a
        save_file(tensors, folder / "adapter_model.safetensors")
        config = {"peft_type": "LORA", "r": RANK, "lora_alpha": ALPHA, "bias": "none", "base_model_name_or_path": "base",
                  "target_modules": sorted({module.rsplit(".", 1)[1] for module in modules}), **settings}
        (folder / "adapter_config.json").write_text(json.dumps(config))
        return changes

    def assert_adapted(self, base, changes, transposed=False):
        """@param changes {module in the file: scaling B A}"""
        pair = f"{base}+{self.folder / 'adapter'}"
        self.runs += 1
        got = self.merged({"merge_method": "linear", "models": [{"model": pair, "parameters": {"weight": 1.0}}]}, f"out-{self.runs}")
        tensors = families.read(base)
        self.assertEqual(set(got), set(tensors))
        self.assertLessEqual({f"{module}.weight" for module in changes}, set(tensors))
        for name, values in tensors.items():
            change = changes.get(name.removesuffix(".weight"))
            if change is None:
                np.testing.assert_array_equal(got[name], values, err_msg=name)
                continue
            change = change.T if transposed else change
            # RANK products and their sums, the scaling, and the sum with the weight: each rounded once.
            limit = (RANK + 3) * EPSILON * (np.abs(values) + RANK * ALPHA * 0.2)
            self.assertTrue((np.abs(got[name] - (values + change)) <= limit).all(), name)
            self.assertGreater(np.abs(got[name] - values).max(), 1e-3, name)

    def modules(self, base, pattern, transposed=False):
        """{module in the file: (outputs, inputs)} of matrices that match"""
        shapes = {name.removesuffix(".weight"): values.shape for name, values in families.read(base).items()
                  if name.endswith(".weight") and re.search(pattern, name)}
        return {module: shape[::-1] if transposed else shape for module, shape in shapes.items()}

    def test_gemma3_in_memory_over_the_file_names(self):
        base = self.make("gemma3") / "base"
        stored = self.modules(base, r"(q|v|down)_proj\.weight$")
        self.assertTrue(any(module.startswith("vision_tower.") for module in stored))
        changes = self.write_adapter({GEMMA3_IN_MEMORY(module): shape for module, shape in stored.items()})
        self.assertIn("model.language_model.layers.0.self_attn.q_proj", changes)
        self.assert_adapted(base, {module: changes[GEMMA3_IN_MEMORY(module)] for module in stored})

    def test_gemma3_of_the_file_names_over_those_in_memory(self):
        base = self.make("gemma3") / "base"
        stored = self.modules(base, r"q_proj\.weight$")
        changes = self.write_adapter(stored)
        self.edit_tensors(base, lambda tensors: {GEMMA3_IN_MEMORY(name): values for name, values in tensors.items()})
        self.assert_adapted(base, {GEMMA3_IN_MEMORY(module): change for module, change in changes.items()})

    def test_a_text_model_s_adapter_over_its_multimodal_form(self):
        """Trained on the text decoder alone, whose layers are model.layers.N."""
        base = self.make("gemma3") / "base"
        stored = self.modules(base, r"language_model.*o_proj\.weight$")
        changes = self.write_adapter({module.replace("language_model.model.", "model."): shape for module, shape in stored.items()})
        self.assert_adapted(base, {module: changes[module.replace("language_model.model.", "model.")] for module in stored})

    def test_gpt2_with_both_forms_of_names(self):
        base = self.make("gpt2") / "base"
        stored = self.modules(base, r"(c_attn|c_fc)\.weight$", transposed=True)
        changes = self.write_adapter(stored, fan_in_fan_out=True)
        self.assert_adapted(base, changes, transposed=True)
        self.edit_tensors(base, lambda tensors: {GPT2_OF_THE_HUB(name): values for name, values in tensors.items()})
        self.assert_adapted(base, {GPT2_OF_THE_HUB(module): change for module, change in changes.items()}, transposed=True)

    def test_gpt2_of_the_hub_under_an_adapter_of_the_hub(self):
        """GPT2Model, without a head, is what h.0. are the names of in memory."""
        base = self.make("gpt2") / "base"
        changes = self.write_adapter({GPT2_OF_THE_HUB(module): shape for module, shape in self.modules(base, r"c_proj\.weight$", True).items()},
                                     fan_in_fan_out=True)
        self.assert_adapted(base, {f"transformer.{module}": change for module, change in changes.items()}, transposed=True)

    def test_parameters_that_are_stored_in_full(self):
        base = self.make("gemma3") / "base"
        self.write_adapter({"model.language_model.layers.0.self_attn.q_proj": (32, 32)}, modules_to_save=["norm"])
        path, norm = self.folder / "adapter/adapter_model.safetensors", np.arange(32, dtype=np.float32)
        save_file(families.load_file(path) | {"base_model.model.model.language_model.norm.weight": norm}, path)
        pair = f"{base}+{self.folder / 'adapter'}"
        got = self.merged({"merge_method": "linear", "models": [{"model": pair, "parameters": {"weight": 1.0}}]})
        np.testing.assert_array_equal(got["language_model.model.norm.weight"], norm)

    def test_as_an_expert_over_a_base_of_the_other_names(self):
        """The adapter's own base has the names of the hub, the merge's base those of transformers."""
        folder = self.make("gpt2")
        stored = self.modules(folder / "base", r"c_attn\.weight$", transposed=True)
        changes = self.write_adapter(stored, fan_in_fan_out=True)
        self.edit_tensors(folder / "expert_1", lambda tensors: {GPT2_OF_THE_HUB(name): values for name, values in tensors.items()})
        config = self.merge_of(folder)
        config["models"][0]["model"] += f"+{self.folder / 'adapter'}"
        got, tensors = self.merged(config), self.tensors(folder)
        for name in tensors["base"]:
            want = tensors["expert_1"][GPT2_OF_THE_HUB(name)].astype(np.float64)
            if (change := changes.get(name.removesuffix(".weight"))) is not None:
                want = want + change.T
            np.testing.assert_allclose(got[name], want, rtol=1e-5, atol=1e-6, err_msg=name)

    def test_an_adapter_of_another_model_is_refused(self):
        base = self.make("gpt2") / "base"
        self.write_adapter({"model.layers.0.self_attn.q_proj": (32, 32)})
        config = {"merge_method": "linear", "models": [{"model": f"{base}+{self.folder / 'adapter'}", "parameters": {"weight": 1.0}}]}
        result = self.aimerge("merge", self.config(config), "--out", self.folder / "out", expect=3)
        self.assertRegex(result.stderr, r"model\.layers\.0\.self_attn\.q_proj[\s\S]*name the base that it was trained on")

    def test_fan_in_fan_out_that_the_model_is_not_of(self):
        base = self.make("gemma3") / "base"
        self.write_adapter({"model.language_model.layers.0.self_attn.q_proj": (32, 32)}, fan_in_fan_out=True)
        config = {"merge_method": "linear", "models": [{"model": f"{base}+{self.folder / 'adapter'}", "parameters": {"weight": 1.0}}]}
        result = self.aimerge("merge", self.config(config), "--out", self.folder / "out", expect=3)
        self.assertIn("fan_in_fan_out", result.stderr)


if __name__ == "__main__":
    unittest.main()

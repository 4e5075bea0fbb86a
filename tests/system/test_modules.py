"""mergekit's `modules`: the towers of a multimodal model, each made from models or slices of its own; and text models as the source of one."""
import json
import re
import unittest

import numpy as np

import model_families as families
import recorded_statistics as recorded
from family_test import FamilyTest
from peers import transformers

TEXT_OF = {"gemma3": "gemma3_text", "qwen3_vl": "qwen3"}  # the text model that is a multimodal one's decoder
# Names of the text decoder's tensors, and of the vision tower's. The rest, such as Gemma 3's projector, is of neither.
DECODER = {"gemma3": r"^language_model\.", "qwen3_vl": r"^(model\.language_model|lm_head)\."}
TOWER = {"gemma3": r"^vision_tower\.", "qwen3_vl": r"^model\.visual\."}
NAMES = tuple(TEXT_OF)


class Modules(FamilyTest):
    def config_of(self, folder, modules, method="task_arithmetic", **keys):
        return {"merge_method": method, "base_model": str(folder / "base"), "modules": modules, **keys}

    def source(self, folder, place, weight=None, layers=None):
        entry = {"model": str(folder / place)}
        return entry | ({"parameters": {"weight": weight}} if weight is not None else {}) | ({"layer_range": layers} if layers else {})

    def whole(self, folder, place):
        """A slice with all layers of a model."""
        return {"slices": [{"sources": [self.source(folder, place)]}]}

    def refusal(self, config, expect):
        result = self.aimerge("merge", self.config(config), "--out", self.folder / "refused", expect=expect)
        self.assertFalse((self.folder / "refused").exists())
        return result.stderr

    def assert_tensors(self, got, want):
        self.assertEqual(set(got), set(want))
        for name, values in want.items():
            np.testing.assert_array_equal(got[name], values, err_msg=name)

    def assert_loads(self, family, folder):
        """transformers finds every tensor, and none that it does not expect."""
        with recorded.quiet():
            model, info = getattr(transformers, families.FAMILIES[family].loader).from_pretrained(folder, output_loading_info=True)
        self.assertFalse({key: values for key, values in info.items() if values})
        return model

    def layers_of(self, family, folder):
        config = json.loads((folder / "config.json").read_text())
        vision = config["vision_config"]
        return config["text_config"]["num_hidden_layers"], vision.get("num_hidden_layers", vision.get("depth"))


class Towers(Modules):
    def test_the_decoder_from_two_experts(self):
        for name in NAMES:
            with self.subTest(family=name):
                folder = self.make(name)
                got = self.merged(self.config_of(folder, {"text_decoder": {"models": [
                    self.source(folder, "expert_1", 1.0), self.source(folder, "expert_2", 0.5)]}}), f"{name}-out")
                tensors, want = self.tensors(folder), {}
                for key, base in tensors["base"].items():
                    changes = (tensors["expert_1"][key] - base) + np.float32(0.5) * (tensors["expert_2"][key] - base)
                    want[key] = base + changes if re.search(DECODER[name], key) else base
                self.assert_tensors(got, want)
                self.assert_loads(name, self.folder / f"{name}-out")

    def test_each_tower_from_another_expert(self):
        for name in NAMES:
            with self.subTest(family=name):
                folder = self.make(name)
                got = self.merged(self.config_of(folder, {"text_decoder": self.whole(folder, "expert_1"),
                                                          "vision_tower": self.whole(folder, "expert_2")}, "passthrough"), f"{name}-out")
                tensors, want = self.tensors(folder), {}
                for key in tensors["base"]:
                    place = "expert_1" if re.search(DECODER[name], key) else "expert_2" if re.search(TOWER[name], key) else "base"
                    want[key] = tensors[place][key]
                self.assert_tensors(got, want)
                self.assert_loads(name, self.folder / f"{name}-out")

    def test_slices_of_both_towers(self):
        """Three layers of text become four, two of the vision tower become one, each from its own experts."""
        for name in NAMES:
            with self.subTest(family=name):
                folder = self.make(name)
                text, vision = families.FAMILIES[name].stacks
                got = self.merged(self.config_of(folder, {
                    "text_decoder": {"slices": [{"sources": [self.source(folder, "expert_1", layers=[0, 2])]},
                                                {"sources": [self.source(folder, "expert_2", layers=[1, 3])]}]},
                    "vision_tower": {"slices": [{"sources": [self.source(folder, "expert_2", layers=[0, 1])]}]}}, "passthrough"), f"{name}-out")
                tensors = self.tensors(folder)
                from_text = [("expert_1", 0), ("expert_1", 1), ("expert_2", 1), ("expert_2", 2)]
                want = {key: tensors[self.place_beside_layers(name, key)][key] for key in tensors["base"]
                        if not key.startswith((text, vision))}
                for stack, sources in ((text, from_text), (vision, [("expert_2", 0)])):
                    for layer, (place, number) in enumerate(sources):
                        own = f"{stack}{number}."
                        want |= {f"{stack}{layer}.{key.removeprefix(own)}": values for key, values in tensors[place].items() if key.startswith(own)}
                self.assert_tensors(got, want)
                self.assertEqual(self.layers_of(name, self.folder / f"{name}-out"), (4, 1))

    def place_beside_layers(self, family, name):
        """Which expert a tensor beside the layers of test_slices_of_both_towers is of."""
        if re.search(TOWER[family], name):
            return "expert_2"
        if not re.search(DECODER[family], name):
            return "base"
        return "expert_2" if re.search(families.FAMILIES[family].behind, name) else "expert_1"

    def test_without_a_base_the_rest_is_the_first_model_s(self):
        folder = self.make("gemma3")
        config = {"merge_method": "linear", "modules": {"vision_tower": {"models": [
            self.source(folder, "expert_1", 1.0), self.source(folder, "expert_2", 1.0)]}}}
        got, tensors, want = self.merged(config), self.tensors(folder), {}
        for name, first in tensors["expert_1"].items():
            mean = (first.astype(np.float64) + tensors["expert_2"][name]) / 2
            want[name] = mean.astype(np.float32) if re.search(TOWER["gemma3"], name) else first
        for name, values in want.items():
            np.testing.assert_allclose(got[name], values, rtol=2**-23, atol=0, err_msg=name)
            if not re.search(TOWER["gemma3"], name):
                np.testing.assert_array_equal(got[name], values, err_msg=name)

    def test_parameters_of_a_module_and_their_depth(self):
        """Each tower has its own gradient, over its own layers; what no expert and no module says the file says."""
        folder = self.make("gemma3")
        family = families.FAMILIES["gemma3"]
        bare = {"models": [{"model": str(folder / "expert_1")}]}
        modules = {"text_decoder": {**bare, "parameters": {"weight": [0, 1]}}, "vision_tower": bare}
        config = self.config_of(folder, modules, parameters={"weight": [1, 0]})
        got, tensors = self.merged(config), self.tensors(folder)
        counts = families.layer_counts(family, tensors["base"])
        self.assertEqual(list(counts.values()), [3, 2])
        for name, base in tensors["base"].items():
            depth = families.depth_of(family, name, counts)
            is_text, is_vision = (re.search(pattern["gemma3"], name) for pattern in (DECODER, TOWER))
            weight = depth if is_text else 1 - depth if is_vision else 0
            np.testing.assert_array_equal(got[name], base + np.float32(weight) * (tensors["expert_1"][name] - base), err_msg=name)

    def test_a_gradient_over_a_slice_of_a_module(self):
        """As with slices of a whole model, the depth is that within the slice."""
        folder = self.make("gemma3")
        slices = [{"sources": [self.source(folder, "expert_1", layers=layers)], "base_model": str(folder / "base")} for layers in ([0, 3], [1, 3])]
        config = self.config_of(folder, {"text_decoder": {"slices": slices, "parameters": {"weight": [0, 1]}}})
        got, tensors = self.merged(config), self.tensors(folder)
        stack = "language_model.model.layers."
        for layer, (number, weight) in enumerate(((0, 0), (1, 0.5), (2, 1), (1, 0), (2, 1))):
            base, expert = (tensors[place][f"{stack}{number}.mlp.up_proj.weight"] for place in ("base", "expert_1"))
            np.testing.assert_array_equal(got[f"{stack}{layer}.mlp.up_proj.weight"], base + np.float32(weight) * (expert - base), err_msg=str(layer))

    def test_default_is_the_whole_model(self):
        folder = self.make("gemma3")
        models = [self.source(folder, "expert_1", 1.0)]
        want = self.merged({"merge_method": "task_arithmetic", "base_model": str(folder / "base"), "models": models}, "want")
        self.assert_tensors(self.merged(self.config_of(folder, {"default": {"models": models}})), want)

    def test_a_wrong_name_is_told_the_right_ones(self):
        for name in NAMES:
            folder = self.make(name)
            for wrong in ("text_decodr", "language_model"):
                with self.subTest(family=name, module=wrong):
                    said = self.refusal(self.config_of(folder, {wrong: {"models": [self.source(folder, "expert_1", 1.0)]}}), 2)
                    self.assertRegex(said, rf"'{wrong}'[\s\S]*text_decoder, vision_tower")
                    self.assertIn("merge.yaml:", said)

    def test_passthrough_beside_a_base_is_told_of_it(self):
        """Under `models` the base is one of the models, as in mergekit."""
        folder = self.make("gemma3")
        said = self.refusal(self.config_of(folder, {"text_decoder": {"models": [self.source(folder, "expert_1")]}}, "passthrough"), 2)
        self.assertRegex(said, r"modules\.text_decoder[\s\S]*base_model|base_model[\s\S]*slices")

    def test_slices_without_modules_are_told_of_them(self):
        folder = self.make("gemma3")
        slices = [{"sources": [self.source(folder, "expert_1", layers=[0, 2])]}]
        said = self.refusal({"merge_method": "passthrough", "slices": slices}, 2)
        self.assertRegex(said, r"text_decoder, vision_tower[\s\S]*modules")


class TextModels(Modules):
    """A text model as the text decoder of a multimodal one of the same sizes."""

    def make_both(self, name, tied=None):
        """Folders of the multimodal and of the text family."""
        folder, text = self.make(name), self.make(TEXT_OF[name])
        self.assertNotIn("text_config", json.loads((text / "base/config.json").read_text()))
        return folder, text

    def name_in_text(self, name):
        return re.sub(r"^(language_model\.model|model\.language_model)\.", "model.", name).replace("language_model.lm_head.", "lm_head.")

    def decoder_of_text(self, folder, text, merge):
        return self.config_of(folder, {"text_decoder": {"models": [self.source(text, place, weight) for place, weight in merge]}})

    def test_its_layers_are_taken_and_the_towers_stay(self):
        for name in NAMES:
            with self.subTest(family=name):
                folder, text = self.make_both(name)
                config = self.config_of(folder, {"text_decoder": self.whole(text, "base")}, "passthrough")
                result = self.aimerge("merge", self.config(config), "--out", self.folder / f"{name}-out")
                self.assertRegex(result.stderr, "other names")
                tensors, of_text = families.read(folder / "base"), families.read(text / "base")
                want = {key: of_text[self.name_in_text(key)] if re.search(DECODER[name], key) else values for key, values in tensors.items()}
                self.assert_tensors(families.read(self.folder / f"{name}-out"), want)
                self.assert_loads(name, self.folder / f"{name}-out")

    def test_it_is_merged_with_the_multimodal_model_s(self):
        for name in NAMES:
            with self.subTest(family=name):
                folder, text = self.make_both(name)
                config = self.config_of(folder, {"text_decoder": {"models": [
                    self.source(folder, "expert_1", 0.5), self.source(text, "expert_1", 0.5)]}})
                got, tensors, of_text = self.merged(config, f"{name}-out"), self.tensors(folder), families.read(text / "expert_1")
                for key, base in tensors["base"].items():
                    if not re.search(DECODER[name], key):
                        np.testing.assert_array_equal(got[key], base, err_msg=key)
                        continue
                    changes = [np.float32(0.5) * (expert - base) for expert in (tensors["expert_1"][key], of_text[self.name_in_text(key)])]
                    np.testing.assert_array_equal(got[key], base + (changes[0] + changes[1]), err_msg=key)
                self.assert_loads(name, self.folder / f"{name}-out")

    def test_its_layers_in_slices(self):
        folder, text = self.make_both("qwen3_vl")
        slices = [{"sources": [self.source(folder, "base", layers=[0, 2])]}, {"sources": [self.source(text, "base", layers=[1, 3])]}]
        got = self.merged(self.config_of(folder, {"text_decoder": {"slices": slices}}, "passthrough"))
        tensors, of_text = families.read(folder / "base"), families.read(text / "base")
        stack = "model.language_model.layers."
        layers = [tensors[f"{stack}{number}.mlp.up_proj.weight"] for number in (0, 1)]
        layers += [of_text[f"model.layers.{number}.mlp.up_proj.weight"] for number in (1, 2)]
        for layer, values in enumerate(layers):
            np.testing.assert_array_equal(got[f"{stack}{layer}.mlp.up_proj.weight"], values, err_msg=str(layer))
        embedding = "model.language_model.embed_tokens.weight"
        np.testing.assert_array_equal(got[embedding], tensors[embedding])
        for key in ("model.language_model.norm.weight", "lm_head.weight"):
            np.testing.assert_array_equal(got[key], of_text[self.name_in_text(key)], err_msg=key)
        self.assertEqual(self.layers_of("qwen3_vl", self.folder / "out"), (4, 2))

    def test_a_head_of_its_own_where_the_base_s_is_tied(self):
        """The result has a head, and its config.json says so; a base without one is taken for its embedding."""
        folder, text = self.make_both("gemma3")
        head = np.random.default_rng(3).normal(0, 0.02, (families.VOCABULARY, 32)).astype(np.float32)
        self.edit_tensors(text / "base", lambda tensors: tensors | {"lm_head.weight": head})
        self.edit_config(text / "base", tie_word_embeddings=False)
        got = self.merged(self.config_of(folder, {"text_decoder": {"models": [self.source(text, "base", 0.5)]}}))
        base = families.read(folder / "base")["language_model.model.embed_tokens.weight"]
        np.testing.assert_array_equal(got["lm_head.weight"], base + np.float32(0.5) * (head - base))
        model = self.assert_loads("gemma3", self.folder / "out")
        np.testing.assert_array_equal(model.get_output_embeddings().weight.detach().numpy(), got["lm_head.weight"])

    def test_a_tied_head_where_the_base_has_one_of_its_own(self):
        folder, text = self.make_both("qwen3_vl")
        self.edit_tensors(text / "base", lambda tensors: {key: values for key, values in tensors.items() if key != "lm_head.weight"})
        self.edit_config(text / "base", tie_word_embeddings=True)
        got = self.merged(self.config_of(folder, {"text_decoder": {"models": [self.source(text, "base", 0.5)]}}))
        base = families.read(folder / "base")["lm_head.weight"]
        embedding = families.read(text / "base")["model.embed_tokens.weight"]
        np.testing.assert_array_equal(got["lm_head.weight"], base + np.float32(0.5) * (embedding - base))
        self.assert_loads("qwen3_vl", self.folder / "out")

    def test_it_has_no_vision_tower(self):
        folder, text = self.make_both("gemma3")
        said = self.refusal(self.config_of(folder, {"vision_tower": {"models": [self.source(text, "base", 1.0)]}}), 3)
        self.assertRegex(said, r"vision_tower")
        self.assertIn(str(text / "base"), said)

    def test_without_modules_it_is_refused(self):
        for name in NAMES:
            with self.subTest(family=name):
                folder, text = self.make_both(name)
                config = {"merge_method": "task_arithmetic", "base_model": str(folder / "base"), "models": [self.source(text, "expert_1", 1.0)]}
                said = self.refusal(config, 3)
                self.assertIn(f"architecture is {'Gemma3ForCausalLM' if name == 'gemma3' else 'Qwen3ForCausalLM'}", said)
                self.assertIn("modules: {text_decoder:", said)  # what would do

    def test_a_decoder_of_other_sizes_is_refused(self):
        folder, text = self.make_both("gemma3")
        self.edit_tensors(text / "base", lambda tensors: {key: values[:-8] if "mlp.up_proj" in key else values for key, values in tensors.items()})
        said = self.refusal(self.config_of(folder, {"text_decoder": {"models": [self.source(text, "base", 1.0)]}}), 3)
        self.assertRegex(said, r"mlp\.up_proj\.weight has shape \[48, 32\], but \[56, 32\]")


if __name__ == "__main__":
    unittest.main()

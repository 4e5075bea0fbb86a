"""Slices: layers of one or several models, renumbered; the forms in which merge configs are commonly written."""
import json
import unittest

from aimerge_command import GOLDENS, AimergeTest, as_float, file_bytes, read_folder

FAMILY = GOLDENS / "family_f32"
LAYERS = json.loads((FAMILY / "base/config.json").read_text())["num_hidden_layers"]


def model(name):
    return str(FAMILY / name)


def source(name, layers=None, **parameters):
    entry = {"model": model(name)}
    if layers is not None:
        entry["layer_range"] = list(layers)
    return {**entry, "parameters": parameters} if parameters else entry


class Slices(AimergeTest):
    def merged(self, name, config, *options, **keywords):
        out = self.folder / name
        path = config if isinstance(config, str) else json.dumps({"dtype": "float32", **config})
        self.aimerge("merge", self.config(path, f"{name}.yaml"), "--out", out, *options, **keywords)
        return out

    def test_of_all_layers_are_whole_models(self):
        sources = [source("expert_a", weight=[0.25, 1]), source("expert_b", weight=0.5, density={"filter": "mlp", "value": 0.25})]
        common = {"merge_method": "ties", "base_model": model("base"), "parameters": {"density": [0.5, 0.75]}}
        whole = self.merged("whole", {**common, "models": sources})
        ranges = [{**entry, "layer_range": [0, LAYERS]} for entry in [*sources, source("base")]]
        for name, slices in {"ranges": ranges, "no-ranges": [*sources, source("base")]}.items():
            with self.subTest(name):
                sliced = self.merged(name, {**common, "slices": [{"sources": slices}]})
                self.assertEqual(file_bytes(sliced), file_bytes(whole))
        module = self.merged("module", {**common, "modules": {"default": {"models": sources}}})
        self.assertEqual(file_bytes(module), file_bytes(whole))

    def test_stack_layers_as_they_are(self):
        stack = [("expert_a", 0, 2), ("expert_b", 1, 3), ("expert_a", 0, 1)]
        out = self.merged("stack", {"merge_method": "passthrough",
                                    "slices": [{"sources": [source(name, (first, end))]} for name, first, end in stack]})
        tensors = read_folder(out)
        inputs = {name: read_folder(FAMILY / name) for name in ("expert_a", "expert_b")}
        order = [(name, layer) for name, first, end in stack for layer in range(first, end)]
        suffixes = [name.removeprefix("model.layers.0.") for name in inputs["expert_a"] if name.startswith("model.layers.0.")]
        for place, (name, layer) in enumerate(order):
            for suffix in suffixes:
                self.assertEqual(tensors.pop(f"model.layers.{place}.{suffix}"), inputs[name][f"model.layers.{layer}.{suffix}"])
        self.assertEqual(tensors.pop("model.embed_tokens.weight"), inputs["expert_a"]["model.embed_tokens.weight"])
        self.assertEqual(tensors.pop("model.norm.weight"), inputs["expert_a"]["model.norm.weight"])
        tensors.pop("lm_head.weight", None)
        self.assertEqual(tensors, {})
        self.assertEqual(json.loads((out / "config.json").read_text())["num_hidden_layers"], len(order))
        self.aimerge("verify", out)

    def test_give_the_same_bytes_for_any_number_of_ranks(self):
        config = {"merge_method": "linear", "slices": [
            {"sources": [source("expert_a", (0, 2), weight=1), source("expert_b", (1, 3), weight=[1, 3])]},
            {"sources": [source("expert_b", (0, 3), weight=1)], "parameters": {"normalize": False}},
            {"sources": [source("expert_a", (1, 3), weight=1)]}]}
        alone = self.merged("alone", config)
        for ranks in (2, 3):
            with self.subTest(ranks=ranks):
                self.assertEqual(file_bytes(self.merged(f"ranks-{ranks}", config, ranks=ranks)), file_bytes(alone))

    def test_are_relaxed_by_the_layers_of_their_base(self):
        """The base's layer 2 with its activations, as a slice of its own, is layer 2 of the merge of whole models."""
        keys = self.merge_config(omega=0.4)
        whole = read_folder(self.merged("whole", keys))
        last = LAYERS - 1
        aim = {key: keys[key] for key in ("aim", "merge_method", "base_model")}
        layers = (last, LAYERS)
        sliced = read_folder(self.merged("sliced", {**aim, "slices": [
            {"sources": [source("expert_a", layers, weight=1), source("expert_b", layers, weight=1), source("base", layers)]}]}))
        for name, tensor in sliced.items():
            self.assertEqual(tensor, whole[name.replace("layers.0.", f"layers.{last}.")], name)
        self.assertNotEqual(as_float(sliced["model.layers.0.mlp.up_proj.weight"]).tolist(),
                            as_float(read_folder(FAMILY / "base")[f"model.layers.{last}.mlp.up_proj.weight"]).tolist())

    def test_scale_what_a_filter_of_the_inputs_own_name_picks(self):
        out = read_folder(self.merged("scaled", {"merge_method": "passthrough", "slices": [
            {"sources": [source("expert_a", (0, 1))]},
            {"sources": [source("expert_b", (0, 1), scale={"filter": "layers.0.mlp.down_proj", "value": 0.5})]}]}))
        given = read_folder(FAMILY / "expert_b")
        self.assertEqual(as_float(out["model.layers.1.mlp.down_proj.weight"]).tolist(),
                         (as_float(given["model.layers.0.mlp.down_proj.weight"]) * 0.5).tolist())
        self.assertEqual(out["model.layers.1.mlp.up_proj.weight"], given["model.layers.0.mlp.up_proj.weight"])

    def test_refuse_what_does_not_fit(self):
        beyond = LAYERS + 1
        rows = [
            ("merge_method: passthrough\nslices:\n- sources:\n  - model: {a}\n    layer_range: [0, %d]\n" % beyond,
             f"merge.yaml:5:18: layer_range [0, {beyond}) goes beyond the {LAYERS} layers of"),
            ("merge_method: linear\nparameters: {{weight: 1}}\nslices:\n- sources:\n  - {{model: {a}, layer_range: [0, 1]}}\n"
             "  - model: {b}\n    layer_range: [0, 2]\n", "merge.yaml:7:18: "),
            ("merge_method: passthrough\nslices:\n- sources: [{{model: {a}}}, {{model: {b}}}]\n",
             "merge.yaml:3:3: passthrough needs exactly 1 model in each slice, found 2"),
            ("merge_method: ties\nbase_model: {base}\nparameters: {{weight: 1}}\nslices:\n- sources: [{{model: {a}}}]\n",
             "merge.yaml:5:3: this slice has no base: ties needs base_model"),
        ]
        for text, message in rows:
            with self.subTest(message):
                path = self.config(text.format(a=model("expert_a"), b=model("expert_b"), base=model("base")))
                result = self.aimerge("merge", path, "--out", self.folder / "out", expect=2)
                self.assertIn(message, result.stderr)


class CommonForms(AimergeTest):
    """Configs as people write them, in YAML, on the small models."""

    def merged(self, text):
        out = self.folder / "out"
        names = {name: model(name) for name in ("base", "expert_a", "expert_b", "expert_c")}
        self.aimerge("merge", self.config(text.format(layers=LAYERS, **names)), "--out", out)
        self.aimerge("verify", out)
        return read_folder(out)

    def test_slerp_with_gradients_by_filter(self):
        self.merged("slices:\n  - sources:\n      - model: {base}\n        layer_range: [0, {layers}]\n"
                    "      - model: {expert_a}\n        layer_range: [0, {layers}]\nmerge_method: slerp\nbase_model: {base}\n"
                    "parameters:\n  t:\n    - filter: self_attn\n      value: [0, 0.5, 0.3, 0.7, 1]\n"
                    "    - filter: mlp\n      value: [1, 0.5, 0.7, 0.3, 0]\n    - value: 0.5\ndtype: float16\n")

    def test_linear_of_several_models(self):
        self.merged("models:\n  - model: {expert_a}\n    parameters:\n      weight: 1.0\n  - model: {expert_b}\n"
                    "    parameters:\n      weight: 0.3\nmerge_method: linear\ndtype: float16\n")

    def test_ties_with_gradients_and_filters(self):
        self.merged("models:\n  - model: {base}\n  - model: {expert_a}\n    parameters:\n      density: [1, 0.7, 0.1]\n"
                    "      weight: 1.0\n  - model: {expert_b}\n    parameters:\n      density: 0.5\n"
                    "      weight: [0, 0.3, 0.7, 1]\n  - model: {expert_c}\n    parameters:\n      density: 0.33\n"
                    "      weight:\n        - filter: mlp\n          value: 0.5\n        - value: 0\nmerge_method: ties\n"
                    "base_model: {base}\nparameters:\n  normalize: true\n  int8_mask: true\ndtype: float16\n"
                    "tokenizer_source: base\n")

    def test_slices_each_with_models_of_its_own(self):
        tensors = self.merged("slices:\n  - sources:\n      - model: {expert_a}\n        layer_range: [0, 2]\n"
                              "  - sources:\n      - model: {expert_b}\n        layer_range: [1, {layers}]\n"
                              "merge_method: passthrough\ndtype: float16\n")
        self.assertIn(f"model.layers.{LAYERS}.mlp.up_proj.weight", tensors)
        self.assertNotIn(f"model.layers.{LAYERS + 1}.mlp.up_proj.weight", tensors)


if __name__ == "__main__":
    unittest.main()

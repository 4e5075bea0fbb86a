"""What mergekit takes: keys that nothing reads, values at the ends of their ranges, slices of no layers, adapters in mappings, models of
other labels. Values are computed here with numpy."""
import json

import numpy as np
from aimerge_command import AimergeTest, as_float, file_bytes, read_folder
from safetensors.numpy import save_file

LAYERS, HIDDEN, TOKENS = 2, 8, 12
METHODS = {"ties": {}, "dare_ties": {}, "dare_linear": {"rescale_mode": "inverse_density"}, "della": {}, "della_linear": {},
           "breadcrumbs": {}, "breadcrumbs_ties": {}}
SUMS = ("dare_linear", "della_linear", "breadcrumbs")


def shapes():
    found = {"model.embed_tokens.weight": (TOKENS, HIDDEN), "model.norm.weight": (HIDDEN,), "lm_head.weight": (TOKENS, HIDDEN)}
    for layer in range(LAYERS):
        prefix = f"model.layers.{layer}."
        found.update({f"{prefix}self_attn.{name}_proj.weight": (HIDDEN, HIDDEN) for name in "qkvo"})
        found.update({f"{prefix}mlp.{name}_proj.weight": shape
                      for name, shape in {"gate": (16, HIDDEN), "up": (16, HIDDEN), "down": (HIDDEN, 16)}.items()})
        found.update({f"{prefix}{name}.weight": (HIDDEN,) for name in ("input_layernorm", "post_attention_layernorm")})
    return found


def llama(seed):
    random = np.random.default_rng(seed)
    return {name: random.standard_normal(shape).astype(np.float32) for name, shape in shapes().items()}


CONFIG = {"architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": HIDDEN, "intermediate_size": 16,
          "num_hidden_layers": LAYERS, "num_attention_heads": 2, "num_key_value_heads": 2, "vocab_size": TOKENS, "rms_norm_eps": 1e-6,
          "rope_theta": 10000.0, "hidden_act": "silu", "tie_word_embeddings": False, "torch_dtype": "float32"}


def consensus(base, weights, changes):
    """TIES of changes that are trimmed already, with the weights of those that agree as the divisor."""
    weighted = [w * d for w, d in zip(weights, changes)]
    sign = np.where(sum(weighted) >= 0, 1, -1)
    agree = [np.sign(change) == sign for change in weighted]
    divisor = sum(w * kept for w, kept in zip(weights, agree))
    return base + sum(change * kept for change, kept in zip(weighted, agree)) / np.where(divisor == 0, 1, divisor)


class Leniency(AimergeTest):
    def setUp(self):
        super().setUp()
        self.models = {name: self.model(name, llama(seed)) for seed, name in enumerate(("base", "a", "b"))}

    def model(self, name, tensors, **config):
        folder = self.folder / name
        folder.mkdir()
        (folder / "config.json").write_text(json.dumps({**CONFIG, **config}))
        save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
        return tensors

    def adapter(self, name):
        """@return the change of layer 0's q_proj"""
        folder = self.folder / name
        folder.mkdir()
        random = np.random.default_rng(9)
        a, b = random.standard_normal((2, HIDDEN)).astype(np.float32), random.standard_normal((HIDDEN, 2)).astype(np.float32)
        prefix = "base_model.model.model.layers.0.self_attn.q_proj.lora_"
        save_file({f"{prefix}A.weight": a, f"{prefix}B.weight": b}, folder / "adapter_model.safetensors")
        (folder / "adapter_config.json").write_text(json.dumps({"peft_type": "LORA", "r": 2, "lora_alpha": 3, "target_modules": ["q_proj"]}))
        return 1.5 * b.astype(np.float64) @ a

    def merged(self, config, *options, **keywords):
        out = self.folder / "out"
        text = config if isinstance(config, str) else {"dtype": "float32", **config}
        result = self.aimerge("merge", self.config(text), "--out", out, "--overwrite", *options, **keywords)
        return {name: as_float(entry) for name, entry in read_folder(out).items()} if result.returncode == 0 else result

    def compare(self, got, expected, message=None):
        self.assertEqual(sorted(got), sorted(expected), message)
        for name, values in expected.items():
            np.testing.assert_allclose(got[name], values, rtol=0, atol=2e-6 * max(1, np.abs(values).max()), err_msg=f"{message}: {name}")

    def test_density_0_leaves_the_expert_out(self):
        """Of a the last layer is kept whole, and nothing else: gradients of 0 and 1 over two layers."""
        base, a, b = self.models.values()
        for method, parameters in METHODS.items():
            for normalize in (False, True):
                got = self.merged({"merge_method": method, "base_model": "base", "parameters": {**parameters, "normalize": normalize},
                                   "models": [{"model": "a", "parameters": {"weight": 0.5, "density": [0, 1]}},
                                              {"model": "b", "parameters": {"weight": 0.25, "density": 1}}]})
                expected = {}
                for name, theta in base.items():
                    kept = float(".layers.1." in name)
                    changes = [kept * (a[name] - theta), b[name] - theta]
                    if method in SUMS:
                        expected[name] = theta + (0.5 * changes[0] + 0.25 * changes[1]) / (0.75 if normalize else 1)
                    elif normalize:
                        expected[name] = consensus(theta, (0.5, 0.25), changes)
                    else:
                        weighted = [0.5 * changes[0], 0.25 * changes[1]]
                        sign = np.where(weighted[0] + weighted[1] >= 0, 1, -1)
                        expected[name] = theta + sum(change * (np.sign(change) == sign) for change in weighted)
                self.compare(got, expected, f"{method} {parameters} normalize {normalize}")

    def test_density_0_of_all_experts_is_the_base(self):
        for method, parameters in METHODS.items():
            got = self.merged({"merge_method": method, "base_model": "base", "parameters": {**parameters, "weight": 1, "density": 0},
                               "models": [{"model": "a"}, {"model": "b"}]})
            for name, values in self.models["base"].items():
                self.assertTrue(np.array_equal(got[name], values), f"{method}: {name}")

    def test_slices_of_no_layers_say_where_embeddings_and_head_come_from(self):
        base, a, b = self.models.values()
        both = {"sources": [{"model": name, "layer_range": [0, 2.0], "parameters": {"weight": weight}} for name, weight in (("a", 1), ("b", 3))]}
        one = lambda name, layer: {"sources": [{"model": name, "layer_range": [layer, layer], "parameters": {"weight": 1}}]}
        got = self.merged({"merge_method": "linear", "slices": [one("base", 0), both, one("a", 2)]})
        expected = {name: (a[name] + 3 * b[name].astype(np.float64)) / 4 for name in a}
        expected.update({"model.embed_tokens.weight": base["model.embed_tokens.weight"], "lm_head.weight": a["lm_head.weight"],
                         "model.norm.weight": a["model.norm.weight"]})
        self.compare(got, expected)
        self.assertEqual(json.loads((self.folder / "out/config.json").read_text())["num_hidden_layers"], LAYERS)
        self.aimerge("verify", self.folder / "out")
        refused = self.merged({"merge_method": "linear", "slices": [one("a", 0)]}, expect=2)
        self.assertIn("the slices have no layer among them", refused.stderr)

    def test_slerp_goes_on_beyond_its_ends(self):
        base, a, _ = self.models.values()
        for t in (1.25, -0.5):
            got = self.merged({"merge_method": "slerp", "base_model": "base", "models": [{"model": "a"}], "parameters": {"t": t}})
            expected = {}
            for name, theta in base.items():
                v0, v1 = theta.astype(np.float64).ravel(), a[name].astype(np.float64).ravel()
                cosine = v0 @ v1 / np.linalg.norm(v0) / np.linalg.norm(v1)
                self.assertLess(abs(cosine), 0.9995)
                phi = np.arccos(cosine)
                expected[name] = ((np.sin((1 - t) * phi) * v0 + np.sin(t * phi) * v1) / np.sin(phi)).reshape(theta.shape)
            self.compare(got, expected, f"t {t}")

    def test_adapters_in_mergekits_mapping_and_alone(self):
        change = self.adapter("lora")
        name = "model.layers.0.self_attn.q_proj.weight"
        mapping = {"model": {"path": "base"}, "lora": {"path": "lora"}}
        expected = dict(self.models["base"]) | {name: self.models["base"][name] + change}
        self.compare(self.merged({"merge_method": "passthrough", "models": [{"model": {"model": mapping["model"], "lora": mapping["lora"]}}]}), expected)
        written = file_bytes(self.folder / "out")
        for method in ("task_arithmetic", "dare_ties", "sce"):
            self.compare(self.merged({"merge_method": method, "base_model": mapping, "models": [{"model": "base+lora"}]}), expected, method)
            self.assertEqual(file_bytes(self.folder / "out"), written)

    def test_a_base_alone_has_no_experts_to_measure(self):
        calibration = {"token_ids": "ids.npy", "sequences": 2, "dtype": "float32"}
        np.save(self.folder / "ids.npy", np.arange(8).reshape(2, 4))
        alone = {"merge_method": "ties", "base_model": "base", "models": [{"model": "base"}]}
        got = self.merged({**alone, "aim": {"omega": 0.4, "calibration": calibration}})
        self.compare(got, self.models["base"])
        for section in ({"aim": {"omega": 0.4, "source": "mean", "calibration": calibration}}, {"featcal": {}, "calibration": calibration}):
            self.assertIn("there are none besides the base", self.merged({**alone, **section}, expect=2).stderr)

    def test_what_nothing_reads_is_said_once(self):
        config = """x-parameters: &p {weight: 0.5}
merge_method: slerp
base_model: a
description: a model
models:
  - {model: a, parameters: *p}
  - {model: b, parameters: {weight: 0.5}}
parameters: {t: 0.5, random_seed: 42}
dtype: torch.float32
"""
        said = ["merge.yaml:4:1: the key 'description' is not known here and is ignored",
                "merge.yaml:8:22: the key 'random_seed' is not known here and is ignored; for methods that draw random numbers write 'seed'",
                "merge.yaml:1:27: the method slerp has no parameter 'weight', which is ignored; it has t (and in 1 more place)"]
        path = self.config(config)
        for command in (["merge", path, "--out", self.folder / "out", "--overwrite"], ["plan", path]):
            for ranks in (0, 2):
                errors = self.aimerge(*command, ranks=ranks).stderr
                for line in said:
                    self.assertEqual(errors.count(line), 1, f"{command[0]}, {ranks} ranks: {line}\n{errors}")
                self.assertNotIn("x-parameters", errors)
            self.assertIn(said[0], self.aimerge(*command, "--strict", expect=2).stderr)
        documents = self.config("name: first\n" + config + "---\nmerge_method: linear\nnote: 1\nmodels: [{model: first}]\nparameters: {weight: 1}\n")
        errors = self.aimerge("merge", documents, "--out", self.folder / "out", "--overwrite").stderr
        self.assertEqual([errors.count(f"'{key}'") for key in ("description", "note", "random_seed")], [1, 1, 1], errors)

    def test_sweeps_say_it_once_for_each_method(self):
        path = self.config({"base_model": "base", "experts": {"x": "a", "y": "b"}, "combinations": [["x"], ["y"], ["x", "y"]], "omega": [1],
                            "methods": [{"merge_method": "sce", "parameters": {"weight": 1, "select_topk": 0.5}}, "task_arithmetic"],
                            "output": {"directory": "swept"}})
        errors = self.aimerge("sweep", path).stderr
        self.assertEqual(errors.count("the method sce has no parameter 'weight', which is ignored"), 1, errors)
        self.assertIn("has no parameter 'weight'", self.aimerge("sweep", path, "--strict", expect=2).stderr)

    def test_crimes_are_allowed_on_demand(self):
        base, a, b = self.models.values()
        name = "model.layers.1.mlp.up_proj.weight"
        self.model("other", {key: value for key, value in b.items() if key != name} | {"v_head.weight": np.ones((1, HIDDEN), np.float32)},
                   architectures=["MistralForCausalLM"], model_type="mistral")
        config = {"merge_method": "linear", "models": [{"model": model, "parameters": {"weight": weight}}
                                                       for model, weight in (("a", 1), ("base", 2), ("other", 5))]}
        refused = self.merged(config, expect=3)
        self.assertIn("other: architecture is MistralForCausalLM, but a has LlamaForCausalLM", refused.stderr)
        self.assertIn("--allow-crimes", refused.stderr)
        got = self.merged(config, "--allow-crimes")
        expected = {key: (a[key] + 2 * base[key].astype(np.float64) + 5 * b[key]) / 8 for key in a}
        expected[name] = (a[name] + 2 * base[name].astype(np.float64)) / 3
        self.compare(got, expected)
        self.assertEqual(json.loads((self.folder / "out/config.json").read_text())["architectures"], ["LlamaForCausalLM"])
        # Fewer than the method needs: what the base has.
        got = self.merged({"merge_method": "slerp", "base_model": "base", "parameters": {"t": 0.5}, "models": [{"model": "other"}]}, "--allow-crimes")
        self.assertTrue(np.array_equal(got[name], base[name]))

    def test_tensors_that_some_models_have_not(self):
        a, b = self.models["a"], self.models["b"]
        extra = self.model("extra", a | {"v_head.weight": np.ones((1, HIDDEN), np.float32)})
        config = {"merge_method": "linear", "parameters": {"weight": 1}, "models": [{"model": "b"}, {"model": "extra"}]}
        refused = self.merged(config, expect=3)
        self.assertIn("v_head.weight is not in b", refused.stderr)
        self.assertIn("--allow-crimes", refused.stderr)
        self.compare(self.merged(config, "--allow-crimes"), {name: (extra[name] + b[name].astype(np.float64)) / 2 for name in a})


if __name__ == "__main__":
    import unittest
    unittest.main()

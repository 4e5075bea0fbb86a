"""One mixture of experts, once with a tensor per expert and once with the experts of a layer in one tensor, as transformers has them in memory: the
merged experts are the same, bit for bit."""
import json
import unittest

import h5py
import numpy as np

import model_families as families
import recorded_statistics as recorded
from family_test import FamilyTest
from peers import transformers

MEASURING = {"fisher", "regmean"}  # methods that calibrate the experts
OF_ONE_EXPERT = {"slerp", "nearswap", "arcee_fusion", "passthrough"}
WITHOUT_BASE = {"linear", "passthrough"}
VALUES = {"weight": 0.6, "density": 0.5, "t": 0.4, "gamma": 0.05, "select_topk": 0.5, "rescale": True}  # so that methods look at all of a matrix
RELAXED_BY = (
    {}, {"statistic": "rms"}, {"statistic": "max_abs"}, {"statistic": "wanda"}, {"statistic": "wanda", "shape": "power:2"},
    {"shape": "top:0.2"}, {"shape": "sigmoid:6"}, {"control": "shuffled"}, {"control": "mean"}, {"control": "scale"},
    {"statistic": "wanda", "control": "scale"}, {"shape": "top:0.2", "control": "shuffled"}, {"normalisation": "layer"}, {"normalisation": "global"},
    {"normalisation": "quantile:0.9"}, {"expert_prior_tokens": 3}, {"scope": "linear"})
PARTS = {"gate_up_proj": ("gate_proj", "up_proj"), "down_proj": ("down_proj",)}
DOWN = "model.layers.1.mlp.experts.down_proj"


class Forms(FamilyTest):
    """Folders of the two forms."""

    NAME = "qwen3_moe"
    runs = 0

    def setUp(self):
        super().setUp()
        self.separate, self.fused = self.make(self.NAME), self.folder / "fused"
        for place in ("base", "expert_1", "expert_2"):
            with recorded.quiet():
                model = transformers.AutoModelForCausalLM.from_pretrained(self.separate / place)
                model.save_pretrained(self.fused / place, save_original_format=False)

    def together(self, separate, block, parts):
        count = sum(name.startswith(f"{block}.experts.") and name.endswith(f".{parts[0]}.weight") for name in separate)
        return np.stack([np.concatenate([separate[f"{block}.experts.{number}.{part}.weight"] for part in parts]) for number in range(count)])

    def fuse(self, separate):
        """{name: array} of the fused form, of that of the separate one."""
        fused = {name: values for name, values in separate.items() if not families.EXPERT.match(name)}
        for block in {match["block"] for name in separate if (match := families.EXPERT.match(name))}:
            fused |= {f"{block}.experts.{tensor}": self.together(separate, block, parts) for tensor, parts in PARTS.items()}
        return fused

    def assert_alike(self, config_of):
        """@param config_of the folder with base, expert_1 and expert_2"""
        self.runs += 1
        separate = self.merged(config_of(self.separate), f"separate-{self.runs}")
        fused = self.merged(config_of(self.fused), f"fused-{self.runs}")
        want = self.fuse(separate)
        self.assertEqual(set(fused), set(want))
        different = [name for name, values in want.items() if not np.array_equal(fused[name], values)]
        self.assertFalse(different)
        return want


class Merged(Forms):
    def test_the_forms_are_one_model(self):
        tensors = self.fuse(families.read(self.separate / "base"))
        for name, values in families.read(self.fused / "base").items():
            np.testing.assert_array_equal(values, tensors.pop(name), err_msg=name)
        self.assertFalse(tensors)

    def config_of_method(self, method, folder):
        """@param method as `aimerge methods --json` has it"""
        name, scopes = method["name"], {parameter["name"]: parameter["scope"] for parameter in method["parameters"]}
        values = {key: value for key, value in VALUES.items() if key in scopes}
        experts = [{"model": str(folder / place), "parameters": {key: value for key, value in values.items() if scopes[key] != "all"}}
                   for place in ("expert_1", "expert_2")[:1 if name in OF_ONE_EXPERT else 2]]
        config = {"merge_method": name, "models": experts, "parameters": {key: value for key, value in values.items() if scopes[key] == "all"}}
        return config if name in WITHOUT_BASE else config | {"base_model": str(folder / "base")}

    def test_every_method(self):
        methods = json.loads(self.aimerge("methods", "--json").stdout)
        self.assertGreater(len(methods), 20)
        for method in methods:
            if method["name"] not in MEASURING:
                with self.subTest(method["name"]):
                    merged = self.assert_alike(lambda folder: self.config_of_method(method, folder))
                    self.assertFalse(np.array_equal(merged[DOWN], families.read(self.fused / "base")[DOWN]))

    def test_densities_are_of_every_matrix(self):
        """As much is dropped of an expert with large changes as of one with small ones."""
        scale = np.linspace(1, 40, 24, dtype=np.float32)

        def enlarge(tensors):
            """A scale for each expert, so that their changes differ."""
            numbers = {name: int(match["number"]) for name in tensors if (match := families.EXPERT.match(name))}
            return {name: values * (scale[numbers[name]] if name in numbers else 1) for name, values in tensors.items()}

        self.edit_tensors(self.separate / "expert_1", enlarge)
        self.edit_tensors(self.fused / "expert_1", lambda _: self.fuse(families.read(self.separate / "expert_1")))
        for method in ("ties", "dare_ties", "della", "breadcrumbs", "sce"):
            with self.subTest(method):
                parameters = {"weight": 1.0, "density": 0.5} if method != "sce" else {}
                merged = self.assert_alike(lambda folder: {
                    "merge_method": method, "base_model": str(folder / "base"), "parameters": {"select_topk": 0.5} if method == "sce" else {},
                    "models": [{"model": str(folder / place), "parameters": parameters} for place in ("expert_1", "expert_2")]})
                self.assertTrue(np.isfinite(merged["model.layers.0.mlp.experts.gate_up_proj"]).all())


class Relaxed(Forms):
    """By a log of each form. Two recordings differ in last bits, as torch's sums do: the log of the fused form has the numbers of the other."""

    def setUp(self):
        super().setUp()
        self.logs = {folder: self.folder / f"recorded-{kind}.h5" for kind, folder in (("separate", self.separate), ("fused", self.fused))}
        with recorded.quiet():
            for folder, log in self.logs.items():
                recorded.record(folder / "base", log)
        self.recorded_tokens = recorded.Log(self.logs[self.fused]).tokens[DOWN]
        with h5py.File(self.logs[self.separate]) as separate, h5py.File(self.logs[self.fused], "a") as fused:
            for module, group in fused["statistics"].items():
                for statistic, values in group.items():
                    values[...] = self.numbers(separate["statistics"], module, statistic, values.shape)

    def numbers(self, separate, module, statistic, shape):
        """The statistics of a module of the fused form, from those of the other."""
        if module in separate:
            return separate[module][statistic][:]
        block, tensor = module.split(".experts.")
        numbers = np.zeros(shape, np.float32)
        for expert in range(shape[0]):
            parts = [separate[name][statistic][:] for part in PARTS[tensor] if (name := f"{block}.experts.{expert}.{part}") in separate]
            if parts:
                np.testing.assert_array_equal(parts[0], parts[-1])  # gate and up have one input
                numbers[expert] = parts[0]
        return numbers

    def config_of(self, folder, **aim):
        return self.merge_of(folder, aim={"omega": 0.2, "statistics": str(self.logs[folder]), **aim})

    def test_every_way_to_relax(self):
        plain = families.read(self.fused / "expert_1")
        for aim in RELAXED_BY:
            with self.subTest(**aim):
                merged = self.assert_alike(lambda folder: self.config_of(folder, **aim))
                self.assertFalse(np.allclose(merged[DOWN], plain[DOWN], rtol=1e-6, atol=0))

    def test_methods_that_trim(self):
        for method in ("ties", "dare_ties", "della"):
            with self.subTest(method):
                self.assert_alike(lambda folder: self.config_of(folder) | {"merge_method": method, "parameters": {"density": 0.5}})

    def test_some_experts_have_few_tokens_and_some_none(self):
        """What the logs of the tests above are like."""
        log = recorded.Log(self.logs[self.separate])
        counts = [log.tokens.get(DOWN.replace("experts.", f"experts.{number}."), 0) for number in range(24)]
        self.assertEqual(sum(counts), 4 * 10 * 2)  # tokens x experts of each
        self.assertIn(0, counts)
        self.assertTrue(any(0 < count < 3 for count in counts))
        np.testing.assert_array_equal(self.recorded_tokens, counts)

    def held_back(self, folder, expert, **aim):
        """By input channel, how much of its change an expert's down_proj keeps."""
        self.runs += 1
        got = self.merged(self.config_of(folder, **aim), f"kept-{self.runs}")

        def matrix(tensors):
            separate = tensors.get(f"{DOWN.replace('experts.', f'experts.{expert}.')}.weight")
            return (tensors[DOWN][expert] if separate is None else separate).astype(np.float64)

        merged, base, other = (matrix(tensors) for tensors in (got, families.read(folder / "base"), families.read(folder / "expert_1")))
        return ((merged - base) * (other - base)).sum(0) / ((other - base) ** 2).sum(0)

    def test_the_shuffle_of_an_expert_without_tokens(self):
        """Is, as any other, a permutation of its own importances: of the mean of the others'."""
        expert = int(np.argmin(self.recorded_tokens))
        self.assertEqual(self.recorded_tokens[expert], 0)
        for folder in (self.separate, self.fused):
            with self.subTest(form=folder.name):
                plain, shuffled = self.held_back(folder, expert), self.held_back(folder, expert, control="shuffled")
                np.testing.assert_allclose(np.sort(shuffled), np.sort(plain), atol=1e-4)
                self.assertGreater(np.abs(shuffled - plain).max(), 0.01)

    def test_the_log_of_the_other_form_is_refused(self):
        config = self.merge_of(self.separate, aim={"omega": 0.2, "statistics": str(self.logs[self.fused])})
        result = self.aimerge("merge", self.config(config), "--out", self.folder / "other", expect=3)
        self.assertIn("another model", result.stderr)
        self.assertFalse((self.folder / "other").exists())


if __name__ == "__main__":
    unittest.main()

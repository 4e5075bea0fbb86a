"""Feature calibration (`featcal`): against a dense reference in float64, by what must hold of it, and with other kinds of input."""
import csv
import json
import shutil
import unittest

import numpy as np
from safetensors.numpy import load_file, save_file

from aimerge_command import bf16_to_float, file_bytes, float_to_bf16, read_folder
from featcal_reference import FAMILIES, Model, Teacher, calibrated, forward
from featcal_test import FeatcalTest
from peers import needs_peers, torch, transformers

# What float32 forward passes cost, whose roundings the solution multiplies by up to 1 / lambda.
LARGEST_ERROR = 1e-5
# Against what the calibration changes.
LARGEST_ERROR_OF_CHANGE = 5e-4


def to_bfloat16(values):
    return bf16_to_float(float_to_bf16(values))


def size_of(values):
    return float(np.linalg.norm(values))


class Formulas(FeatcalTest):
    def check(self, config, teachers, fits=lambda module: True, **keys):
        """@param teachers {name: weight} @param keys of calibrated()"""
        plain, out = self.plain_of(config), self.merged("fitted", config)
        merged = Model(Model.read(self.models["base"]).config, self.values(plain))
        read = {name: Model.read(folder) for name, folder in self.models.items()}
        asked = [Teacher(read[name], self.ids[name], weight) for name, weight in teachers.items()]
        wanted = calibrated(merged, asked, read["base"], config["featcal"].get("lambda", 0.01), config["featcal"].get("rho", 1.0),
                            config["featcal"].get("alpha", 1.0), fits, **keys)
        self.assertTrue(wanted)
        got, raw, untouched = self.values(out), read_folder(out), read_folder(plain)
        self.assertEqual(set(got), set(merged.weights))
        errors = {}
        for name, values in got.items():
            if name not in wanted:
                self.assertTrue(raw[name] == untouched[name], name)
                continue
            difference, change = size_of(values - wanted[name]), size_of(wanted[name] - merged.weights[name])
            errors[name] = difference / size_of(wanted[name])
            self.assertLess(difference, LARGEST_ERROR_OF_CHANGE * change, name)
        self.assertEqual(set(errors), set(wanted))
        worst = max(errors, key=errors.get)
        self.assertLess(errors[worst], LARGEST_ERROR, worst)
        shutil.rmtree(plain)
        shutil.rmtree(out)

    def test_every_family(self):
        for family in FAMILIES:
            with self.subTest(family=family):
                self.make(family)
                self.check(self.featcal_config([self.expert("one", blocks=11, micro_batch=3), self.expert("two")]), {"one": 1, "two": 1})

    def test_every_setting(self):
        self.make("llama, biases")
        base = {"base": {"model": str(self.models["base"])}}
        for name, teachers, settings in (
                ("lambda 0.5", {"one": 1, "two": 1}, {"lambda": 0.5}),
                ("alpha 0.5", {"one": 1, "two": 1}, {"alpha": 0.5}),
                ("alpha 0", {"one": 1, "two": 1}, {"alpha": 0}),
                ("rho 0.5", {"one": 1, "two": 1}, {"rho": 0.5, "lambda": 0.1, **base}),
                ("rho 1.5", {"one": 1, "two": 1}, {"rho": 1.5, "lambda": 0.1, **base}),
                ("weights", {"one": 1, "two": 2}, {"lambda": 0.02}),
                ("all", {"one": 0.25, "two": 3}, {"rho": 0.25, "alpha": 0.75, "lambda": 0.05, **base})):
            with self.subTest(name):
                experts = [self.expert(expert, weight) for expert, weight in teachers.items()]
                self.check(self.featcal_config(experts, **settings), teachers)

    def test_methods(self):
        self.make("qwen3")
        aim = {"omega": 0.4, "calibration": self.text("base")}
        for method, keys in (("task_arithmetic", {}), ("ties", {"parameters": {"density": 0.5}, "aim": aim})):
            with self.subTest(method):
                self.check(self.featcal_config(plain=self.plain_config(method, **keys), rho=0.5), {"one": 1, "two": 1})

    def test_the_base_as_an_expert(self):
        self.make("gemma2")
        base = {"model": str(self.models["base"]), "calibration": self.text("base", blocks=9), "weight": 0.5}
        self.check(self.featcal_config(base=base, rho=0.5), {"one": 1, "two": 1, "base": 0.5})

    def test_modules_that_a_filter_names(self):
        self.make("qwen2")
        self.check(self.featcal_config(modules=["mlp"]), {"one": 1, "two": 1}, fits=lambda module: "mlp" in module)
        self.check(self.featcal_config(modules=["layers.1.self_attn.k_proj", "post_attention"]), {"one": 1, "two": 1},
                   fits=lambda module: "layers.1.self_attn.k_proj" in module or "post_attention" in module)

    def test_long_texts_are_summed_in_parts(self):
        self.make(num_hidden_layers=1)
        self.check(self.featcal_config([self.expert("one", blocks=87, length=50, micro_batch=4), self.expert("two")]), {"one": 1, "two": 1})

    def test_an_expert_that_is_not_merged(self):
        self.make("mistral", experts=("one", "two", "three"))
        self.check(self.featcal_config([self.expert("three"), self.expert("one")]), {"three": 1, "one": 1})

    def test_stored_in_bfloat16(self):
        """The weights hold to the merged values before they are rounded, and later modules see what is stored."""
        self.make()
        config = self.featcal_config(**{"lambda": 0.3})
        plain = self.values(self.plain_of(config))
        read = {name: Model.read(folder) for name, folder in self.models.items()}
        teachers = [Teacher(read[name], self.ids[name]) for name in ("one", "two")]
        wanted = calibrated(Model(read["base"].config, plain), teachers, strength=0.3, stored=to_bfloat16)
        got = self.values(self.merged("fitted", {**config, "out_dtype": "bfloat16"}))
        same = total = 0
        for name, values in wanted.items():
            # A value beside the middle of two bfloat16 numbers goes to either.
            np.testing.assert_allclose(got[name], values, rtol=2.0**-7, atol=1e-5, err_msg=name)
            same, total = same + int(np.sum(got[name] == values)), total + values.size
        self.assertGreater(same / total, 0.97)

    @needs_peers
    def test_the_reference_runs_models_as_transformers_does(self):
        for family in FAMILIES:
            with self.subTest(family=family):
                self.make(family)
                self.text("base", blocks=2, length=40)
                network = transformers.AutoModelForCausalLM.from_pretrained(self.models["base"], dtype=torch.float64,
                                                                            attn_implementation="eager").eval()
                with torch.inference_mode():
                    want = network(torch.tensor(self.ids["base"])).logits.numpy()
                got = forward(Model.read(self.models["base"]), self.ids["base"])[1]
                np.testing.assert_allclose(got, want, atol=1e-5)  # norms and softmax of transformers are float32


class Properties(FeatcalTest):
    def assert_near(self, out, wanted, tolerance, names=None):
        """@param names of tensors; all of the layers"""
        got, wanted = self.values(out), self.values(wanted)
        for name in names or [name for name in got if ".layers." in name]:
            self.assertLess(size_of(got[name] - wanted[name]), tolerance * size_of(wanted[name]), name)

    def test_a_large_lambda_leaves_the_plain_merge(self):
        self.make("llama, biases")
        config = self.featcal_config(**{"lambda": 1e12})
        self.assert_same(read_folder(self.merged("held", config)), read_folder(self.plain_of(config)))
        self.assertTrue(read_folder(self.merged("fitted", self.featcal_config())) != read_folder(self.folder / "plain"))

    def test_one_expert_comes_back(self):
        for family in ("llama, biases", "gemma2"):
            self.make(family)
            for alpha in (0, 1):
                with self.subTest(family=family, alpha=alpha):
                    plain = self.plain_config("passthrough", ["two"])
                    if alpha == 1:  # both see the same tokens alike
                        path = self.models["two"] / "model.safetensors"
                        embedding = "model.embed_tokens.weight"
                        save_file({**load_file(path), embedding: load_file(self.models["one"] / "model.safetensors")[embedding]}, path)
                    config = self.featcal_config([self.expert("one", blocks=20)], plain, alpha=alpha, **{"lambda": 1e-6})
                    out = self.merged(f"back-{len(family)}-{alpha}", config)
                    self.assert_near(out, self.models["one"], 1e-3)

    def test_rho_0_and_the_base_alone_give_the_base(self):
        """Norms, too, although the base and its only expert have the same."""
        self.make("qwen3")
        plain = self.plain_config("passthrough", ["two"])
        base = {"model": str(self.models["base"])}
        config = self.featcal_config([self.expert("base", blocks=20)], plain, alpha=0, rho=0, base=base)
        self.assert_near(self.merged("out", config), self.models["base"], 1e-5)

    def test_an_expert_of_weight_0_is_as_if_it_were_not_there(self):
        self.make("qwen2")
        alone = self.merged("alone", self.featcal_config([self.expert("one", 3)]))
        beside = self.merged("beside", self.featcal_config([self.expert("two", 0), self.expert("one", 3)]))
        self.assert_same(read_folder(beside), read_folder(alone))

    def test_the_order_of_experts_does_not_matter(self):
        self.make("phi3")
        experts = [self.expert("one"), self.expert("two", 2)]
        first = self.merged("first", self.featcal_config(experts))
        self.assert_near(self.merged("turned", self.featcal_config(experts[::-1])), first, 1e-6)

    def test_norms_that_all_models_share_stay(self):
        self.make("gemma2", changes_norms=False)
        config = self.featcal_config()
        fitted, plain = read_folder(self.merged("fitted", config)), read_folder(self.plain_of(config))
        for name, entry in fitted.items():
            changes = "_proj" in name
            self.assertEqual(entry != plain[name], changes, name)

    def test_shards_manifest_and_what_is_not_fitted(self):
        self.make("qwen2")
        config = self.featcal_config([self.expert("one", 2), self.expert("two")])
        plain = self.plain_of(config)
        out = self.merged("sharded", config, "--max-shard-size", "30kB", "--verify-after")
        self.assertGreater(len(list(out.glob("*.safetensors"))), 3)
        self.aimerge("verify", out)
        self.assert_same(read_folder(self.merged("whole", config)), read_folder(out))
        for name in ("model.embed_tokens.weight", "model.norm.weight", "lm_head.weight"):
            self.assertTrue(read_folder(out)[name] == read_folder(plain)[name], name)

        found = self.manifest(out)
        self.assertEqual(found["featcal"]["fitted"], {"matrices": 14, "biases": 6, "norms": 4})
        self.assertEqual(sum(found["featcal"]["kept"].values()), 3)
        self.assertEqual(found["featcal"]["tokens"], 480)
        self.assertEqual([expert["weight"] for expert in found["featcal"]["experts"]], [2, 1])
        self.assertEqual([found["featcal"][key] for key in ("lambda", "rho", "alpha")], [0.01, 1, 1])
        self.assertNotIn("featcal", self.manifest(plain))

    def test_where_texts_may_be_given(self):
        """Beside the models of the merge, or once for all."""
        self.make()
        want = read_folder(self.merged("listed", self.featcal_config()))
        config = {**self.plain_config(), "featcal": {}}
        for entry, name in zip(config["models"], ("one", "two")):
            entry["calibration"] = self.text(name)
        self.assert_same(read_folder(self.merged("beside", config)), want)

        for entry in config["models"]:
            del entry["calibration"]
        shared = self.merged("shared", {**config, "featcal": None, "calibration": self.text("one")})
        listed = [{**self.expert("one"), "calibration": self.text("one")}, {**self.expert("two"), "calibration": self.text("one")}]
        self.assert_same(read_folder(shared), read_folder(self.merged("listed-shared", self.featcal_config(listed))))

    def test_several_omegas_at_once(self):
        self.make("gemma2")
        folders = {}
        for omega in ([1.0, 0.4], 1.0, 0.4):
            plain = self.plain_config("task_arithmetic", aim={"omega": omega, "calibration": self.text("base")})
            folders[str(omega)] = self.merged(f"omega-{omega}".replace(" ", ""), self.featcal_config(plain=plain))
        for omega in ("1.0", "0.4"):
            self.assert_same(file_bytes(folders["[1.0, 0.4]"] / f"omega-{omega}"), file_bytes(folders[omega]), omega)
        self.assertTrue(file_bytes(folders["1.0"]) != file_bytes(folders["0.4"]))


class Inputs(FeatcalTest):
    def adapter(self, name, seed):
        """LoRA factors over q_proj and down_proj of every layer."""
        folder, draws, tensors = self.folder / name, np.random.default_rng(seed), {}
        folder.mkdir()
        for key, values in load_file(self.models["base"] / "model.safetensors").items():
            if key.endswith(("q_proj.weight", "down_proj.weight")):
                for part, shape in (("A", (4, values.shape[1])), ("B", (values.shape[0], 4))):
                    module = key.removesuffix(".weight")
                    tensors[f"base_model.model.{module}.lora_{part}.weight"] = 0.1 * draws.standard_normal(shape).astype(np.float32)
        save_file(tensors, folder / "adapter_model.safetensors")
        (folder / "adapter_config.json").write_text(json.dumps({"peft_type": "LORA", "r": 4, "lora_alpha": 8,
                                                                "target_modules": ["q_proj", "down_proj"]}))
        return folder

    def test_adapters(self):
        """Over base_model, or written out, merged or not: as the whole models that they stand for."""
        self.make(experts=())
        adapters = {name: self.adapter(name, seed) for seed, name in enumerate(("one", "two", "three"))}
        for name, folder in adapters.items():
            whole = {"merge_method": "linear", "dtype": "float32",
                     "models": [{"model": f"{self.models['base']}+{folder}", "parameters": {"weight": 1.0}}]}
            self.models[name] = self.merged(f"whole-{name}", whole)
        results = []
        for names in (lambda name: str(self.models[name]), lambda name: str(adapters[name]), lambda name: f"{self.models['base']}+{adapters[name]}"):
            experts = [{"model": names(name), "calibration": self.text(name)} for name in ("one", "three")]
            plain = self.plain_config("task_arithmetic")
            for entry, name in zip(plain["models"], ("one", "two")):
                entry["model"] = names(name)
            results.append(read_folder(self.merged(f"out-{len(results)}", self.featcal_config(experts, plain))))
        self.assert_same(results[1], results[0])
        self.assert_same(results[2], results[0])

    def test_forward_passes_in_bfloat16(self):
        self.make("qwen3")
        exact = self.values(self.merged("float32", self.featcal_config()))
        rounded = self.values(self.merged("bfloat16", self.featcal_config([self.expert(name, dtype="bfloat16") for name in ("one", "two")])))
        plain = self.values(self.plain_of(self.featcal_config()))
        for name in exact:
            self.assertLessEqual(size_of(rounded[name] - exact[name]), 0.3 * size_of(exact[name] - plain[name]), name)

    def test_a_sweeps_points_are_what_merges_make(self):
        self.make()
        suite = self.folder / "suite.jsonl"
        suite.write_text(json.dumps({"task": "text", "text_ids": list(range(3, 100))}) + "\n")
        experts = {name: {"model": str(self.models[name]), "calibration": self.text(name)} for name in ("one", "two")}
        sweep = {"base_model": str(self.models["base"]), "experts": experts, "omega": [1.0, 0.4], "dtype": "float32",
                 "methods": [{"merge_method": "task_arithmetic", "parameters": {"weight": 0.5}},
                             {"merge_method": "ties", "parameters": {"density": 0.5}, "featcal": {"lambda": 0.1}}],
                 "featcal": {"alpha": 0.5}, "aim": {"calibration": self.text("base")}, "evaluation": {"suites": [str(suite)], "block_length": 8}}
        for keep in ("checkpoints", "scores"):
            self.aimerge("sweep", self.config({**sweep, "output": {"directory": keep, "keep": keep}}), "--threads", 1,
                         ranks=2 if keep == "scores" else 0)
        names = [f"{method}-one+two-omega-{omega}" for method in ("task_arithmetic", "ties") for omega in ("1.0", "0.4")]
        for name in names:
            folder = self.folder / "checkpoints" / name
            made = self.merged(name, (folder / "mergekit_config.yml").read_text())
            self.assert_same(file_bytes(folder), file_bytes(made), name)
            self.assertEqual(self.manifest(folder)["featcal"]["lambda"], 0.1 if "ties" in name else 0.01)
            self.assertEqual(self.manifest(folder)["featcal"]["alpha"], 0.5)
        kept, forgotten = self.perplexities("checkpoints"), self.perplexities("scores")
        self.assertEqual(len(set(kept.values())), 7)
        self.assertEqual(forgotten, kept)

    def perplexities(self, sweep):
        with open(self.folder / sweep / "points.csv", newline="") as file:
            return {row["model"]: row["text:ppl"] for row in csv.DictReader(file)}


if __name__ == "__main__":
    unittest.main()

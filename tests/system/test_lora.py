"""LoRA adapters as experts, against PEFT's merge_and_unload on a Llama of a few kilobytes."""
import json
import unittest

import h5py
import numpy as np
from safetensors.numpy import save_file

from aimerge_command import AimergeTest, as_float, file_bytes, read_folder
from peers import needs_peers, peft, torch, transformers

LINEAR = ["q_proj", "v_proj", "o_proj", "gate_proj", "down_proj"]


def randomise(module, seed):
    """Trained weights are not zero, as B is at first."""
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in module.named_parameters():
        if "lora_" in name or "modules_to_save" in name:
            parameter.data = torch.randn(parameter.shape, generator=generator) * 0.1


@needs_peers
class Lora(AimergeTest):
    def make_base(self, tied=False, dtype="float32"):
        torch.manual_seed(1)
        config = transformers.LlamaConfig(hidden_size=32, intermediate_size=48, num_hidden_layers=3, num_attention_heads=4,
                                          num_key_value_heads=2, vocab_size=40, tie_word_embeddings=tied)
        transformers.LlamaForCausalLM(config).to(getattr(torch, dtype)).save_pretrained(self.folder / "base")

    def base(self):
        return transformers.AutoModelForCausalLM.from_pretrained(self.folder / "base", dtype=torch.float32)

    def make_adapter(self, name="adapter", seed=2, **settings):
        model = peft.get_peft_model(self.base(), peft.LoraConfig(**{"r": 4, "lora_alpha": 6, "target_modules": LINEAR, **settings}))
        randomise(model, seed)
        model.save_pretrained(self.folder / name)

    def merged_by_peft(self, name="adapter"):
        model = peft.PeftModel.from_pretrained(self.base(), self.folder / name).merge_and_unload()
        return {key: value.detach().numpy() for key, value in model.state_dict().items()}

    def merged(self, out="out", **config):
        path = self.config({"merge_method": "linear", "dtype": "float32", **config}, f"{out}.yaml")
        self.aimerge("merge", path, "--out", self.folder / out)
        return read_folder(self.folder / out)

    def test_the_expert_alone_is_what_merge_and_unload_makes(self):
        self.make_base()
        for number, settings in enumerate((
                {},
                {"use_rslora": True, "r": 7},
                {"rank_pattern": {"q_proj": 2, "layers.1.mlp.down_proj": 9}, "alpha_pattern": {"v_proj": 1, "^model.layers.0.*": 3}},
                {"target_modules": ["q_proj", "embed_tokens"]},
                {"modules_to_save": ["lm_head", "norm"]},
                {"layers_to_transform": [0, 2], "lora_dropout": 0.1, "init_lora_weights": "gaussian"},
                {"target_modules": r".*\.[12]\..*(up|k)_proj"})):
            with self.subTest(settings=settings):
                name = f"adapter-{number}"
                self.make_adapter(name, **settings)
                want, base = self.merged_by_peft(name), read_folder(self.folder / "base")
                got = self.merged(out=f"out-{number}", models=[
                    {"model": f"{self.folder / 'base'}+{self.folder / name}", "parameters": {"weight": 1.0}}])
                self.assertEqual(set(got), set(want))
                changed = 0
                for key, value in want.items():
                    # Sums of at most 9 products below 0.4, scaled by at most 3, in another order: 10 roundings of a value below 4.
                    np.testing.assert_allclose(as_float(got[key]), value, rtol=0, atol=10 * 4 * 2**-24, err_msg=key)
                    changed += not np.array_equal(value, as_float(base[key]))
                self.assertGreater(changed, 2)

    def test_tied_heads_follow_peft(self):
        self.make_base(tied=True)
        for name, settings in (("factors", {"target_modules": ["q_proj", "embed_tokens"]}),
                               ("stored", {"modules_to_save": ["embed_tokens"]})):
            with self.subTest(name):
                self.make_adapter(name, **settings)
                want = self.merged_by_peft(name)
                got = self.merged(out=f"out-{name}", models=[
                    {"model": f"{self.folder / 'base'}+{self.folder / name}", "parameters": {"weight": 1.0}}])
                self.assertEqual("lm_head.weight" in got, name == "stored")
                for key in got:
                    np.testing.assert_allclose(as_float(got[key]), want[key], rtol=0, atol=10 * 4 * 2**-24, err_msg=key)

    def test_adapters_merge_as_the_same_experts_written_out(self):
        self.make_base(dtype="bfloat16")
        for number in (1, 2):
            self.make_adapter(f"adapter-{number}", seed=number)
            self.merged(out=f"expert-{number}", models=[{"model": f"{self.folder / 'base'}+{self.folder / f'adapter-{number}'}",
                                                         "parameters": {"weight": 1.0}}])
        for method in ("task_arithmetic", "ties"):
            results = []
            for kind in ("adapter", "expert"):
                out = f"{method}-{kind}"
                self.merged(out=out, merge_method=method, base_model=str(self.folder / "base"), models=[
                    {"model": str(self.folder / f"{kind}-{number}"), "parameters": {"weight": 0.6}} for number in (1, 2)],
                    **({"parameters": {"density": 0.5}} if method == "ties" else {}))
                results.append(file_bytes(self.folder / out))
            self.assertEqual(results[0], results[1], method)

    def pair_and_checkpoint(self, dtype, **settings):
        """BASE+ADAPTER, and the folder of what PEFT makes of it in the base's dtype."""
        self.make_base(dtype=dtype)
        self.make_adapter(**settings)
        pair = f"{self.folder / 'base'}+{self.folder / 'adapter'}"
        written = self.folder / f"written-{dtype}"
        self.merged(out=written.name, models=[{"model": pair, "parameters": {"weight": 1.0}}], dtype=dtype)
        return pair, str(written)

    def tokens(self, count):
        path = self.folder / f"tokens-{count}.safetensors"
        save_file({"input_ids": np.random.default_rng(3).integers(0, 40, (count, 32))}, path)
        return path

    def measured(self, model, dtype="float32"):
        config = self.config({"base_model": model, "aim": {"omega": 0.4, "calibration": {
            "token_ids": str(self.tokens(8)), "sequences": 8, "dtype": dtype}}}, "calibrate.yaml")
        log = self.folder / "log.h5"
        log.unlink(missing_ok=True)
        self.aimerge("calibrate", config, "--out", log)
        with h5py.File(log) as file:
            return {name: module["mean_abs"][:] for name, module in file["statistics"].items()}

    def test_its_activations_are_those_of_the_checkpoint_that_it_makes(self):
        for dtype in ("bfloat16", "float32"):
            with self.subTest(dtype):
                pair, written = self.pair_and_checkpoint(dtype)
                got, want, without = (self.measured(model) for model in (pair, written, str(self.folder / "base")))
                self.assertEqual(set(got), set(want))
                for name in want:
                    np.testing.assert_array_equal(got[name], want[name], err_msg=name)
                self.assertFalse(np.array_equal(got["model.layers.2.mlp.down_proj"], without["model.layers.2.mlp.down_proj"]))

    def test_methods_that_measure_experts_take_it_as_the_checkpoint_that_it_makes(self):
        pair, written = self.pair_and_checkpoint("float32")
        calibration = {"token_ids": str(self.tokens(2))}
        base = {"model": str(self.folder / "base"), "parameters": {"weight": 1.0}}
        for name, config in (
                ("regmean", {"merge_method": "regmean", "calibration": calibration}),
                ("fisher", {"merge_method": "fisher", "calibration": calibration}),
                ("aim", {"merge_method": "task_arithmetic", "base_model": str(self.folder / "base"), "aim": {
                    "omega": 0.4, "source": "mean", "calibration": {**calibration, "sequences": 2}}}),
                ("base", {"merge_method": "task_arithmetic", "aim": {
                    "omega": 0.4, "calibration": {**calibration, "sequences": 2}}})):
            with self.subTest(name):
                results = []
                for kind, model in (("pair", pair), ("written", written)):
                    adapted = {"model": model, "parameters": {"weight": 1.0}}
                    models = {"aim": [adapted], "base": [base]}.get(name, [adapted, base])
                    self.merged(out=f"{name}-{kind}", models=models, **config, **({"base_model": model} if name == "base" else {}))
                    results.append(file_bytes(self.folder / f"{name}-{kind}"))
                self.assertEqual(*results)

    def test_scores_are_those_of_the_checkpoint_that_it_makes(self):
        pair, written = self.pair_and_checkpoint("float32", modules_to_save=["embed_tokens", "lm_head"])
        suite, samples = self.folder / "requests.jsonl", self.folder / "samples.jsonl"
        ids = np.random.default_rng(4).integers(0, 40, (6, 20)).tolist()
        suite.write_text("".join(json.dumps({"task": "t", "context_ids": row[:15], "continuation_ids": row[15:]}) + "\n" for row in ids))
        results = []
        for model in (pair, written, self.folder / "base"):
            self.aimerge("evaluate", model, "--suite", suite, "--samples", samples)
            results.append([json.loads(line)["loglikelihood"] for line in samples.read_text().splitlines()])
        self.assertEqual(results[0], results[1])
        self.assertNotEqual(results[0], results[2])

if __name__ == "__main__":
    unittest.main()

"""Every family of decoders against transformers on tiny random models, and against goldens: logits, statistics, gradients, AIM."""
import json
import os
import pathlib
import shutil
import subprocess
import sys
import unittest

import h5py
import numpy as np
from safetensors.numpy import load_file, save_file

from aimerge_command import GOLDENS, AimergeTest, as_float, golden_manifest, measured_tensors, read_folder, read_raw
from hooks import hook_statistics
from peers import needs_peers, torch, transformers

PRINT_LOGITS = os.environ["AIMERGE_PRINT_LOGITS"]
RECORDER = pathlib.Path(__file__).resolve().parents[2] / "src/tools/record_statistics.py"
SIZE = dict(hidden_size=48, intermediate_size=112, num_hidden_layers=4, num_attention_heads=4, num_key_value_heads=2, vocab_size=160,
            max_position_embeddings=256, pad_token_id=0, bos_token_id=1, eos_token_id=2)


def rope(kind, **values):
    return {"rope_parameters": {"rope_type": kind, "rope_theta": 10000.0, **values}}


# name: (configuration class, what differs from SIZE)
MODELS = {
    "llama": ("LlamaConfig", {}),
    "llama-linear": ("LlamaConfig", rope("linear", factor=4.0)),
    "llama-dynamic": ("LlamaConfig", rope("dynamic", factor=2.0)),
    "llama3": ("LlamaConfig", rope("llama3", factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0, original_max_position_embeddings=32)),
    "llama-yarn": ("LlamaConfig", rope("yarn", factor=4.0, original_max_position_embeddings=64)),
    "llama-biases": ("LlamaConfig", {"attention_bias": True, "mlp_bias": True}),
    "mistral-window": ("MistralConfig", {"sliding_window": 8, "head_dim": 16}),
    "mistral": ("MistralConfig", {"sliding_window": None}),
    "qwen2": ("Qwen2Config", {}),
    "qwen2-window": ("Qwen2Config", {"use_sliding_window": True, "sliding_window": 8, "max_window_layers": 2}),
    "qwen2-yarn": ("Qwen2Config", rope("yarn", factor=4.0, original_max_position_embeddings=64, attention_factor=1.3)),
    "qwen3": ("Qwen3Config", {"head_dim": 16}),
    "phi3": ("Phi3Config", {}),
    "phi3-window": ("Phi3Config", {"sliding_window": 8}),
    "phi3-longrope": ("Phi3Config", rope("longrope", original_max_position_embeddings=64, short_factor=[1.0, 1.1, 1.3, 1.5, 2.0, 3.0],
                                         long_factor=[2.0] * 6)),
    "phi3-longrope-long": ("Phi3Config", rope("longrope", original_max_position_embeddings=16, short_factor=[1.0] * 6,
                                              long_factor=[1.0, 1.1, 1.3, 1.5, 2.0, 3.0])),
    "phi3-partial": ("Phi3Config", rope("longrope", original_max_position_embeddings=64, short_factor=[1.0, 1.1, 1.3, 1.5],
                                        long_factor=[2.0] * 4, attention_factor=1.2, partial_rotary_factor=0.67)),
    "gemma2": ("Gemma2Config", {"head_dim": 16, "sliding_window": 8, "query_pre_attn_scalar": 24, "attn_logit_softcapping": 5.0,
                                "final_logit_softcapping": 3.0}),
    "gemma2-no-caps": ("Gemma2Config", {"head_dim": 16, "attn_logit_softcapping": None, "final_logit_softcapping": None}),
}


@needs_peers
class RandomModels(AimergeTest):
    def make(self, name):
        """The model's folder, in float32 with weights that are far from their start."""
        kind, differences = MODELS[name]
        torch.manual_seed(11)
        config = getattr(transformers, kind)(**{**SIZE, **differences})
        model = transformers.AutoModelForCausalLM.from_config(config, attn_implementation="eager").float()
        generator = torch.Generator().manual_seed(12)
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.15)
        folder = self.folder / name
        model.save_pretrained(folder)
        return folder

    def load(self, folder, dtype="float32"):
        return transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=getattr(torch, dtype), attn_implementation="eager").eval()

    def ids(self, sequences=4, length=40):
        return np.random.default_rng(13).integers(3, SIZE["vocab_size"], (sequences, length))

    def token_ids(self):
        path = self.folder / "ids.safetensors"
        save_file({"input_ids": self.ids()}, path)
        return path

    def calibration(self, folder):
        return {"base_model": str(folder), "aim": {"omega": 0.4, "calibration": {
            "token_ids": str(self.token_ids()), "sequences": 4, "dtype": "float32"}}}

    def hooked_means(self, folder):
        return {name: values["mean_abs"] for name, values in hook_statistics(self.load(folder), self.ids()).items()}


class Decoders(RandomModels):
    def test_logits(self):
        ids = self.ids()[0]
        for name in MODELS:
            with self.subTest(model=name):
                folder = self.make(name)
                printed = subprocess.run([PRINT_LOGITS, folder, "--", *map(str, ids)], capture_output=True, check=True).stdout
                got = np.frombuffer(printed, np.float32).reshape(len(ids), -1)
                with torch.inference_mode():
                    want = self.load(folder)(torch.tensor(ids)[None]).logits[0].numpy()
                self.assertGreater(np.abs(want).max(), 0.5)
                np.testing.assert_allclose(got, want, atol=1e-4, rtol=1e-4)

    def test_statistics(self):
        for name in ("qwen2", "qwen3", "phi3", "gemma2", "mistral-window", "llama-biases"):
            with self.subTest(model=name):
                folder = self.make(name)
                log = self.folder / f"{name}.h5"
                self.aimerge("calibrate", self.config(self.calibration(folder)), "--out", log)
                wanted = self.hooked_means(folder)
                with h5py.File(log) as file:
                    self.assertEqual(set(file["statistics"]), set(wanted))
                    for module, want in wanted.items():
                        np.testing.assert_allclose(file["statistics"][module]["mean_abs"][:], want, rtol=1e-4, atol=1e-6,
                                                   err_msg=f"{name} {module}")

    def test_the_same_bits_on_any_number_of_ranks_and_streamed(self):
        for name in ("mistral-window", "qwen3", "phi3", "gemma2"):
            folder, logs = self.make(name), []
            for ranks in (1, 2, 3):
                log = self.folder / f"{name}-{ranks}.h5"
                self.aimerge("calibrate", self.config(self.calibration(folder)), "--out", log, "--threads", 1, ranks=ranks,
                             AIMERGE_CACHE_DIR=str(self.folder / f"cache-{name}-{ranks}"))
                with h5py.File(log) as file:
                    logs.append({module: group["rms"][:].tobytes() for module, group in file["statistics"].items()})
            with self.subTest(model=name):
                self.assertEqual(logs[0], logs[1])
                self.assertEqual(logs[0], logs[2])

    def test_gradients(self):
        """By way of the Fisher information, the mean of squared gradients."""
        for name in ("mistral-window", "qwen2", "qwen3", "phi3", "phi3-partial", "gemma2"):
            with self.subTest(model=name):
                folder = self.make(name)
                twin = shutil.copytree(folder, self.folder / f"{name}-twin")
                config = {"merge_method": "fisher", "models": [{"model": str(folder)}, {"model": str(twin)}], "dtype": "float32",
                          "calibration": {"token_ids": str(self.token_ids()), "sequences": 4, "dtype": "float32"}}
                cache = self.folder / f"cache-{name}"
                self.aimerge("merge", self.config(config), "--out", self.folder / f"out-{name}", AIMERGE_CACHE_DIR=str(cache))
                found = measured_tensors(next(cache.rglob("fisher-*.safetensors")).parent)
                model = self.load(folder, "float64")
                wanted = {key: torch.zeros_like(value) for key, value in model.named_parameters()}
                for sequence in torch.tensor(self.ids()):
                    logits = model(sequence[None]).logits[0, :-1]
                    model.zero_grad()
                    torch.nn.functional.cross_entropy(logits, sequence[1:], reduction="sum").backward()
                    for key, value in model.named_parameters():
                        wanted[key] += value.grad ** 2 / 4
                self.assertEqual(set(found), set(wanted))
                for key, want in wanted.items():
                    want = want.numpy()
                    np.testing.assert_allclose(found[key], want, rtol=2e-3, atol=1e-5 * want.max(), err_msg=f"{name} {key}")

    def test_bad_configs_name_the_field(self):
        folder = self.make("qwen3")
        good = json.loads((folder / "config.json").read_text())
        for changes, words in (
                ({"rope_parameters": {"rope_type": "hyper", "factor": 2.0}}, ("rope_type", "hyper")),
                ({"rope_parameters": {"rope_type": "longrope", "original_max_position_embeddings": 8}}, ("short_factor", "missing")),
                ({"rope_parameters": {"rope_type": "longrope", "original_max_position_embeddings": 8, "short_factor": [1.0],
                                      "long_factor": [1.0] * 8}}, ("short_factor has 1 numbers, expected 8",)),
                ({"rope_parameters": {"rope_type": "longrope", "original_max_position_embeddings": 8, "short_factor": [-1]}},
                 ("short_factor is [-1]",)),
                ({"rope_parameters": {"partial_rotary_factor": 0.5}}, ("partial_rotary_factor is 0.5", "phi3")),
                ({"rope_parameters": {"rope_type": "llama3", "factor": 2.0}}, ("original_max_position_embeddings",)),
                ({"rope_parameters": {"rope_type": "yarn", "original_max_position_embeddings": 8}}, ("factor",)),
                ({"num_attention_heads": None}, ("num_attention_heads", "missing")),
                ({"sliding_window": "wide", "use_sliding_window": True}, ("sliding_window", "wide")),
                ({"layer_types": ["full_attention"], "use_sliding_window": True, "sliding_window": 4}, ("layer_types",)),
                ({"hidden_act": "relu"}, ("hidden_act", "relu")),
                ({"model_type": "mamba"}, ("model_type", "mamba", "qwen3"))):
            with self.subTest(changes=changes):
                (folder / "config.json").write_text(json.dumps({**good, **changes}))
                failed = self.aimerge("calibrate", self.config(self.calibration(folder)), "--out", self.folder / "x.h5", expect=3)
                for word in words:
                    self.assertIn(word, failed.stderr)


class OtherArchitectures(RandomModels):
    """A model that the decoder does not run: statistics from src/tools/record_statistics.py."""

    def setUp(self):
        super().setUp()
        torch.manual_seed(17)
        config = transformers.GPTNeoXConfig(hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4, vocab_size=160,
                                            max_position_embeddings=64)
        self.models = {}
        for name in ("base", "expert"):
            self.models[name] = self.folder / name
            transformers.GPTNeoXForCausalLM(config).save_pretrained(self.models[name])

    def record(self):
        log = self.folder / "recorded.h5"
        subprocess.run([sys.executable, RECORDER, self.models["base"], "--token-ids", self.token_ids(), "--out", log, "--dtype", "float32"],
                       check=True, capture_output=True)
        return log

    def merge_config_of(self, **aim):
        return self.config({"merge_method": "task_arithmetic", "base_model": str(self.models["base"]), "dtype": "float32",
                            "models": [{"model": str(self.models["expert"]), "parameters": {"weight": 1.0}}], "aim": {"omega": 0.4, **aim}})

    def test_recorded_statistics_relax_the_merge(self):
        log = self.record()
        self.aimerge("merge", self.merge_config_of(statistics=str(log)), "--out", self.folder / "out")
        got, base, expert = (read_folder(folder) for folder in (self.folder / "out", self.models["base"], self.models["expert"]))
        means = self.hooked_means(self.models["base"])
        relaxed = 0
        for name, entry in got.items():
            merged = as_float(expert[name])
            module = "lm_head" if name == "embed_out.weight" else name.removesuffix(".weight")  # as it is called in memory
            mean = means.get(module) if name.endswith(".weight") else None
            if mean is not None:
                before = as_float(base[name])
                merged = before + (1 - mean / mean.max() * 0.6) * (merged - before)
                relaxed += 1
            np.testing.assert_allclose(as_float(entry), merged, rtol=1e-4, atol=1e-6, err_msg=name)
        self.assertGreater(relaxed, 8)

    def test_the_decoders_refusal_says_so(self):
        config = transformers.BloomConfig(hidden_size=32, n_layer=2, n_head=4, vocab_size=160)
        for folder in self.models.values():
            transformers.BloomForCausalLM(config).save_pretrained(folder)
        failed = self.aimerge("merge", self.merge_config_of(calibration={"token_ids": str(self.token_ids()), "dtype": "float32"}), "--out",
                              self.folder / "out", expect=3)
        self.assertIn('model_type is "bloom"', failed.stderr)
        self.assertIn("aim.statistics", failed.stderr)

    def test_it_records_what_aimerge_measures(self):
        """On a model that both run."""
        self.models["base"] = self.make("qwen3")
        log, own = self.record(), self.folder / "own.h5"
        self.aimerge("calibrate", self.config(self.calibration(self.models["base"])), "--out", own)
        with h5py.File(log) as recorded, h5py.File(own) as measured:
            self.assertEqual(set(recorded["statistics"]), set(measured["statistics"]))
            for module, group in measured["statistics"].items():
                for name, values in group.items():
                    np.testing.assert_allclose(recorded["statistics"][module][name][:], values[:], rtol=1e-4, atol=1e-6)


class Goldens(AimergeTest):
    def test_statistics_and_aim(self):
        goldens = golden_manifest()
        for family in ("llama3", "mistral", "qwen2", "qwen3"):
            with self.subTest(family=family):
                root = GOLDENS / "arch" / family
                blocks = self.folder / f"{family}.safetensors"
                save_file({"input_ids": load_file(root / "logits.safetensors")["input_ids"].astype(np.int64)}, blocks)
                entry = goldens[f"arch_{family}_aim"]
                config = {**entry["config"], "base_model": str(root / "base"),
                          "models": [{"model": str(root / "expert"), "parameters": entry["config"]["models"][0]["parameters"]}],
                          "aim": {"omega": entry["omega"], "calibration": {"token_ids": str(blocks), "dtype": "float32"}}}
                out = self.folder / family
                self.aimerge("merge", self.config(config), "--out", out)
                got = read_folder(out)
                for tensor, want in read_raw(root / "task_arithmetic_aim_0.4.safetensors").items():
                    self.assert_within(as_float(got[tensor]), as_float(want), entry["tolerance"], f"{family} {tensor}")
                with h5py.File(out / "aimerge_statistics.h5") as file:
                    for module, want in load_file(root / "statistics.safetensors").items():
                        self.assert_within(file["statistics"][module]["mean_abs"][:], want,
                                           goldens[f"arch_{family}_statistics"]["tolerance"], f"{family} {module}")


if __name__ == "__main__":
    unittest.main()

"""Merging by Gram matrices: the measured ones against forward hooks, and the merge against the formula."""
import json
import signal
import subprocess
import time
import unittest

import numpy as np
import torch
import transformers
from safetensors.numpy import load_file, save_file

from aimerge_command import BINARY, GOLDENS, AimergeTest, as_float, environment, file_bytes, read_folder

EXPERTS = ("expert_a", "expert_b")
WEIGHTS = (1.0, 0.5)
ALPHA, RIDGE = 0.75, 1e-3
BLOCKS = 5


def hook_grams(folder, blocks):
    """sum x x^T / tokens of every linear layer's input, in float64."""
    model = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float64, attn_implementation="eager")
    grams = {}

    def watch(name):
        def hook(module, arguments):
            x = arguments[0].detach().reshape(-1, arguments[0].shape[-1])
            grams[name] = grams.get(name, 0) + x.T @ x / (x.shape[0] * len(blocks))
        return hook

    for name, module in model.named_modules():
        if isinstance(module, torch.nn.Linear):
            module.register_forward_pre_hook(watch(name))
    with torch.no_grad():
        for block in blocks:
            model(torch.tensor(block, dtype=torch.int64)[None])
    return {name: gram.numpy() for name, gram in grams.items()}


def stored_as(module):
    for shared, first in (("k_proj", "q_proj"), ("v_proj", "q_proj"), ("up_proj", "gate_proj")):
        module = module.replace(shared, first)
    return module + ".gram"


def regmean(weights, grams):
    """(sum W_i C_i) (sum C_i)^-1, C_i = w_i G_i with its off-diagonal elements times alpha, shrunk towards the identity."""
    c = [w * (ALPHA * g + (1 - ALPHA) * np.diag(np.diag(g))) for w, g in zip(WEIGHTS, grams)]
    r = RIDGE * np.trace(sum(c)) / len(c[0])
    c = [part + r * w / sum(WEIGHTS) * np.eye(len(part)) for part, w in zip(c, WEIGHTS)]
    return np.linalg.solve(sum(c), sum(x @ part for x, part in zip(weights, c)).T).T


class RegMean(AimergeTest):
    def regmean_config(self, **keys):
        config = self.merge_config("regmean", parameters={"alpha": ALPHA, "ridge": RIDGE})
        del config["base_model"]
        for entry, weight in zip(config["models"], WEIGHTS):
            entry["parameters"] = {"weight": weight}
        return {**config, "calibration": {"token_ids": str(self.blocks(BLOCKS)), "dtype": "float32", "micro_batch": 2}, **keys}

    def test_grams_equal_forward_hooks_and_the_merge_is_the_formula(self):
        blocks = json.loads((GOLDENS / "calibration/pipeline.json").read_text())["blocks"][:BLOCKS]
        wanted = [hook_grams(GOLDENS / "family_f32" / name, blocks) for name in EXPERTS]
        out = self.folder / "merged"
        self.aimerge("merge", self.config(self.regmean_config()), "--out", out, ranks=2)

        measured = [{name: gram for path in folder.glob("*.safetensors") for name, gram in load_file(path).items()}
                    for folder in (self.cache / "expert-statistics").iterdir()]
        self.assertEqual(len(measured), len(EXPERTS))
        # Which folder is which expert's: the first layer's input differs in scale.
        first = stored_as("model.layers.0.self_attn.q_proj")
        measured.sort(key=lambda grams: np.abs(grams[first] - wanted[0]["model.layers.0.self_attn.q_proj"]).max())
        for got, want in zip(measured, wanted):
            self.assertEqual(set(got), {stored_as(module) for module in want})
            for module, gram in want.items():
                # A float32 product of 128 rows, and activations with float32 rounding through 3 layers.
                np.testing.assert_allclose(got[stored_as(module)], gram, rtol=0, atol=2e-5 * np.diag(gram).max(), err_msg=module)

        experts = [read_folder(GOLDENS / "family_f32" / name) for name in EXPERTS]
        for name, entry in read_folder(out).items():
            inputs = [as_float(expert[name]) for expert in experts]
            module = name.removesuffix(".weight")
            if module in wanted[0]:
                # With the Gram matrices as stored: the solution itself is float64.
                want = regmean(inputs, [got[stored_as(module)].astype(np.float64) for got in measured])
            else:
                want = sum(w * x for w, x in zip(WEIGHTS, inputs)) / sum(WEIGHTS)
            np.testing.assert_allclose(as_float(entry), want, rtol=1e-5, atol=1e-6, err_msg=name)

    def test_ranks_do_not_change_a_bit(self):
        config = self.config(self.regmean_config())
        for ranks in (0, 2, 4):  # with four, one has no layer
            self.aimerge("merge", config, "--out", self.folder / f"out-{ranks}", "--threads", 1, ranks=ranks,
                         AIMERGE_CACHE_DIR=str(self.folder / f"cache-{ranks}"))
        for ranks in (2, 4):
            self.assertEqual(file_bytes(self.folder / "out-0"), file_bytes(self.folder / f"out-{ranks}"))

    def test_an_interrupted_measurement_is_begun_again(self):
        """A long text, hit while the first expert is measured."""
        corpus = self.folder / "long.safetensors"
        save_file({"input_ids": np.arange(4000 * 64, dtype=np.int64).reshape(4000, 64) % 320}, corpus)
        config = self.config(self.regmean_config(calibration={"token_ids": str(corpus), "dtype": "float32"}))
        process = subprocess.Popen([BINARY, "merge", config, "--out", self.folder / "out", "--threads", "1"], cwd=self.folder,
                                   stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment(self.cache))
        statistics = self.cache / "expert-statistics"
        deadline = time.monotonic() + 60
        while not list(statistics.glob("*.partial/layer-00000.safetensors")) and time.monotonic() < deadline:
            self.assertIsNone(process.poll())
            time.sleep(0.002)
        process.send_signal(signal.SIGTERM)
        _, errors = process.communicate(timeout=60)
        self.assertEqual(process.returncode, 75, errors)
        self.assertFalse((self.folder / "out").exists())
        self.assertEqual([path.suffix for path in statistics.iterdir() if path.is_dir()], [".partial"])

        self.aimerge("merge", config, "--out", self.folder / "out", "--threads", "1")
        self.assertEqual([path for path in statistics.iterdir() if path.suffix], [])
        self.aimerge("merge", config, "--out", self.folder / "whole", "--threads", "1",
                     AIMERGE_CACHE_DIR=str(self.folder / "other-cache"))
        self.assertEqual(file_bytes(self.folder / "out"), file_bytes(self.folder / "whole"))


if __name__ == "__main__":
    unittest.main()

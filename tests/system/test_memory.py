"""A rank's memory is bounded by its buffers, not by the model: shown at two sizes."""
import json
import os
import pathlib
import shutil
import subprocess
import sys
import unittest

import numpy as np

from aimerge_command import BINARY, GOLDENS, AimergeTest, environment, float_to_bf16

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "support"))
from header_only import write_shard  # noqa: E402

# Runs a command and prints the largest anonymous memory (kB) it had: the page cache of mapped files is left out.
WATCH = """
import subprocess, sys, time
process = subprocess.Popen(sys.argv[1:])
peak = 0
while process.poll() is None:
    try:
        for line in open(f"/proc/{process.pid}/status"):
            if line.startswith("RssAnon"):
                peak = max(peak, int(line.split()[1]))
    except (FileNotFoundError, ProcessLookupError):
        pass
    time.sleep(0.002)
print("peak", peak)
sys.exit(process.returncode)
"""


class Memory(AimergeTest):
    def model(self, name, layers, hidden=512, seed=0):
        """A random Llama of `layers` layers, BF16; 12.6 MB per layer."""
        folder = self.folder / name
        folder.mkdir()
        config = json.loads((GOLDENS / "family_f32/base/config.json").read_text())
        config.update(hidden_size=hidden, intermediate_size=4 * hidden, num_hidden_layers=layers, num_attention_heads=8,
                      num_key_value_heads=8, head_dim=hidden // 8, vocab_size=320, dtype="bfloat16")
        (folder / "config.json").write_text(json.dumps(config))
        draw = np.random.default_rng(seed)
        shapes = {"model.embed_tokens.weight": (320, hidden), "model.norm.weight": (hidden,), "lm_head.weight": (320, hidden)}
        for i in range(layers):
            p = f"model.layers.{i}."
            shapes.update({p + f"self_attn.{m}_proj.weight": (hidden, hidden) for m in "qkvo"})
            shapes.update({p + f"mlp.{m}_proj.weight": (4 * hidden, hidden) for m in ("gate", "up")})
            shapes.update({p + "mlp.down_proj.weight": (hidden, 4 * hidden), p + "input_layernorm.weight": (hidden,),
                           p + "post_attention_layernorm.weight": (hidden,)})
        write_shard(folder / "model.safetensors", shapes)
        with open(folder / "model.safetensors", "r+b") as file:
            file.seek(8 + int.from_bytes(file.read(8), "little"))
            for shape in shapes.values():
                file.write(float_to_bf16(draw.standard_normal(shape, dtype=np.float32) / 32).tobytes())
        return folder

    def peak(self, layers):
        models = [self.model(f"{layers}-{i}", layers, seed=i) for i in range(3)]
        config = {"merge_method": "ties", "base_model": str(models[0]), "dtype": "bfloat16", "parameters": {"density": 0.5},
                  "models": [{"model": str(m), "parameters": {"weight": 1.0}} for m in models[1:]]}
        result = subprocess.run([sys.executable, "-c", WATCH, BINARY, "merge", str(self.config(config)), "--out",
                                 str(self.folder / f"out-{layers}"), "--threads", "2"], capture_output=True, text=True,
                                env=environment(self.cache))
        self.assertEqual(result.returncode, 0, result.stderr)
        return int(result.stdout.split("peak")[1]) * 1024

    def test_merging_does_not_grow_with_the_model(self):
        small, large = self.peak(2), self.peak(16)  # 25 MB and 200 MB per model
        self.assertGreater(small, 0)
        self.assertLess(large, small + 16 * 2**20, f"{small} bytes with 2 layers, {large} with 16")


if __name__ == "__main__":
    unittest.main()

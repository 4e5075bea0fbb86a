#!/usr/bin/env python3
"""Times what a GPU is for: calibration and sensitivities, beside a forward pass of transformers with hooks; and merges on it and beside it.

Models: Llama shapes of 1.1 or, with --large, 13 billion parameters (tests/bench/synthetic_llama.py) in bfloat16, in the page cache; random tokens, 64 blocks of 2048.
Seconds of aimerge are those of the phases that it reports, loading of weights included, and of its whole commands. transformers is timed inside its process: loading, and the
forward pass without logits, in which hooks add up the magnitudes of every linear layer's inputs, as the paper's authors take them. Needs a GPU and a build with CUDA.

    build/venv/bin/python tests/bench/gpu_bench.py --folder FOLDER_IN_TMPFS
"""
import argparse
import json
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time

import numpy as np
from safetensors.numpy import save_file

from measure import AIMERGE, machine, table
from synthetic_llama import SIZE, SIZE_13B, VOCABULARY, make_models

BLOCKS, LENGTH = 64, 2048

# Prints the seconds of loading and of the passes.
TRANSFORMERS_RUN = """
import sys, time, torch, transformers
from safetensors.numpy import load_file
base, tokens, blocks = sys.argv[1], sys.argv[2], int(sys.argv[3])
ids = torch.from_numpy(load_file(tokens)["input_ids"][:blocks]).long().cuda()
start = time.perf_counter()
model = transformers.AutoModelForCausalLM.from_pretrained(base, dtype=torch.bfloat16, device_map="cuda").eval()
torch.cuda.synchronize()
loaded = time.perf_counter()
sums = {}
def observe(name):
    def hook(module, arguments):
        magnitudes = arguments[0].abs().float().flatten(0, -2).sum(0)
        sums[name] = sums[name] + magnitudes if name in sums else magnitudes
    return hook
for name, module in model.named_modules():
    if isinstance(module, torch.nn.Linear):
        module.register_forward_pre_hook(observe(name))
with torch.inference_mode():
    for block in ids:
        model.model(block[None], use_cache=False)
torch.cuda.synchronize()
print(loaded - start, time.perf_counter() - loaded)
"""


class Runs:
    def __init__(self, folder, models, tokens, rounds, threads):
        self.folder, self.models, self.tokens, self.rounds, self.threads, self.rows = folder, models, tokens, rounds, threads, []

    def config(self, blocks, **aim):
        return {"merge_method": "task_arithmetic", "base_model": str(self.models["base"]), "dtype": "bfloat16",
                "models": [{"model": str(self.models["expert_a"]), "parameters": {"weight": 1.0}}],
                "aim": {"omega": 0.4, "calibration": {"token_ids": str(self.tokens), "sequences": blocks, "dtype": "bfloat16"}, **aim}}

    def aimerge(self, name, command, config, phases, *options, statistics_log=None, launch=()):
        """A row: seconds of the phases, and of the whole command."""
        if statistics_log:
            config["aim"] = {"omega": 0.4, "statistics": str(statistics_log)}
        path = self.folder / "run.yaml"
        path.write_text(json.dumps(config))
        found = []
        for _ in range(self.rounds):
            with tempfile.TemporaryDirectory(dir=self.folder) as run:
                words = [*launch, AIMERGE, command, path, "--out", f"{run}/out", "--threads", str(self.threads), "--progress", "none", "--json", *options]
                start = time.perf_counter()
                done = subprocess.run(list(map(str, words)), text=True, capture_output=True, env={**os.environ, "AIMERGE_CACHE_DIR": f"{run}/cache"})
                whole = time.perf_counter() - start
                if done.returncode:
                    sys.exit(f"{name}: {done.stderr}")
                report = json.loads(done.stdout)
                found.append(([next(p["seconds"] for p in report["phases"] if p["phase"] == phase) for phase in phases], whole, report))
        seconds = [statistics.median(run[0][i] for run in found) for i in range(len(phases))]
        last = found[-1][2]
        print(name, json.dumps(last["ranks"][0]["phases"]), file=sys.stderr, flush=True)
        tokens = next(p["tokens"] for p in last["phases"] if p["phase"] == phases[-1])
        self.row(name, seconds[-1], statistics.median(run[1] for run in found), tokens)
        return seconds

    def transformers(self, blocks):
        runs = []
        for _ in range(self.rounds):
            done = subprocess.run([sys.executable, "-c", TRANSFORMERS_RUN, self.models["base"], self.tokens, str(blocks)], text=True, capture_output=True)
            if done.returncode:
                sys.exit(done.stderr)
            runs.append([float(word) for word in done.stdout.split()])
        load, forward = (statistics.median(values) for values in zip(*runs))
        self.row("transformers with hooks, loading and passes", load + forward, None, blocks * LENGTH)
        self.row("the passes alone", forward, None, blocks * LENGTH)

    def row(self, name, seconds, whole, tokens):
        rate = f"{tokens / seconds:.0f}" if tokens else ""
        self.rows.append([name, f"{seconds:.2f}", rate, f"{whole:.2f}" if whole else ""])
        print(self.rows[-1], file=sys.stderr, flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=pathlib.Path, required=True)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--large", action="store_true", help="13 billion parameters: 80 GB for files, a GPU of 40 GB")
    parser.add_argument("--no-transformers", action="store_true")
    arguments = parser.parse_args()
    folder = arguments.folder
    folder.mkdir(parents=True, exist_ok=True)
    head = machine()
    models = make_models(folder / "13b", 40, SIZE_13B, ("base", "expert_a")) if arguments.large else make_models(folder, 22, SIZE, ("base", "expert_a"))
    tokens = folder / "gpu_tokens.safetensors"
    save_file({"input_ids": np.random.default_rng(1).integers(0, VOCABULARY, (BLOCKS, LENGTH))}, tokens)

    runs = Runs(folder, models, tokens, arguments.rounds, arguments.threads)
    if not arguments.no_transformers:
        runs.transformers(BLOCKS)
    runs.aimerge("calibrate", "calibrate", runs.config(BLOCKS), ["calibrate"], "--device", "cuda")
    if not arguments.large:  # the sums alone take 52 GB
        sensitivity = runs.config(BLOCKS, statistic="sensitivity")
        forward, gradients = runs.aimerge("sensitivity", "merge", sensitivity, ["calibrate", "measure"], "--device", "cuda")
        print(f"sensitivity takes {gradients / forward:.2f} times the calibration beside it", file=sys.stderr)
    log = folder / "statistics.h5"
    log.unlink(missing_ok=True)
    path = folder / "run.yaml"
    path.write_text(json.dumps(runs.config(2)))
    subprocess.run([AIMERGE, "calibrate", path, "--out", log, "--device", "cuda", "--progress", "none"], check=True, capture_output=True,
                   env={**os.environ, "AIMERGE_CACHE_DIR": str(folder / "cache")})
    for device in ("cpu", "cuda"):
        runs.aimerge(f"merge, --device {device}", "merge", runs.config(BLOCKS), ["merge"], "--device", device, statistics_log=log)
    print(f"{head}; {arguments.threads} threads; medians of {arguments.rounds}\n")
    print(table(["", "seconds", "tokens/s", "whole command"], runs.rows))


if __name__ == "__main__":
    main()

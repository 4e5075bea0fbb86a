#!/usr/bin/env python3
"""Times the measuring of sensitivities against the forward calibration of the same blocks, whole phases of one command each, loading included.

Models: the SmolLM2 family's base (135 M parameters) on its calibration corpus, in blocks of 256 tokens and of 2048, the paper's; with --large also Llama shapes of
1.1 billion (tests/bench/synthetic_llama.py) on random tokens. Calibration takes no logits; the loss does, by a head that is a fifth of the small model's
parameters and a sixteenth of the large one's. Needs a quiet machine.

    build/venv/bin/python tests/bench/sensitivity_bench.py --large
"""
import argparse
import json
import os
import pathlib
import statistics
import subprocess
import tempfile

import numpy as np
from safetensors.numpy import save_file

from measure import AIMERGE, ROOT, machine, table
from synthetic_llama import VOCABULARY, make_models

FAMILY = ROOT / "build" / "family"
LAYOUTS = ((32, 256), (4, 2048))  # blocks, tokens of each
LARGE = (8, 1024)


def phase_seconds(folder, models, text, blocks, length, dtype, threads):
    """@param models base and expert"""
    config = folder / "merge.yaml"
    config.write_text(json.dumps({
        "merge_method": "task_arithmetic", "base_model": str(models[0]), "dtype": "bfloat16",
        "models": [{"model": str(models[1]), "parameters": {"weight": 1.0}}],
        "aim": {"omega": 0.4, "statistic": "sensitivity", "calibration": {
            **text, "sequences": blocks, "sequence_length": length, "shuffle": False, "dtype": dtype}}}))
    with tempfile.TemporaryDirectory(dir=folder) as run:
        said = subprocess.run([AIMERGE, "merge", config, "--out", f"{run}/out", "--threads", str(threads), "--progress", "none", "--json"],
                              check=True, text=True, capture_output=True, env={**os.environ, "AIMERGE_CACHE_DIR": f"{run}/cache"}).stdout
    seconds = {phase["phase"]: phase["seconds"] for phase in json.loads(said)["phases"]}
    return seconds["calibrate"], seconds["measure"]


def cases(folder, with_large):
    """[(name, base and expert, what they run on, blocks, length, dtype)]"""
    family, corpus = (FAMILY / "base", FAMILY / "code"), {"corpus": str(ROOT / "configs/smollm2/calibration.txt")}
    for blocks, length in LAYOUTS:
        for dtype in ("float32", "bfloat16"):
            yield "135 M", family, corpus, blocks, length, dtype
    if with_large:
        models = make_models(folder, 22)
        tokens = folder / "gradient_tokens.safetensors"
        save_file({"input_ids": np.random.default_rng(1).integers(0, VOCABULARY, LARGE)}, tokens)
        yield "1.1 B", (models["base"], models["expert_a"]), {"token_ids": str(tokens)}, *LARGE, "bfloat16"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=pathlib.Path, default=ROOT / "build" / "bench")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--large", action="store_true", help="14 GB of memory, 9 GB of disk, some minutes more")
    arguments = parser.parse_args()
    arguments.folder.mkdir(parents=True, exist_ok=True)
    head = machine()
    rows = []
    for name, models, text, blocks, length, dtype in cases(arguments.folder, arguments.large):
        runs = [phase_seconds(arguments.folder, models, text, blocks, length, dtype, arguments.threads) for _ in range(arguments.rounds)]
        forward, gradients = (statistics.median(values) for values in zip(*runs))
        rows.append([f"{name}, {blocks} x {length} tokens, {dtype}", f"{forward:.1f}", f"{gradients:.1f}", f"{gradients / forward:.2f}"])
    print(f"{head}; {arguments.threads} threads; medians of {arguments.rounds}\n")
    print(table(["", "calibrate s", "sensitivity s", "times"], rows))


if __name__ == "__main__":
    main()

#!/usr/bin/env python3
"""Times the measuring of sensitivities against the forward calibration of the same blocks, whole phases of one command each, loading included.

Model and text: the SmolLM2 family's base (135 M parameters) and calibration corpus; blocks of 256 tokens and of 2048, the paper's. Calibration takes no logits;
the loss does, and its head is a fifth of this model's parameters. Needs a quiet machine.

    build/venv/bin/python tests/bench/sensitivity_bench.py
"""
import argparse
import json
import os
import pathlib
import statistics
import subprocess
import tempfile

from measure import AIMERGE, ROOT, machine, table

FAMILY = ROOT / "build" / "family"
LAYOUTS = ((32, 256), (4, 2048))  # blocks, tokens of each


def phase_seconds(folder, blocks, length, dtype, threads):
    config = folder / "merge.yaml"
    config.write_text(json.dumps({
        "merge_method": "task_arithmetic", "base_model": str(FAMILY / "base"), "dtype": "bfloat16",
        "models": [{"model": str(FAMILY / "code"), "parameters": {"weight": 1.0}}],
        "aim": {"omega": 0.4, "statistic": "sensitivity", "calibration": {
            "corpus": str(ROOT / "configs/smollm2/calibration.txt"), "sequences": blocks, "sequence_length": length, "shuffle": False,
            "dtype": dtype}}}))
    with tempfile.TemporaryDirectory(dir=folder) as run:
        said = subprocess.run([AIMERGE, "merge", config, "--out", f"{run}/out", "--threads", str(threads), "--progress", "none", "--json"],
                              check=True, text=True, capture_output=True, env={**os.environ, "AIMERGE_CACHE_DIR": f"{run}/cache"}).stdout
    seconds = {phase["phase"]: phase["seconds"] for phase in json.loads(said)["phases"]}
    return seconds["calibrate"], seconds["measure"]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=pathlib.Path, default=ROOT / "build" / "bench")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    arguments.folder.mkdir(parents=True, exist_ok=True)
    head = machine()
    rows = []
    for blocks, length in LAYOUTS:
        for dtype in ("float32", "bfloat16"):
            runs = [phase_seconds(arguments.folder, blocks, length, dtype, arguments.threads) for _ in range(arguments.rounds)]
            forward, gradients = (statistics.median(values) for values in zip(*runs))
            rows.append([f"{blocks} x {length} tokens, {dtype}", f"{forward:.1f}", f"{gradients:.1f}", f"{gradients / forward:.2f}"])
    print(f"{head}; {arguments.threads} threads; medians of {arguments.rounds}\n")
    print(table(["", "calibrate s", "sensitivity s", "times"], rows))


if __name__ == "__main__":
    main()

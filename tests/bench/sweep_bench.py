#!/usr/bin/env python3
"""Times the merging of a sweep into memory: 5 methods x 6 omegas of one combination of three experts, against the time to read
the inputs once and to write every point's values into memory at the rate of copying.

Models: 1.1 billion parameters in bfloat16 (tests/bench/synthetic_llama.py), in the page cache. The sweep keeps scores, of one
short item, so that merged points lie in memory; what it says of merging is added up, scoring is left out. Where memory does not
hold all points at once, the inputs are read again for each part. Needs a quiet machine.

    build/venv/bin/python tests/bench/sweep_bench.py
"""
import argparse
import concurrent.futures
import json
import pathlib
import re
import shutil
import subprocess
import sys
import time

import numpy as np

from measure import AIMERGE, ROOT, machine, measure, table
from merge_bench import make_statistics
from synthetic_llama import EXPERTS, make_models

METHODS = ["task_arithmetic", {"merge_method": "ties", "parameters": {"density": 0.5}},
           {"merge_method": "dare_linear", "parameters": {"density": 0.5}},
           {"merge_method": "dare_ties", "parameters": {"density": 0.5}}, "widen"]
OMEGAS = [1.0, 0.8, 0.6, 0.4, 0.2, 0.0]
UNITS = {"h": 3600, "m": 60, "s": 1}


def copy_rate(threads):
    """Bytes per second that all threads together copy from memory to memory."""
    pairs = [(np.ones(1 << 27, np.uint8), np.zeros(1 << 27, np.uint8)) for _ in range(threads)]
    with concurrent.futures.ThreadPoolExecutor(threads) as pool:
        rates = []
        for _ in range(5):
            start = time.perf_counter()
            list(pool.map(lambda pair: np.copyto(pair[1], pair[0]), pairs))
            rates.append(threads * (1 << 27) / (time.perf_counter() - start))
    return max(rates)


def seconds_of(text):
    return sum(float(number) * UNITS[unit] for number, unit in re.findall(r"([0-9.]+)([hms])", text))


def merge_seconds(folder, models, statistics, threads):
    suite = folder / "suite.jsonl"
    suite.write_text(json.dumps({"task": "t", "context_ids": [5], "continuation_ids": [6]}) + "\n")
    config = folder / "sweep.yaml"
    out = folder / "sweep"
    config.write_text(json.dumps({
        "base_model": str(models["base"]), "experts": {name: str(models[name]) for name in EXPERTS}, "combinations": [list(EXPERTS)],
        "methods": METHODS, "omega": OMEGAS, "dtype": "bfloat16", "aim": {"statistics": str(statistics)},
        "evaluation": {"suites": [str(suite)]}, "output": {"directory": str(out), "keep": "scores"}}))
    shutil.rmtree(out, ignore_errors=True)
    said = subprocess.run([AIMERGE, "sweep", config, "--threads", str(threads), "--progress", "none"], check=True, text=True,
                          capture_output=True).stderr
    shutil.rmtree(out)
    parts = re.findall(r"([0-9]+) points merged in (\S+)", said)
    assert sum(int(points) for points, _ in parts) == len(METHODS) * len(OMEGAS), said
    return sum(seconds_of(text) for _, text in parts), len(parts)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=pathlib.Path, default=ROOT / "build" / "bench", help="for models, 9 GB")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--layers", type=int, default=22, help="fewer make a smaller model")
    arguments = parser.parse_args()
    folder = arguments.folder.resolve()
    head = machine()
    models = make_models(folder, arguments.layers)
    statistics = make_statistics(folder, models)
    weights = [model / "model.safetensors" for model in models.values()]
    read = ["sh", "-c", 'cat "$@" > /dev/null', "cat", *weights]
    measure(read, folder / "command.log")  # brings the inputs into the page cache
    reading = measure(read, folder / "command.log").seconds
    bytes_written = len(METHODS) * len(OMEGAS) * weights[0].stat().st_size
    writing = bytes_written / copy_rate(arguments.threads)
    merging, parts = merge_seconds(folder, models, statistics, arguments.threads)
    print(f"{head}; {arguments.threads} threads; {len(METHODS)} methods x {len(OMEGAS)} omegas\n")
    print(table(["", "seconds", "/ limit"],
                [["reading the inputs once", f"{reading:.2f}", ""], [f"copying {bytes_written / 1e9:.1f} GB in memory", f"{writing:.2f}", ""],
                 ["limit", f"{reading + writing:.2f}", "1.00"],
                 [f"merging, in {parts} parts", f"{merging:.2f}", f"{merging / (reading + writing):.2f}"]]))


if __name__ == "__main__":
    main()

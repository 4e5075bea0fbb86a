#!/usr/bin/env python3
"""Times the merging of a sweep into memory: 5 methods x 6 omegas of one combination of three experts, against the time to read
the inputs once and to touch what the methods touch at the rate of copying in memory: the four models, twice where a method has a
prepare pass, and every point.

Models: 1.1 billion parameters in bfloat16 (tests/bench/synthetic_llama.py), in the page cache. The sweep keeps scores, of one
short item, so that merged points lie in memory; what it says of merging is added up, scoring is left out. Where memory does not
hold all points at once, the inputs are read again for each part. Needs a quiet machine.

With --mergekit also the same points but WIDEN's by mergekit 0.1.5 and tests/bench/relax.py: each method merged and one point relaxed once,
the other relaxations extrapolated; and extrapolated again for who merges every point anew.

    build/venv/bin/python tests/bench/sweep_bench.py --mergekit
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
from merge_bench import METHODS as FEW_METHODS, MORE_METHODS, NOT_IN_MERGEKIT, make_statistics, prepare_mergekit, remove, write_config
from synthetic_llama import EXPERTS, make_models

MERGES = {**FEW_METHODS, **MORE_METHODS}
METHODS = {name: MERGES[name] for name in ("task_arithmetic", "ties density 0.5", "dare_linear density 0.5", "dare_ties density 0.5", "widen")}
WITHOUT_PREPARE_PASS = ("task_arithmetic",)
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
        "methods": [{"merge_method": merge.method, "parameters": merge.each} for merge in METHODS.values()], "omega": OMEGAS, "dtype": "bfloat16", "aim": {"statistics": str(statistics)},
        "evaluation": {"suites": [str(suite)]}, "output": {"directory": str(out), "keep": "scores"}}))
    shutil.rmtree(out, ignore_errors=True)
    said = subprocess.run([AIMERGE, "sweep", config, "--threads", str(threads), "--progress", "none"], check=True, text=True,
                          capture_output=True).stderr
    shutil.rmtree(out)
    parts = re.findall(r"([0-9]+) points merged in (\S+)", said)
    assert sum(int(points) for points, _ in parts) == len(METHODS) * len(OMEGAS), said
    return sum(seconds_of(text) for _, text in parts), len(parts)


def mergekit_seconds(folder, models, statistics, threads):
    """[(method, seconds to merge it, seconds to relax one point)]"""
    mergekit = prepare_mergekit()
    merged, relaxed = folder / "mergekit", folder / "relaxed"
    environment = {"OMP_NUM_THREADS": str(threads)}
    measured = []
    for name, merge in METHODS.items():
        if merge.method in NOT_IN_MERGEKIT:
            continue
        config = write_config(folder / "mergekit.yaml", models, name)
        remove(merged)
        merging = measure([mergekit, config, merged, "--no-cuda", "--no-copy-tokenizer", "-j", threads], folder / "command.log", environment)
        remove(relaxed)
        relaxing = measure([sys.executable, ROOT / "tests/bench/relax.py", models["base"], merged, statistics, relaxed, "--omega", 0.4],
                           folder / "command.log", environment)
        measured.append((name, merging.seconds, relaxing.seconds))
        print(f"mergekit {name}: {merging.seconds:.1f} s, relaxed in {relaxing.seconds:.1f} s", file=sys.stderr, flush=True)
    remove(merged)
    remove(relaxed)
    return measured


def mergekit_table(measured, merging):
    """@param merging seconds of aimerge for all points, WIDEN's included"""
    points = len(measured) * len(OMEGAS)
    once = sum(merge + len(OMEGAS) * relax for _, merge, relax in measured)
    anew = sum(len(OMEGAS) * (merge + relax) for _, merge, relax in measured)
    rows = [[f"mergekit {name}, then one relaxation", f"{merge:.1f} + {relax:.1f}", ""] for name, merge, relax in measured]
    rows += [[f"{points} points, each method merged once", f"{once:.0f}", f"{once / merging:.0f}"],
             [f"{points} points, each merged anew", f"{anew:.0f}", f"{anew / merging:.0f}"]]
    return table(["mergekit and Python", "seconds", f"of aimerge for {len(METHODS) * len(OMEGAS)}"], rows)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=pathlib.Path, default=ROOT / "build" / "bench", help="for models, 9 GB")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--mergekit", action="store_true", help="10 minutes more")
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
    model_bytes = weights[0].stat().st_size
    passes = sum(1 if name in WITHOUT_PREPARE_PASS else 2 for name in METHODS)
    bytes_touched = (len(weights) * passes + len(METHODS) * len(OMEGAS)) * model_bytes
    touching = bytes_touched / copy_rate(arguments.threads)
    merging, parts = merge_seconds(folder, models, statistics, arguments.threads)
    print(f"{head}; {arguments.threads} threads; {len(METHODS)} methods x {len(OMEGAS)} omegas\n")
    print(table(["", "seconds", "/ limit"],
                [["reading the inputs once", f"{reading:.2f}", ""], [f"copying {bytes_touched / 1e9:.1f} GB in memory", f"{touching:.2f}", ""],
                 ["limit", f"{reading + touching:.2f}", "1.00"],
                 [f"merging, in {parts} parts", f"{merging:.2f}", f"{merging / (reading + touching):.2f}"]]))
    if arguments.mergekit:
        print("\n" + mergekit_table(mergekit_seconds(folder, models, statistics, arguments.threads), merging))


if __name__ == "__main__":
    main()

#!/usr/bin/env python3
"""Times scoring many settings of one merge: in one Python process with a merge in memory, beside the command line once for each setting (merge,
then evaluate). Both merge the SmolLM2 demo family by ties and score the first items of its math suite; the scores must be equal.

The package is one that `launch/wheel.sh` has made, installed in the environment that runs this script:

    ENV/bin/python tests/bench/settings_bench.py
"""
import argparse
import json
import os
import pathlib
import shutil
import subprocess
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
THREADS = 2
os.environ["OMP_WAIT_POLICY"] = "passive"

import aimerge


def config(family):
    return {"merge_method": "ties", "base_model": str(family / "base"), "parameters": {"density": 0.5},
            "models": [{"model": str(family / name), "parameters": {"weight": 0.5}} for name in ("code", "math")]}


def settings(number):
    """Other weights, which change every tensor."""
    return [{"models.0.parameters.weight": round(0.3 + 0.02 * i, 2), "models.1.parameters.weight": round(0.9 - 0.02 * i, 2)}
            for i in range(number)]


def in_one_process(family, suite, wanted):
    held = aimerge.merge(config(family), out=None, threads=THREADS)
    return [held.set(values).evaluate(suite).tasks[0].score for values in wanted]


def by_commands(family, suite, wanted, folder):
    program, path = ROOT / "build/aimerge", folder / "merge.yaml"
    path.write_text(json.dumps(config(family)))
    scores = []
    variables = {name: value for name, value in os.environ.items() if name != "AIMERGE_PYTHON"}  # which the package sets for itself
    for values in wanted:
        changes = [word for key, value in values.items() for word in ("--set", f"{key}={value}")]
        for command in (["merge", path, "--out", folder / "out", "--overwrite", *changes],
                        ["evaluate", folder / "out", "--suite", suite, "--json"]):
            result = subprocess.run([program, *command, "--threads", str(THREADS), "--progress", "none"], check=True, capture_output=True,
                                    text=True, env=variables)
        scores.append(json.loads(result.stdout)["tasks"]["math"]["score"])
    return scores


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--settings", type=int, default=20)
    parser.add_argument("--items", type=int, nargs="+", default=[4, 60], help="of the suite")
    parser.add_argument("--family", type=pathlib.Path, default=ROOT / "build/family")
    arguments = parser.parse_args()
    wanted = settings(arguments.settings)
    folder = pathlib.Path(tempfile.mkdtemp(prefix="aimerge-settings-"))
    print(f"| items | settings | one process, s | {2 * len(wanted)} commands, s | times |\n| ---: | ---: | ---: | ---: | ---: |")
    try:
        for items in arguments.items:
            suite = folder / "math.jsonl"
            lines = (ROOT / "configs/smollm2/suites/math.jsonl").read_text().splitlines(keepends=True)
            suite.write_text("".join(lines[:items]))
            begin = time.perf_counter()
            scores = in_one_process(arguments.family, suite, wanted)
            middle = time.perf_counter()
            others = by_commands(arguments.family, suite, wanted, folder)
            end = time.perf_counter()
            if scores != others:
                raise SystemExit(f"the scores differ: {scores} and {others}")
            print(f"| {items} | {len(wanted)} | {middle - begin:.1f} | {end - middle:.1f} | {(end - middle) / (middle - begin):.1f} |", flush=True)
    finally:
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()

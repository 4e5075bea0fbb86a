#!/usr/bin/env python3
"""Times the phases of one job on 1, 2, ... ranks of one thread each, as `aimerge merge --json` tells them: calibration and merge of the SmolLM2
family, and the merge of a second job, which finds the statistics and shares out the tensors by their bytes alone. Rounds alternate; the table
shows medians and how many times as fast as one rank. Needs a quiet machine.

    build/venv/bin/python tests/bench/scaling_bench.py --ranks 1 2
"""
import argparse
import collections
import json
import os
import pathlib
import shutil
import statistics
import subprocess
import tempfile

from measure import AIMERGE, ROOT, machine, table

CONFIG = ROOT / "configs" / "smollm2-ties-aim.yaml"
PHASES = ("calibrate", "merge", "merge alone")


def phase_seconds(folder, ranks):
    """{phase: seconds}"""
    environment = {**os.environ, "OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1",
                   "AIMERGE_CACHE_DIR": str(folder / "cache")}
    command = ["mpirun", "--bind-to", "none", "--oversubscribe", "-n", ranks, AIMERGE, "merge", CONFIG, "--out", folder / "out",
               "--overwrite", "--threads", 1, "--progress", "none", "--json"]
    os.sync()
    told = subprocess.run(list(map(str, command)), check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, cwd=ROOT,
                          env=environment).stdout
    return {phase["phase"]: phase["seconds"] for phase in json.loads(told)["phases"]}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ranks", type=int, nargs="+", default=[1, 2, 4])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--folder", type=pathlib.Path, help="where to work (default: a temporary folder)")
    arguments = parser.parse_args()
    print(machine(), flush=True)
    seconds = collections.defaultdict(list)
    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
        for _ in range(arguments.rounds):
            for ranks in arguments.ranks:
                shutil.rmtree(pathlib.Path(folder) / "cache", ignore_errors=True)
                measured = phase_seconds(pathlib.Path(folder), ranks)
                measured["merge alone"] = phase_seconds(pathlib.Path(folder), ranks)["merge"]
                for phase, took in measured.items():
                    seconds[ranks, phase].append(took)
    first = arguments.ranks[0]
    median = lambda ranks, phase: statistics.median(seconds[ranks, phase])
    rows = [[f"{ranks} x 1 thread", *(text for phase in PHASES for text in (
        f"{median(ranks, phase):.2f}", f"{median(first, phase) / median(ranks, phase):.2f}"))] for ranks in arguments.ranks]
    print(table(["ranks", *(text for phase in PHASES for text in (f"{phase} s", "times"))], rows))


if __name__ == "__main__":
    main()

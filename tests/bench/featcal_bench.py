#!/usr/bin/env python3
"""Times feature calibration of the SmolLM2 family's three experts: beside sequential calibrations over the same texts, one for each
expert, in float32 and bfloat16; and on 1, 2, ... ranks of one thread each. Peak memory stands beside what `aimerge plan` says of it;
the process itself is what a calibration takes that `plan` counts at next to nothing. Needs a quiet machine.

    build/venv/bin/python tests/bench/featcal_bench.py --ranks 1 2 4
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
TASKS = ("code", "instruct", "math")


def texts_of(task, dtype):
    return {"corpus": str(ROOT / f"configs/smollm2/examples/{task}.jsonl"), "text_key": ["prompt", "target"], "sequences": 8,
            "sequence_length": 256, "dtype": dtype}


def merge(dtype, **keys):
    return {"merge_method": "task_arithmetic", "base_model": str(FAMILY / "base"), "dtype": "bfloat16",
            "models": [{"model": str(FAMILY / task), "parameters": {"weight": 0.6}, "calibration": texts_of(task, dtype)} for task in TASKS],
            **keys}


def run(folder, config, ranks, threads):
    """What the job says of itself: {phase: seconds}, bytes of its peak memory."""
    (folder / "merge.yaml").write_text(json.dumps(config))
    environment = {**os.environ, "OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1", "AIMERGE_CACHE_DIR": str(folder / "cache")}
    launch = ["mpirun", "--bind-to", "none", "--oversubscribe", "-n", ranks] if ranks > 1 else []
    command = [*launch, AIMERGE, "merge", folder / "merge.yaml", "--out", folder / "out", "--overwrite", "--threads", threads, "--progress", "none",
               "--json"]
    told = json.loads(subprocess.run(list(map(str, command)), check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, cwd=ROOT,
                                     env=environment).stdout)
    return {phase["phase"]: phase["seconds"] for phase in told["phases"]}, max(rank["peak_memory_bytes"] for rank in told["ranks"])


def planned_bytes(folder, config):
    (folder / "plan.yaml").write_text(json.dumps(config))
    told = subprocess.run([AIMERGE, "plan", folder / "plan.yaml", "--json"], check=True, capture_output=True, text=True, cwd=ROOT).stdout
    return json.loads(told)["featcal"]["memory_bytes"]


def sequential_seconds(folder, dtype, threads):
    """One sequential calibration for each expert, over its texts."""
    seconds = 0
    for task in TASKS:
        aim = {"omega": 0.4, "calibration": {**texts_of(task, dtype), "sequential": True}}
        for log in (folder / "cache").glob("statistics/*"):
            log.unlink()
        seconds += run(folder, merge(dtype, aim=aim), 1, threads)[0]["calibrate"]
    return seconds


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ranks", type=int, nargs="+", default=[1, 2, 4])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2, help="beside the sequential calibrations")
    arguments = parser.parse_args()
    print(machine(), flush=True)
    median = statistics.median
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        rows = []
        for dtype in ("float32", "bfloat16"):
            config = merge(dtype, featcal={"lambda": 0.01})
            fits = [run(folder, config, 1, arguments.threads) for _ in range(arguments.rounds)]
            seconds = median(phases["featcal"] for phases, _ in fits)
            beside = median(sequential_seconds(folder, dtype, arguments.threads) for _ in range(arguments.rounds))
            rows.append([dtype, f"{seconds:.1f}", f"{beside:.1f}", f"{seconds / beside:.2f}", f"{median(peak for _, peak in fits) / 1e6:.0f}",
                         f"{planned_bytes(folder, config) / 1e6:.0f}"])
        print(table(["dtype", "featcal s", "sequential calibrations s", "times", "peak MB", "planned MB, without the process"], rows), flush=True)
        rows = []
        for ranks in arguments.ranks:
            seconds = median(run(folder, merge("float32", featcal={"lambda": 0.01}), ranks, 1)[0]["featcal"] for _ in range(arguments.rounds))
            first = seconds if not rows else first
            rows.append([f"{ranks} x 1 thread", f"{seconds:.1f}", f"{first / seconds:.2f}"])
        print(table(["ranks", "featcal s", "times"], rows))


if __name__ == "__main__":
    main()

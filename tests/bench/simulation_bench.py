#!/usr/bin/env python3
"""Holds the simulator beside this machine: the rates of one rank, measured, make a hardware file; then calibration and merge of the SmolLM2 family on
more ranks, streamed, in replicas and through rank 0 are simulated by it and run. Ends with an error where a time is off by more than --factor. One
thread per rank; needs a quiet machine.

    build/venv/bin/python tests/bench/simulation_bench.py --folder FOLDER_IN_TMPFS
"""
import argparse
import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile

from measure import AIMERGE, ROOT, machine, table

CONFIG = ROOT / "configs" / "smollm2-ties-aim.yaml"
COMMON = ["--set", "aim.calibration.sequences=16", "--threads", 1]
ONE_RANK = "1 rank"
CASES = {
    "2 ranks": (2, []),
    "4 ranks on 2 cores": (4, []),
    "2 ranks, streamed": (2, ["--memory-limit", "65MB"]),
    "2 ranks, 2 replicas": (2, ["--replicas", "2"]),
    "2 ranks, a short pipeline": (2, ["--set", "aim.calibration.sequences=4"]),
    "2 ranks, --gather root": (2, ["--gather", "root"]),
}
HARDWARE = """ranks_per_node: {ranks}
cpu: {{cores_per_node: {cores}, gflops: {gflops:.3f}, merge: {merge:.0f} MB/s}}
link: {{within_node: 2 GB/s, latency: 50 us}}
storage: {{read_per_node: 100 GB/s, write_per_node: 100 GB/s}}  # files are in memory: reading them is part of the other rates
"""


def run(folder, ranks, options):
    """{phase: seconds}"""
    environment = {**os.environ, "OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1",
                   "AIMERGE_CACHE_DIR": str(folder / "cache")}
    command = ["mpirun", "--bind-to", "none", "--oversubscribe", "-n", ranks, AIMERGE, "merge", CONFIG, "--out", folder / "out",
               "--overwrite", *COMMON, "--progress", "none", "--json", *options]
    shutil.rmtree(folder / "cache", ignore_errors=True)
    os.sync()
    told = subprocess.run(list(map(str, command)), check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, cwd=ROOT,
                          env=environment).stdout
    return {phase["phase"]: phase["seconds"] for phase in json.loads(told)["phases"]}


def fastest(folder, rounds):
    """{case: {phase: seconds}}; rounds alternate."""
    best = {}
    for _ in range(rounds):
        for case, (ranks, options) in {ONE_RANK: (1, []), **CASES}.items():
            known = best.setdefault(case, {})
            for phase, seconds in run(folder, ranks, options).items():
                known[phase] = min(known.get(phase, seconds), seconds)
    return best


def plan(*options):
    told = subprocess.run([str(word) for word in (AIMERGE, "plan", CONFIG, "--json", *COMMON, *options)], check=True,
                          stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, cwd=ROOT).stdout
    return json.loads(told)


def rates(measured):
    """Of one core, in the hardware file's units."""
    rank = plan("--ranks", 1)["ranks"][0]
    return {"gflops": rank["calibrationFlops"] / measured["calibrate"] / 1e9,
            "merge": (rank["bytesToRead"] + rank["bytesToWrite"]) / measured["merge"] / 1e6}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--factor", type=float, default=1.5)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--folder", type=pathlib.Path, help="where to work (default: a temporary folder)")
    arguments = parser.parse_args()
    print(machine(), flush=True)
    rows, worst = [], 1
    with tempfile.TemporaryDirectory(dir=arguments.folder) as name:
        folder = pathlib.Path(name)
        measured = fastest(folder, arguments.rounds)
        own = rates(measured[ONE_RANK])
        print(", ".join(f"{rate} {value:.1f}" for rate, value in own.items()), flush=True)
        for case, (ranks, options) in CASES.items():
            hardware = folder / "hardware.yaml"
            hardware.write_text(HARDWARE.format(ranks=ranks, cores=min(ranks, os.cpu_count()), **own))
            simulated = {phase["phase"]: phase["seconds"] for phase in plan("--hardware", hardware, *options)["phases"]}
            for phase in ("calibrate", "merge"):
                took = measured[case][phase]
                ratio = simulated[phase] / took
                worst = max(worst, ratio, 1 / ratio)
                rows.append([f"{case}: {phase}", f"{took:.2f}", f"{simulated[phase]:.2f}", f"{ratio:.2f}"])
    print(table(["", "measured s", "simulated s", "ratio"], rows))
    if worst > arguments.factor:
        sys.exit(f"a time is off by a factor of {worst:.2f}")


if __name__ == "__main__":
    main()

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
CASES = {
    "2 ranks": (2, []),
    "4 ranks on 2 cores": (4, []),
    "2 ranks, streamed": (2, ["--memory-limit", "65MB"]),
    "2 ranks, 2 replicas": (2, ["--replicas", "2"]),
    "4 ranks, micro-batches of 8": (4, ["--set", "aim.calibration.micro_batch=8"]),
    "2 ranks, --gather root": (2, ["--gather", "root"]),
}
HARDWARE = """ranks_per_node: {ranks}
cpu: {{cores_per_node: {cores}, gflops: {gflops:.3f}, merge: {merge:.0f} MB/s}}
link: {{within_node: 2 GB/s, latency: 50 us}}
storage: {{read_per_node: {read:.0f} MB/s, write_per_node: 100 GB/s, read_per_rank: {read:.0f} MB/s}}
"""


def run(folder, ranks, options):
    """{phase: seconds}, of the fastest of three"""
    environment = {**os.environ, "OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1",
                   "AIMERGE_CACHE_DIR": str(folder / "cache")}
    command = ["mpirun", "--bind-to", "none", "--oversubscribe", "-n", ranks, AIMERGE, "merge", CONFIG, "--out", folder / "out",
               "--overwrite", *COMMON, "--progress", "none", "--json", *options]
    fastest = {}
    for _ in range(3):
        shutil.rmtree(folder / "cache", ignore_errors=True)
        os.sync()
        told = subprocess.run(list(map(str, command)), check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, cwd=ROOT,
                              env=environment).stdout
        for phase in json.loads(told)["phases"]:
            fastest[phase["phase"]] = min(fastest.get(phase["phase"], phase["seconds"]), phase["seconds"])
    return fastest


def plan(*options):
    told = subprocess.run([str(word) for word in (AIMERGE, "plan", CONFIG, "--json", *COMMON, *options)], check=True,
                          stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, cwd=ROOT).stdout
    return json.loads(told)


def read_rate(path):
    """Bytes per second of a file that is in memory."""
    command = [sys.executable, "-c", "import sys, time; start = time.perf_counter(); size = len(open(sys.argv[1], 'rb').read()); "
                                     "print(size / (time.perf_counter() - start))", str(path)]
    return max(float(subprocess.check_output(command)) for _ in range(3))


def rates(measured):
    """Of one core, in the hardware file's units."""
    rank = plan("--ranks", 1)["ranks"][0]
    return {"gflops": rank["calibrationFlops"] / measured["calibrate"] / 1e9,
            "merge": (rank["bytesToRead"] + rank["bytesToWrite"]) / measured["merge"] / 1e6,
            "read": read_rate(ROOT / "build/family/base/model.safetensors") / 1e6}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--factor", type=float, default=1.5)
    parser.add_argument("--folder", type=pathlib.Path, help="where to work (default: a temporary folder)")
    arguments = parser.parse_args()
    print(machine(), flush=True)
    rows, worst = [], 1
    with tempfile.TemporaryDirectory(dir=arguments.folder) as name:
        folder = pathlib.Path(name)
        own = rates(run(folder, 1, []))
        print(", ".join(f"{rate} {value:.1f}" for rate, value in own.items()), flush=True)
        for case, (ranks, options) in CASES.items():
            hardware = folder / "hardware.yaml"
            hardware.write_text(HARDWARE.format(ranks=ranks, cores=min(ranks, os.cpu_count()), **own))
            simulated = {phase["phase"]: phase["seconds"] for phase in plan("--hardware", hardware, *options)["phases"]}
            measured = run(folder, ranks, options)
            for phase in ("calibrate", "merge"):
                ratio = simulated[phase] / measured[phase]
                worst = max(worst, ratio, 1 / ratio)
                rows.append([f"{case}: {phase}", f"{measured[phase]:.2f}", f"{simulated[phase]:.2f}", f"{ratio:.2f}"])
    print(table(["", "measured s", "simulated s", "ratio"], rows))
    if worst > arguments.factor:
        sys.exit(f"a time is off by a factor of {worst:.2f}")


if __name__ == "__main__":
    main()

#!/usr/bin/env python3
"""Times merges whose inputs lie on the disk and not in the page cache, beside what the disk can do, and prints a Markdown table.

Inputs: a base and three experts of 1.1 billion parameters in bfloat16 (tests/bench/synthetic_llama.py), 8.8 GB to read and 2.2 GB to write. Before
every command the page cache is emptied, which takes root. In the same rounds fio reads the same bytes (direct, 4 MiB, 16 requests on their way; without fio
a reader of this script), alone and while dd writes as much as a merge does: the second is the limit of a disk that reads and writes. Rounds alternate between
all commands, because a disk that others use is not the same from one minute to the next; the table has medians and the quickest and slowest run.

    build/venv/bin/python tests/bench/cold_bench.py --folder FOLDER_ON_THE_DISK       # 14 GB and ten minutes
    build/venv/bin/python tests/bench/cold_bench.py --folder FOLDER --warm            # the same merges from the page cache
"""
import argparse
import collections
import concurrent.futures
import json
import mmap
import os
import pathlib
import shutil
import statistics
import subprocess
import sys
import time

from measure import AIMERGE, ROOT, machine, measure, table
from merge_bench import remove, write_config
from synthetic_llama import make_models

REQUESTS, REQUEST_BYTES = 16, 4 << 20
READ, READ_AND_WRITE = "read all inputs", "read all inputs, write one output beside"
METHODS = ["task_arithmetic", "ties density 0.5"]
RANKS = ["mpiexec", "--allow-run-as-root", "--bind-to", "none", "-n", "2"]  # with a thread each


def read_directly(paths):
    """Without fio: as many requests on their way, past the page cache."""
    def read(place):
        number, offset = place
        buffer = mmap.mmap(-1, REQUEST_BYTES)  # aligned to pages
        os.preadv(files[number], [buffer], offset)

    files = [os.open(path, os.O_RDONLY | os.O_DIRECT) for path in paths]
    places = [(number, offset) for number, file in enumerate(files) for offset in range(0, os.fstat(file).st_size, REQUEST_BYTES)]
    with concurrent.futures.ThreadPoolExecutor(REQUESTS) as pool:
        list(pool.map(read, places))


def read_command(paths):
    if not shutil.which("fio"):
        return [sys.executable, __file__, "--read", *paths]
    total = sum(path.stat().st_size // REQUEST_BYTES * REQUEST_BYTES for path in paths)
    return ["fio", "--name=read", "--rw=read", "--direct=1", f"--bs={REQUEST_BYTES}", f"--iodepth={REQUESTS}", "--ioengine=io_uring", "--readonly",
            "--file_service_type=roundrobin", f"--size={total}", "--filename=" + ":".join(map(str, paths))]


def make_commands(arguments, models, folder, out):
    """{name: command}"""
    weights = [model / "model.safetensors" for model in models.values()]
    read = " ".join(map(str, read_command(weights)))
    bytes_of_output = weights[0].stat().st_size
    write = f"head -c {bytes_of_output} /dev/zero | dd of={out} bs=4M iflag=fullblock conv=fsync status=none"
    commands = {READ: ["sh", "-c", f"{read} > /dev/null"], READ_AND_WRITE: ["sh", "-c", f"({write}) & {read} > /dev/null; wait"]}
    for method in arguments.methods:
        config = write_config(folder / f"cold-{method.replace(' ', '-')}.yaml", models, method)
        for name, binary in {"aimerge": AIMERGE, **dict(pair.split("=", 1) for pair in arguments.other)}.items():
            # Another binary may be older than --read-ahead.
            for memory in arguments.read_ahead if name == "aimerge" else [""]:
                command = [binary, "merge", config, "--out", out, "--threads", arguments.threads, "--progress", "none"]
                commands[f"{name} {method}{memory and ', --read-ahead ' + memory}"] = command + (["--read-ahead", memory] if memory else [])
        mergekit = ROOT / "build" / "venv" / "bin" / "mergekit-yaml"
        if arguments.mergekit and mergekit.exists():
            commands[f"mergekit {method}"] = [mergekit, config, out, "--no-cuda", "--no-copy-tokenizer", "-j", arguments.threads]
    if arguments.more:
        config = folder / "cold-task_arithmetic.yaml"
        write_config(config, models, "task_arithmetic")
        for option in ("--gather root", "--io scatter"):
            commands[f"aimerge task_arithmetic, 2 ranks, {option}"] = [
                *RANKS, AIMERGE, "merge", config, "--out", out, "--threads", 1, "--progress", "none", *option.split()]
        config = write_sweep(folder / "cold-sweep.yaml", models, out)
        commands["aimerge sweep, 2 checkpoints"] = [AIMERGE, "sweep", config, "--threads", arguments.threads, "--progress", "none"]
    return commands


def write_sweep(path, models, out):
    """Two methods over all experts."""
    experts = {name: str(model) for name, model in models.items() if name != "base"}
    path.write_text(json.dumps({
        "base_model": str(models["base"]), "experts": experts, "combinations": [list(experts)], "dtype": "bfloat16", "omega": [1.0],
        "methods": ["task_arithmetic", {"merge_method": "ties", "parameters": {"density": 0.5}}],
        "output": {"directory": str(out), "keep": "checkpoints"}}))
    return path


def empty_page_cache(seconds):
    os.sync()
    pathlib.Path("/proc/sys/vm/drop_caches").write_text("3\n")
    time.sleep(seconds)


def main():
    if sys.argv[1:2] == ["--read"]:
        return read_directly(sys.argv[2:])
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=pathlib.Path, required=True, help="for models and outputs, 14 GB, on the disk to measure")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--methods", nargs="*", default=METHODS, help="as merge_bench.py calls them")
    parser.add_argument("--more", action="store_true", help="also two ranks, and a sweep of two checkpoints")
    parser.add_argument("--layers", type=int, default=22, help="fewer make a smaller model")
    parser.add_argument("--read-ahead", nargs="*", default=["", "0", "16MB", "32MB", "64MB", "256MB", "2GB"], help='"": the default')
    parser.add_argument("--other", nargs="*", default=[], metavar="NAME=BINARY", help="other builds to compare with")
    parser.add_argument("--mergekit", action="store_true", help="also mergekit, where build/venv has it")
    parser.add_argument("--warm", action="store_true", help="leave the inputs in the page cache")
    parser.add_argument("--pause", type=float, default=3, help="seconds to wait when the page cache is empty")
    arguments = parser.parse_args()
    if not arguments.warm and not os.access("/proc/sys/vm/drop_caches", os.W_OK):
        sys.exit("cold_bench.py: only root may empty the page cache; run it as root, or with --warm")
    folder = arguments.folder.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    out = folder / "out"
    head = machine()
    models = make_models(folder, arguments.layers)
    commands = make_commands(arguments, models, folder, out)
    seconds, peaks = collections.defaultdict(list), collections.defaultdict(int)
    for round_number in range(arguments.rounds):
        for name, command in commands.items():
            remove(out)
            if arguments.warm:
                subprocess.run(["sh", "-c", 'cat "$@" > /dev/null', "cat", *(model / "model.safetensors" for model in models.values())], check=True)
            else:
                empty_page_cache(arguments.pause)
            measured = measure(command, folder / "command.log")
            seconds[name].append(measured.seconds)
            peaks[name] = max(peaks[name], measured.peak_bytes)
            print(f"round {round_number + 1}: {name}: {measured.seconds:.2f} s", file=sys.stderr, flush=True)
    remove(out)
    limits = [statistics.median(seconds[name]) for name in (READ, READ_AND_WRITE)]
    rows = [[name, f"{statistics.median(times):.2f}", f"{min(times):.2f} to {max(times):.2f}", f"{peaks[name] / 1e6:.0f}",
             *(f"{statistics.median(times) / limit:.2f}" for limit in limits)] for name, times in seconds.items()]
    state = "in the page cache" if arguments.warm else "on the disk alone"
    print(f"{head}; {arguments.threads} threads; inputs {state}; medians of {arguments.rounds}\n")
    print(table(["command", "seconds", "from to", "peak MB", "times reading", "times reading and writing"], rows))


if __name__ == "__main__":
    main()

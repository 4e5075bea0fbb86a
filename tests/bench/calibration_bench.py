#!/usr/bin/env python3
"""Times calibration against the forward pass of transformers, and two ranks of one thread against one rank of two.

Model and text: the SmolLM2 family's base and calibration corpus, 256 tokens a sequence, one sequence a step. A rate of aimerge is
that of whole commands: the difference in time between a long and a short run, which start-up and loading do not enter. That of
transformers is taken inside its process around the forward pass, with the logits (what a forward pass is) and without them (what
calibration needs of it). Runs alternate; the table shows medians. Needs a quiet machine.

    build/venv/bin/python tests/bench/calibration_bench.py
"""
import argparse
import collections
import json
import statistics
import subprocess
import sys

from measure import AIMERGE, ROOT, machine, measure, table

BASE = ROOT / "build" / "family" / "base"
CORPUS = ROOT / "configs" / "smollm2" / "calibration.txt"
LENGTH = 256
LAYOUTS = {"1 rank x 2 threads": (1, 2), "2 ranks x 1 thread": (2, 1)}

# Prints tokens per second, with and without logits. A process of its own, so that its threads and memory disturb nothing else.
TRANSFORMERS_RUN = """
import sys, time, torch, transformers
base, corpus, dtype, threads, sequences, length = *sys.argv[1:4], *map(int, sys.argv[4:])
torch.set_num_threads(threads)
ids = transformers.AutoTokenizer.from_pretrained(base)(open(corpus).read()).input_ids
blocks = [torch.tensor(ids[i * length:(i + 1) * length])[None] for i in range(sequences)]
model = transformers.AutoModelForCausalLM.from_pretrained(base, dtype=getattr(torch, dtype)).eval()
with torch.inference_mode():
    for forward in (model, model.model):
        forward(blocks[0])
        start = time.perf_counter()
        for block in blocks:
            forward(block, use_cache=False)
        print(sequences * length / (time.perf_counter() - start))
"""


def transformers_rates(dtype, sequences, threads):
    command = [sys.executable, "-c", TRANSFORMERS_RUN, BASE, CORPUS, dtype, threads, sequences, LENGTH]
    output = subprocess.run(list(map(str, command)), check=True, capture_output=True, text=True).stdout
    return [float(line) for line in output.split()[-2:]]


def calibration_seconds(folder, dtype, sequences, ranks, threads):
    config = folder / "calibration.yaml"
    config.write_text(json.dumps({"base_model": str(BASE), "aim": {"omega": 0.4, "calibration": {
        "corpus": str(CORPUS), "sequences": sequences, "sequence_length": LENGTH, "shuffle": False, "dtype": dtype}}}))
    log = folder / "statistics.h5"
    log.unlink(missing_ok=True)
    launch = ["mpirun", "--bind-to", "none", "--oversubscribe", "-n", ranks]
    environment = {"OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1", "AIMERGE_CACHE_DIR": str(folder / "cache")}
    # Token ids may come from the cache, statistics may not.
    for cached in (folder / "cache").rglob("*.h5"):
        cached.unlink()
    command = [*launch, AIMERGE, "calibrate", config, "--out", log, "--threads", threads, "--progress", "none"]
    return measure(command, folder / "command.log", environment).seconds


def calibration_rate(folder, dtype, short, long, ranks, threads):
    seconds = {sequences: calibration_seconds(folder, dtype, sequences, ranks, threads) for sequences in (short, long)}
    return (long - short) * LENGTH / (seconds[long] - seconds[short])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--dtypes", nargs="+", default=["float32", "bfloat16"], choices=["float32", "bfloat16"])
    parser.add_argument("--sequences", type=int, nargs=2, default=[2, 32], metavar=("SHORT", "LONG"), help="of the two runs")
    arguments = parser.parse_args()
    short, long = arguments.sequences
    if not 0 < short < long:
        parser.error("--sequences: SHORT must be smaller than LONG")
    if not BASE.is_dir():
        sys.exit(f"{BASE} is not there: run build/venv/bin/python src/tools/make_family.py build/family")
    folder = ROOT / "build" / "bench" / "calibration"
    folder.mkdir(parents=True, exist_ok=True)
    head = machine()

    rates = collections.defaultdict(list)
    for round_number in range(arguments.rounds):
        for dtype in arguments.dtypes:
            with_logits, without = transformers_rates(dtype, long, 2)
            rates[dtype, "transformers, with logits"].append(with_logits)
            rates[dtype, "transformers, without logits"].append(without)
            for layout, (ranks, threads) in LAYOUTS.items():
                rates[dtype, f"aimerge, {layout}"].append(calibration_rate(folder, dtype, short, long, ranks, threads))
        print(f"round {round_number + 1} of {arguments.rounds} done", file=sys.stderr, flush=True)

    rows = []
    for (dtype, name), values in rates.items():
        rate = statistics.median(values)
        compared = [statistics.median(rates[dtype, other]) for other in
                    ("transformers, with logits", "transformers, without logits", "aimerge, 1 rank x 2 threads")]
        rows.append([f"{name}, {dtype}", f"{rate:.0f}", *(f"{rate / other:.2f}" for other in compared), str(len(values))])
    print(f"{head}; tokens per second, medians\n")
    print(table(["run", "tokens/s", "/ transformers", "/ transformers without logits", "/ 1 rank x 2 threads", "runs"], rows))


if __name__ == "__main__":
    main()

#!/usr/bin/env python3
"""Times `aimerge evaluate` against the same suites scored by transformers in padded batches.

Model and suites: the SmolLM2 family's base, its four suites of items and its text. Both rates are for the same work, in tokens that
aimerge has to run, without padding. That of aimerge is what the command says of its scoring pass, loading included; that of
transformers is taken inside its process around batches sorted by length and filled up at the right, of about as many tokens, with
the logits of all positions. Runs alternate; the table shows medians. Needs a quiet machine.

    build/venv/bin/python tests/bench/evaluation_bench.py
"""
import argparse
import collections
import os
import re
import statistics
import subprocess
import sys

from measure import AIMERGE, ROOT, machine, table

BASE = ROOT / "build" / "family" / "base"
SUITES = [ROOT / "configs" / "smollm2" / "suites" / f"{task}.jsonl" for task in ("math", "code", "instruct", "mc")]
TEXT = ROOT / "configs" / "smollm2" / "general.txt"
BATCH_TOKENS = 1024
LAYOUTS = {"1 rank x 2 threads": (1, 2), "2 ranks x 1 thread": (2, 1)}

# Prints seconds. A process of its own, so that its threads and memory disturb nothing else.
TRANSFORMERS_RUN = """
import json, sys, time, torch, transformers
base, dtype, threads, batch_tokens, text, *suites = sys.argv[1:]
torch.set_num_threads(int(threads))
encode = transformers.AutoTokenizer.from_pretrained(base)
rows = []
for suite in suites:
    for item in map(json.loads, open(suite)):
        rows += [encode(item["prompt"] + end).input_ids for end in item.get("choices", [item.get("target")])]
ids = encode(open(text).read()).input_ids
rows += [ids[i:i + 256] for i in range(0, len(ids) - 255, 256)]
rows.sort(key=len)
model = transformers.AutoModelForCausalLM.from_pretrained(base, dtype=getattr(torch, dtype)).eval()
batches = [[]]
for row in rows:
    if batches[-1] and (len(batches[-1]) + 1) * len(row) > int(batch_tokens):
        batches.append([])
    batches[-1].append(row)
with torch.inference_mode():
    start = time.perf_counter()
    for batch in batches:
        longest = max(map(len, batch))
        padded = torch.tensor([row + [0] * (longest - len(row)) for row in batch])
        model(padded, use_cache=False).logits.log_softmax(-1)
    print(time.perf_counter() - start)
"""


def transformers_seconds(dtype, threads):
    command = [sys.executable, "-c", TRANSFORMERS_RUN, BASE, dtype, threads, BATCH_TOKENS, TEXT, *SUITES]
    return float(subprocess.run(list(map(str, command)), check=True, capture_output=True, text=True).stdout.split()[-1])


def evaluation(dtype, ranks, threads):
    """Tokens, and tokens per second."""
    suites = [argument for suite in [*SUITES, TEXT] for argument in ("--suite", suite)]
    command = ["mpirun", "--bind-to", "none", "--oversubscribe", "-n", ranks, AIMERGE, "evaluate", BASE, *suites, "--dtype", dtype,
               "--threads", threads, "--progress", "none"]
    environment = {**os.environ, "OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1"}
    said = subprocess.run(list(map(str, command)), check=True, capture_output=True, text=True, env=environment).stderr
    return map(float, re.search(r"([0-9]+) tokens in .*, ([0-9]+) tokens/s", said).groups())


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--dtypes", nargs="+", default=["float32", "bfloat16"], choices=["float32", "bfloat16"])
    arguments = parser.parse_args()
    if not BASE.is_dir():
        sys.exit(f"{BASE} is not there: run build/venv/bin/python src/tools/make_family.py build/family")
    head = machine()
    rates = collections.defaultdict(list)
    for round_number in range(arguments.rounds):
        for dtype in arguments.dtypes:
            for layout, (ranks, threads) in LAYOUTS.items():
                tokens, rate = evaluation(dtype, ranks, threads)
                rates[dtype, f"aimerge, {layout}"].append(rate)
            rates[dtype, "transformers"].append(tokens / transformers_seconds(dtype, 2))
        print(f"round {round_number + 1} of {arguments.rounds} done", file=sys.stderr, flush=True)
    rows = []
    for (dtype, name), values in rates.items():
        rate = statistics.median(values)
        rows.append([f"{name}, {dtype}", f"{rate:.0f}", f"{rate / statistics.median(rates[dtype, 'transformers']):.2f}", str(len(values))])
    print(f"{head}; tokens per second, medians\n")
    print(table(["run", "tokens/s", "/ transformers", "runs"], rows))


if __name__ == "__main__":
    main()

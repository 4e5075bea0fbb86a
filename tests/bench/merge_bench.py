#!/usr/bin/env python3
"""Times whole merge commands against mergekit and against the limit that copying sets, and prints a Markdown table.

Inputs: a base and three experts of 1.1 billion parameters in bfloat16 (tests/bench/synthetic_llama.py), in the page cache.
Rounds alternate between all commands; the table shows medians. "Limit" is reading all its inputs (cat of four models to /dev/null, in proportion) plus writing the
output (dd of a file of its size), once per omega, measured in the same rounds: once without and once with fsync, which aimerge
does before it publishes and mergekit does not.

    build/venv/bin/python tests/bench/merge_bench.py            # 4 models of 2.2 GB and 25 minutes, most of it mergekit's
    build/venv/bin/python tests/bench/merge_bench.py --all-methods --mergekit-rounds 0 --only '^(?!.*(actmat|wudi))'  # seconds each
    build/venv/bin/python tests/bench/merge_bench.py --mergekit-rounds 0 --only task_arithmetic
"""
import argparse
import collections
import dataclasses
import json
import pathlib
import re
import shutil
import subprocess
import sys

import numpy as np
from safetensors.numpy import save_file

from measure import AIMERGE, ROOT, machine, measure, median, table
from synthetic_llama import EXPERTS, VOCABULARY, make_models

@dataclasses.dataclass(frozen=True)
class Merge:
    """What a config says: parameters of each expert, global ones, how many experts, and whether there is a base."""
    method: str
    each: dict = dataclasses.field(default_factory=dict)
    shared: dict = dataclasses.field(default_factory=dict)
    experts: int = 3
    has_base: bool = True

    @property
    def models(self):
        return self.experts + self.has_base


WEIGHT, HALF = {"weight": 1.0}, {"weight": 1.0, "density": 0.5}
METHODS = {
    "task_arithmetic": Merge("task_arithmetic", WEIGHT),
    "ties": Merge("ties", WEIGHT),
    "ties density 0.5": Merge("ties", HALF),
}
MORE_METHODS = {
    "linear": Merge("linear", WEIGHT, has_base=False),
    "dare_linear density 0.5": Merge("dare_linear", HALF),
    "dare_ties density 0.5": Merge("dare_ties", HALF),
    "breadcrumbs density 0.5": Merge("breadcrumbs", HALF),
    "breadcrumbs_ties density 0.5": Merge("breadcrumbs_ties", HALF),
    "della density 0.5": Merge("della", HALF),
    "della_linear density 0.5": Merge("della_linear", HALF),
    "slerp": Merge("slerp", shared={"t": 0.4}, experts=1),
    "nuslerp": Merge("nuslerp", WEIGHT, experts=2),
    "multislerp": Merge("multislerp", WEIGHT),
    "karcher": Merge("karcher", has_base=False),
    "model_stock": Merge("model_stock"),
    "sce select_topk 0.5": Merge("sce", shared={"select_topk": 0.5}),
    "ram": Merge("ram"),
    "ramplus_tl": Merge("ramplus_tl"),
    "nearswap": Merge("nearswap", shared={"t": 0.0001}, experts=1),
    "arcee_fusion": Merge("arcee_fusion", experts=1),
    "widen": Merge("widen"),
    "passthrough": Merge("passthrough", experts=1, has_base=False),
    "actmat": Merge("actmat"),
    "wudi": Merge("wudi"),
}
NOT_IN_MERGEKIT = ("widen", "actmat", "wudi")
MINUTES_EACH = ("actmat", "wudi")  # run once
OMEGAS = {"plain": [], "AIM": [0.4], "AIM, two omegas": [0.4, 0.0]}
READ, WRITE, WRITE_SYNCED = "read all inputs", "write one output", "write one output, fsync"


@dataclasses.dataclass(frozen=True)
class Case:
    name: str
    command: list
    method: str = ""     # what it is compared by; empty for the copies
    inputs: int = 4      # models that it reads
    outputs: int = 1
    is_mergekit: bool = False


def prepare_mergekit():
    subprocess.run([ROOT / "launch" / "setup.sh", "--test", "--no-packages"], check=True, stdout=sys.stderr)
    return ROOT / "build" / "venv" / "bin" / "mergekit-yaml"


def write_config(path, models, method, aim=None):
    """JSON, which is YAML too."""
    merge = {**METHODS, **MORE_METHODS}[method]
    config = {"merge_method": merge.method, "dtype": "bfloat16", "parameters": merge.shared,
              **({"base_model": str(models["base"])} if merge.has_base else {}),
              "models": [{"model": str(models[expert]), "parameters": merge.each} for expert in EXPERTS[:merge.experts]]}
    path.write_text(json.dumps({**config, **({"aim": aim} if aim else {})}, indent=2))
    return path


def make_statistics(folder, models):
    """A log of a short calibration: the merge's speed does not depend on its numbers."""
    log = folder / "statistics.h5"
    tokens = np.random.default_rng(1).integers(0, VOCABULARY, (1, 64))
    save_file({"input_ids": tokens}, folder / "tokens.safetensors")
    config = folder / "calibrate.yaml"
    config.write_text(json.dumps({"base_model": str(models["base"]), "aim": {"omega": 0.4, "calibration": {
        "token_ids": str(folder / "tokens.safetensors"), "sequences": 1, "sequence_length": 64}}}))
    log.unlink(missing_ok=True)
    measure([AIMERGE, "calibrate", config, "--out", log], folder / "calibrate.log")
    return log


def make_cases(arguments, models, folder, out):
    weights = [model / "model.safetensors" for model in models.values()]
    copy = ["dd", f"if={weights[0]}", f"of={out}", "bs=4M"]
    cases = [Case(READ, ["sh", "-c", 'cat "$@" > /dev/null', "cat", *weights]),
             Case(WRITE, copy),
             Case(WRITE_SYNCED, [*copy, "conv=fsync"])]
    mergekit = prepare_mergekit() if arguments.mergekit_rounds else None
    if not arguments.only_mergekit:
        statistics = make_statistics(folder, models)
    methods = {**METHODS, **(MORE_METHODS if arguments.all_methods else {})}
    for method, merge in methods.items():
        label = method.replace(" ", "-")
        if mergekit and merge.method not in NOT_IN_MERGEKIT:
            config = write_config(folder / f"mergekit-{label}.yaml", models, method)
            cases.append(Case(f"mergekit {method}",
                              [mergekit, config, out, "--no-cuda", "--no-copy-tokenizer", "-j", arguments.threads],
                              method, merge.models, is_mergekit=True))
        if arguments.only_mergekit:
            continue
        for variant, omegas in (OMEGAS if method in METHODS else {"plain": []}).items():
            aim = {"omega": omegas if len(omegas) > 1 else omegas[0], "statistics": str(statistics)} if omegas else None
            config = write_config(folder / f"aimerge-{label}-{len(omegas)}.yaml", models, method, aim)
            cases.append(Case(f"aimerge {method}, {variant}" if omegas else f"aimerge {method}",
                              [AIMERGE, "merge", config, "--out", out, "--threads", arguments.threads, "--progress", "none"],
                              method, merge.models, outputs=max(1, len(omegas))))
    return [case for case in cases if not case.method or re.search(arguments.only, case.name)]


def remove(out):
    """With what an interrupted run left, which the next one would continue."""
    for path in (out, out.with_name(out.name + ".partial")):
        shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)


def run_rounds(arguments, cases, folder, out):
    for case in cases:
        if not case.method:  # once unmeasured: brings the inputs into the page cache, and a virtual machine's memory into being
            measure(case.command, folder / "command.log")
            remove(out)
    results = collections.defaultdict(list)
    for round_number in range(max(arguments.rounds, arguments.mergekit_rounds)):
        for case in cases:
            if round_number >= (arguments.mergekit_rounds if case.is_mergekit else arguments.rounds):
                continue
            if round_number > 0 and case.method in MINUTES_EACH:
                continue
            remove(out)
            environment = {"OMP_NUM_THREADS": str(arguments.threads)} if case.is_mergekit else None
            results[case.name].append(measure(case.command, folder / "command.log", environment))
            print(f"round {round_number + 1}: {case.name}: {results[case.name][-1].seconds:.2f} s", file=sys.stderr, flush=True)
    remove(out)
    return results


def report(cases, results):
    medians = {name: median(measurements) for name, measurements in results.items()}
    reference = {case.method: medians[case.name].seconds for case in cases if case.is_mergekit}
    rows = []
    for case in cases:
        m = medians[case.name]
        limits = [medians[READ].seconds * case.inputs / 4 + case.outputs * medians[write].seconds for write in (WRITE, WRITE_SYNCED)]
        compared = [f"{m.seconds / limit:.2f}" for limit in limits] if case.method else ["", ""]
        speedup = f"{reference[case.method] / m.seconds:.1f}" if case.method in reference else ""
        rows.append([case.name, f"{m.seconds:.2f}", f"{m.cpu_seconds:.1f}", f"{m.peak_bytes / 2**30:.2f}", *compared, speedup,
                     str(len(results[case.name]))])
    return table(["command", "seconds", "CPU s", "peak GiB", "time / limit", "time / limit, fsync", "times as fast as mergekit",
                  "runs"], rows)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=pathlib.Path, default=ROOT / "build" / "bench", help="for models and outputs, 14 GB")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--mergekit-rounds", type=int, default=3, help="0 leaves mergekit out")
    parser.add_argument("--all-methods", action="store_true", help="not only task_arithmetic and ties")
    parser.add_argument("--only", default="", metavar="REGEX", help="only merges whose name in the table REGEX matches in part")
    parser.add_argument("--only-mergekit", action="store_true", help="needs no aimerge binary")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--layers", type=int, default=22, help="fewer make a smaller model")
    arguments = parser.parse_args()
    if arguments.rounds < 1:
        parser.error("--rounds must be 1 or more: the copies are the measure of the merges")
    folder = arguments.folder.resolve()
    out = folder / "out"
    head = machine()
    models = make_models(folder, arguments.layers)
    cases = make_cases(arguments, models, folder, out)
    results = run_rounds(arguments, cases, folder, out)
    gigabytes = sum((model / "model.safetensors").stat().st_size for model in models.values()) / 1e9
    print(f"{head}; {arguments.threads} threads; inputs {gigabytes:.1f} GB in the page cache; medians\n")
    print(report(cases, results))
    raw = {name: [dataclasses.asdict(m) for m in measurements] for name, measurements in results.items()}
    (folder / "merge_bench.json").write_text(json.dumps({"machine": head, "threads": arguments.threads, "results": raw}, indent=2) + "\n")


if __name__ == "__main__":
    main()

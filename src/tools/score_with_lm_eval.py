#!/usr/bin/env python3
"""Scores checkpoint folders with lm-eval on the benchmarks of the AIM paper, for `aimerge report --lm-eval OUT`.

usage:  score_with_lm_eval.py SWEEP_DIR base=BASE math=EXPERT --out OUT --run-model-code

A sweep's folder stands for every checkpoint in it that is done. Each model gets a folder OUT/NAME with lm-eval's results_*.json;
its name is the folder's unless given as NAME=FOLDER. Benchmarks that are already there are not run again.

benchmark  lm-eval's own task               with the paper's zero-shot chain-of-thought prompt (configs/lm-eval)
humaneval  humaneval (runs model's code)
mbpp       mbpp (runs model's code)
mmlu       mmlu
ifeval     ifeval
gsm8k      gsm8k                            gsm8k_paper_prompt
math       minerva_math                     math_paper_prompt

Exit codes: 0 done; 2 bad usage; 3 no such folder; 4 lm-eval failed for some model (the others are done).
"""
import argparse
import csv
import dataclasses
import importlib.util
import json
import os
import pathlib
import shlex
import subprocess
import sys

TASKS = {"humaneval": ["humaneval"], "mbpp": ["mbpp"], "mmlu": ["mmlu"], "ifeval": ["ifeval"],
         "gsm8k": ["gsm8k", "gsm8k_paper_prompt"], "math": ["minerva_math", "math_paper_prompt"]}
RUN_MODEL_CODE = {"humaneval", "mbpp"}
PARENTS = pathlib.Path(__file__).resolve().parents
# Beside this folder where aimerge is installed, one above in the source tree.
PAPER_TASKS = (PARENTS[1] if (PARENTS[1] / "configs").is_dir() else PARENTS[2]) / "configs" / "lm-eval"


def fail(code, message):
    print(f"score_with_lm_eval: {message}", file=sys.stderr)
    sys.exit(code)


@dataclasses.dataclass(frozen=True)
class Model:
    name: str
    folder: pathlib.Path


def models_of_sweep(folder):
    """The checkpoints of a sweep that are done, in its order."""
    with open(folder / "points.csv", newline="", encoding="utf-8") as file:
        done = [row["model"] for row in csv.DictReader(file) if row.get("status", "done") == "done"]
    models = [Model(name, folder / name) for name in done if (folder / name / "config.json").is_file()]
    if not models:
        fail(3, f"{folder}: points.csv names no checkpoint that is there; was the sweep run with `keep: checkpoints`?")
    return models


def models_of(arguments):
    models = []
    for argument in arguments:
        name, equals, path = argument.partition("=")
        folder = pathlib.Path(path if equals else argument)
        if not equals and (folder / "points.csv").is_file():
            models += models_of_sweep(folder)
        elif (folder / "config.json").is_file():
            models.append(Model(name if equals else folder.resolve().name, folder))
        else:
            fail(3, f"{folder}: neither a checkpoint (config.json) nor a sweep's folder (points.csv)")
    names = [model.name for model in models]
    for name in names:
        if names.count(name) > 1:
            fail(2, f"two models are called '{name}'; give one another name by NAME=FOLDER")
        if not name or "/" in name:
            fail(2, f"'{name}': a model's name is that of a folder in --out, not empty and without '/'")
    return models


def scored_tasks(folder):
    """The tasks and groups that the result files below a folder hold."""
    scored = set()
    for path in folder.rglob("results_*.json"):
        try:
            scored.update(json.loads(path.read_text(encoding="utf-8"))["results"])
        except (ValueError, KeyError) as error:
            fail(3, f"{path}: not a result file of lm-eval ({error}); remove it and run again")
    return scored


def model_arguments(model, options):
    values = {"pretrained": model.folder.resolve(), "dtype": options.dtype}
    if options.backend == "vllm":
        values["tensor_parallel_size"] = options.tensor_parallel
    return ",".join(f"{key}={value}" for key, value in values.items())


def command_line(model, tasks, options):
    command = [options.python, "-m", "lm_eval", "--model", options.backend, "--model_args", model_arguments(model, options),
               "--tasks", ",".join(tasks), "--batch_size", options.batch_size, "--include_path", options.include,
               "--output_path", options.out / model.name, "--log_samples"]
    if options.backend == "hf" and options.device:
        command += ["--device", options.device]
    if options.limit:
        command += ["--limit", options.limit]
    if RUN_MODEL_CODE & set(tasks):
        command.append("--confirm_run_unsafe_code")
    return [str(part) for part in command]


def environment(tasks):
    return {**os.environ, **({"HF_ALLOW_CODE_EVAL": "1"} if RUN_MODEL_CODE & set(tasks) else {})}


def show(command, tasks):
    variables = "HF_ALLOW_CODE_EVAL=1 " if RUN_MODEL_CODE & set(tasks) else ""
    print(variables + shlex.join(command), flush=True)


def score(model, tasks, options):
    """Whether the results of all tasks are there afterwards. lm-eval ends with 0 even when it could not write them."""
    command = command_line(model, tasks, options)
    show(command, tasks)
    code = subprocess.run(command, env=environment(tasks)).returncode
    missing = [task for task in tasks if task not in scored_tasks(options.out / model.name)]
    if code or missing:
        print(f"score_with_lm_eval: {model.name}: lm-eval ended with {code}, without results for {', '.join(missing) or 'nothing'}; "
              "see its messages above", file=sys.stderr)
    return not (code or missing)


def requested_tasks(options):
    if options.tasks:
        return options.tasks.split(",")
    unknown = [name for name in options.benchmarks.split(",") if name not in TASKS]
    if unknown:
        fail(2, f"unknown benchmark '{unknown[0]}'; choose from {', '.join(TASKS)}, or name lm-eval's tasks by --tasks")
    return [task for name in options.benchmarks.split(",") for task in TASKS[name]]


def check(options, tasks):
    code = sorted(RUN_MODEL_CODE & set(tasks))
    if code and not options.run_model_code:
        fail(2, f"{', '.join(code)}: these run code that the model writes, on this machine; do it in a container and say "
                "--run-model-code, or leave them out by --benchmarks")
    if options.backend == "hf" and options.tensor_parallel != 1:
        fail(2, "--tensor-parallel is for --backend vllm")
    if options.dry_run:
        return
    if options.python == sys.executable and not importlib.util.find_spec("lm_eval"):
        fail(2, "lm-eval is not installed here: ./launch/setup.sh --lm-eval, or name the Python that has it by --python")


def parse():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="+", metavar="[NAME=]FOLDER", help="checkpoint folders, or a sweep's folder")
    parser.add_argument("--out", type=pathlib.Path, required=True, help="gets a folder per model")
    parser.add_argument("--benchmarks", default=",".join(TASKS), help="default: all (%(default)s)")
    parser.add_argument("--tasks", help="lm-eval's tasks by name, instead of benchmarks")
    parser.add_argument("--include", type=pathlib.Path, default=PAPER_TASKS, help="folder with further tasks (default: configs/lm-eval)")
    parser.add_argument("--run-model-code", action="store_true", help="allow humaneval and mbpp to run what the model writes")
    parser.add_argument("--backend", choices=("hf", "vllm"), default="hf")
    parser.add_argument("--tensor-parallel", type=int, default=1, metavar="N", help="GPUs per model, for vllm")
    parser.add_argument("--dtype", default="auto", help="default: the checkpoint's")
    parser.add_argument("--device", help="for hf: cpu, cuda, cuda:0, ... (default: lm-eval's choice)")
    parser.add_argument("--batch-size", default="auto", help="default: %(default)s")
    parser.add_argument("--limit", help="first N items of each task only: for a trial")
    parser.add_argument("--python", default=sys.executable, help="the Python that has lm-eval (default: this one)")
    parser.add_argument("--dry-run", action="store_true", help="print the command lines, run nothing")
    return parser.parse_intermixed_args()  # models may stand behind options


def main():
    options = parse()
    tasks = requested_tasks(options)
    models = models_of(options.models)
    check(options, tasks)
    failed = []
    for number, model in enumerate(models, 1):
        missing = [task for task in tasks if task not in scored_tasks(options.out / model.name)]
        if not missing:
            print(f"[{number}/{len(models)}] {model.name}: scored", file=sys.stderr, flush=True)
            continue
        print(f"[{number}/{len(models)}] {model.name}: {', '.join(missing)}", file=sys.stderr, flush=True)
        if options.dry_run:
            show(command_line(model, missing, options), missing)
        elif not score(model, missing, options):
            failed.append(model.name)
    if failed:
        fail(4, f"{len(failed)} of {len(models)} models are not scored: {', '.join(failed)}; run the same command again")


if __name__ == "__main__":
    main()

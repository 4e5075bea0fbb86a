#!/usr/bin/env python3
"""Runs lm-eval on the items of tests/data/lm_eval through src/tools/score_with_lm_eval.py, and reads back what it says.

usage:  python lm_eval_run.py FAMILY    writes tests/data/lm_eval/goldens.json and results/, with a Python that has lm-eval
                                        (./launch/setup.sh --lm-eval); FAMILY is the folder that src/tools/make_family.py made
"""
import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parents[2]
DATA = ROOT / "tests" / "data" / "lm_eval"
SCORE = ROOT / "src" / "tools" / "score_with_lm_eval.py"
OFFLINE = {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1"}

TASK = """task: {task}
dataset_path: json
dataset_kwargs: {{data_files: {{test: {file}}}}}
output_type: {kind}
test_split: test
doc_to_text: "{{{{prompt}}}}"
target_delimiter: ""
num_fewshot: 0
"""
REQUESTS = """doc_to_target: "{{target}}"
metric_list: [{metric: acc, aggregation: mean, higher_is_better: true}]
"""
CHOICES = """doc_to_choice: "{{choices}}"
doc_to_target: "{{answer}}"
metric_list: [{metric: acc, aggregation: mean, higher_is_better: true}, {metric: acc_norm, aggregation: mean, higher_is_better: true}]
"""


def items():
    return [json.loads(line) for line in (DATA / "items.jsonl").read_text(encoding="utf-8").splitlines()]


def write_tasks(folder):
    """The items as two of lm-eval's tasks, `requests` and `choices`."""
    for task, kind, rest in (("requests", "loglikelihood", REQUESTS), ("choices", "multiple_choice", CHOICES)):
        file = folder / f"{task}.jsonl"
        file.write_text("".join(json.dumps(item) + "\n" for item in items() if item["task"] == task))
        (folder / f"{task}.yaml").write_text(TASK.format(task=task, file=file, kind=kind) + rest)


def score_command(models, out, tasks, *options):
    return [sys.executable, SCORE, *models, "--out", out, "--tasks", "requests,choices", "--include", tasks,
            "--dtype", "float32", "--device", "cpu", "--batch-size", "8", *options]


def run(model, folder):
    """Scores `base=model` into folder/out. Returns lm-eval's aggregated results."""
    tasks = folder / "tasks"
    tasks.mkdir()
    write_tasks(tasks)
    environment = {**os.environ, **OFFLINE, "HF_HOME": str(folder / "hf")}
    with open(folder / "log", "w", encoding="utf-8") as log:
        subprocess.run(score_command([f"base={model}"], folder / "out", tasks), check=True, env=environment, stdout=log, stderr=log)
    (path,) = (folder / "out" / "base").rglob("results_*.json")
    return json.loads(path.read_text())


def samples(folder, task):
    """Per item, in order, a [log-likelihood, is_greedy] for each of its requests."""
    (path,) = (folder / "out" / "base").rglob(f"samples_{task}_*.jsonl")
    rows = sorted(map(json.loads, path.read_text().splitlines()), key=lambda row: row["doc_id"])
    return [[[float(value), greedy == "True"] for ((value, greedy),) in row["resps"]] for row in rows]


def write_goldens(family):
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        results = run(family / "base", folder)
        goldens = {task: samples(folder, task) for task in ("requests", "choices")}
    (DATA / "goldens.json").write_text(json.dumps({"lm_eval": results["lm_eval_version"], **goldens}, indent=0) + "\n")
    # What is left out says where it was run, not what came out.
    for key in ("pretty_env_info", "model_name", "model_name_sanitized", "model_source", "git_hash", "upper_git_hash", "date",
                "start_time", "end_time", "total_evaluation_time_seconds", "configs"):
        results.pop(key, None)
    results["config"]["model_args"]["pretrained"] = "base"
    shutil.rmtree(DATA / "results", ignore_errors=True)
    (DATA / "results" / "base" / "base").mkdir(parents=True)
    (DATA / "results" / "base" / "base" / "results_2026-11-25T00-00-00.000000.json").write_text(json.dumps(results, indent=2) + "\n")


if __name__ == "__main__":
    write_goldens(pathlib.Path(sys.argv[1]))

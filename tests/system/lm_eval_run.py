#!/usr/bin/env python3
"""Runs lm-eval on the items of tests/data/lm_eval through src/tools/score_with_lm_eval.py, and reads back what it says.

usage:  python lm_eval_run.py FAMILY    writes goldens.json, results/, suite.jsonl and suite_goldens.json of tests/data/lm_eval, with a
                                        Python that has lm-eval (./launch/setup.sh --lm-eval); FAMILY is the folder that
                                        src/tools/make_family.py made
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
WRITE_SUITE = ROOT / "src" / "tools" / "suite_from_lm_eval.py"
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
# Tasks of lm-eval as people write them, over data of our own: choices behind a prompt with examples, and, as in WinoGrande, a
# continuation behind a choice.
BOTH_METRICS = """target_delimiter: " "
metric_list: [{metric: acc, aggregation: mean, higher_is_better: true}, {metric: acc_norm, aggregation: mean, higher_is_better: true}]
"""
SUITE_TASKS = {
    "questions": """output_type: multiple_choice
test_split: test
fewshot_split: test
num_fewshot: 2
description: "Answer the questions.\\n\\n"
doc_to_text: "Question: {{question}}\\nAnswer:"
doc_to_choice: "{{options}}"
doc_to_target: "{{right}}"
""",
    "blanks": """output_type: multiple_choice
test_split: test
doc_to_text: right
doc_to_choice: "{{[first, second]}}"
doc_to_target: end
"""}


def items():
    return [json.loads(line) for line in (DATA / "items.jsonl").read_text(encoding="utf-8").splitlines()]


def write_tasks(folder):
    """The items as two of lm-eval's tasks, `requests` and `choices`."""
    for task, kind, rest in (("requests", "loglikelihood", REQUESTS), ("choices", "multiple_choice", CHOICES)):
        file = folder / f"{task}.jsonl"
        file.write_text("".join(json.dumps(item) + "\n" for item in items() if item["task"] == task))
        (folder / f"{task}.yaml").write_text(TASK.format(task=task, file=file, kind=kind) + rest)


def write_suite_tasks(folder):
    """SUITE_TASKS, each over the file of its name."""
    for task, rest in SUITE_TASKS.items():
        source = f"task: {task}\ndataset_path: json\ndataset_kwargs: {{data_files: {{test: {DATA / task}.jsonl}}}}\n"
        (folder / f"{task}.yaml").write_text(source + rest + BOTH_METRICS)


def score_command(models, out, tasks, *options, names=("requests", "choices")):
    return [sys.executable, SCORE, *models, "--out", out, "--tasks", ",".join(names), "--include", tasks,
            "--dtype", "float32", "--device", "cpu", "--batch-size", "8", *options]


def environment(folder):
    return {**os.environ, **OFFLINE, "HF_HOME": str(folder / "hf")}


def run(model, folder, names=("requests", "choices")):
    """Scores `base=model` into folder/out. Returns lm-eval's aggregated results."""
    tasks = folder / "tasks"
    tasks.mkdir()
    write_tasks(tasks)
    write_suite_tasks(tasks)
    with open(folder / "log", "w", encoding="utf-8") as log:
        subprocess.run(score_command([f"base={model}"], folder / "out", tasks, names=names), check=True, env=environment(folder), stdout=log, stderr=log)
    (path,) = (folder / "out" / "base").rglob("results_*.json")
    return json.loads(path.read_text())


def sample_rows(folder, task):
    (path,) = (folder / "out" / "base").rglob(f"samples_{task}_*.jsonl")
    return sorted(map(json.loads, path.read_text().splitlines()), key=lambda row: row["doc_id"])


def samples(folder, task):
    """Per item, in order, a [log-likelihood, is_greedy] for each of its requests."""
    rows = sample_rows(folder, task)
    return [[[float(value), greedy == "True"] for ((value, greedy),) in row["resps"]] for row in rows]


def write_suite(folder, out):
    """SUITE_TASKS as a suite."""
    tasks = folder / "suite-tasks"
    tasks.mkdir()
    write_suite_tasks(tasks)
    subprocess.run([sys.executable, WRITE_SUITE, *SUITE_TASKS, "--include", tasks, "--out", out], check=True, env=environment(folder), capture_output=True)


def suite_scores(family, folder):
    """What lm-eval says of SUITE_TASKS on the base: per task a row per item, in order."""
    run(family / "base", folder, names=SUITE_TASKS)
    return {task: [{"loglikelihood": [float(value) for ((value, _),) in row["resps"]], "acc": row["acc"], "acc_norm": row["acc_norm"]}
                   for row in sample_rows(folder, task)] for task in SUITE_TASKS}


def write_suite_goldens(family):
    with tempfile.TemporaryDirectory() as name:
        write_suite(pathlib.Path(name), DATA / "suite.jsonl")
        scores = suite_scores(family, pathlib.Path(name))
    lines = ",\n".join(f'"{task}": [\n' + ",\n".join(map(json.dumps, rows)) + "\n]" for task, rows in scores.items())
    (DATA / "suite_goldens.json").write_text("{" + lines + "}\n")


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
    write_suite_goldens(pathlib.Path(sys.argv[1]))

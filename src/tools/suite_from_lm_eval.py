#!/usr/bin/env python3
"""Writes tasks of lm-eval as a suite for `aimerge evaluate` and sweeps: the same prompts, and of every item the same acc and acc_norm.

usage:  suite_from_lm_eval.py arc_easy hellaswag winogrande --out suite.jsonl

TASK is a task or a group whose items are choices or log-likelihoods (MMLU, ARC, HellaSwag, PIQA, WinoGrande, LAMBADA, ...); what a model has to
write freely is not. Data sets come from where lm-eval finds them: the hub's cache, or the hub.

Exit codes: 0 done; 2 bad usage, or lm-eval is not installed; 3 a task that cannot be written as a suite, or whose data cannot be loaded.
"""
import argparse
import collections
import importlib.util
import itertools
import json
import pathlib
import random
import sys

FEWSHOT_SEED = 1234  # these are lm-eval's own
PYTHON_SEED, NUMPY_SEED = 0, 1234


def fail(code, message):
    print(f"suite_from_lm_eval: {message}", file=sys.stderr)
    sys.exit(code)


def load_tasks(names, include):
    from lm_eval.tasks import TaskManager
    manager = TaskManager(include_path=include)
    tasks = {}
    for name in names:
        try:
            tasks.update(manager.load(name)["tasks"])
        except Exception as error:  # whatever a task's own code and the data set's library may say
            first_line = (str(error).strip().splitlines() or [""])[0]
            fail(3, f"{name}: lm-eval cannot load it ({type(error).__name__}: {first_line})")
    return tasks


def build_requests(task, options):
    """As lm-eval's evaluator does it."""
    import numpy
    random.seed(PYTHON_SEED)
    numpy.random.seed(NUMPY_SEED)
    own = task.get_config("num_fewshot")
    if options.num_fewshot is not None and own != 0:
        task.set_config(key="num_fewshot", value=options.num_fewshot)
    elif own is None:
        task.set_config(key="num_fewshot", value=0)
    task.set_fewshot_seed(seed=FEWSHOT_SEED)
    task.build_all_requests(limit=options.limit, rank=0, world_size=1)
    return [list(group) for _, group in itertools.groupby(task.instances, key=lambda instance: instance.doc_id)]


def right_choices(task, doc, choices, requests):
    """Asks lm-eval which choices it counts as right, by letting each be the most probable one."""
    right = []
    for best in range(choices):
        results = [(-1.0 if number == best else -1e6, False) for number in range(requests)]
        scores = task.process_results(doc, results)
        if "acc" not in scores:
            raise ValueError(f"it has no acc, but {', '.join(scores)}")
        if scores["acc"] == 1:
            right.append(best)
    return right


def choice_item(task, requests):
    doc = requests[0].doc
    choices = task.doc_to_choice(doc)
    right = right_choices(task, doc, len(choices), len(requests))
    if len(right) != 1:
        raise ValueError(f"{len(right)} of {len(choices)} choices are right, expected one")
    asked = [request.arguments for request in sorted(requests, key=lambda request: request.idx)[:len(choices)]]
    prompts, texts, lengths = [prompt for prompt, _ in asked], [text for _, text in asked], [len(choice) for choice in choices]
    if 0 in lengths:
        raise ValueError("a choice is empty")
    item = {"prompt": prompts[0]} if len(set(prompts)) == 1 else {"prompts": prompts}
    item |= {"choices": texts, "answer": right[0]}
    return item if lengths == [len(text) for text in texts] else item | {"lengths": lengths}


def likelihood_item(task, requests):
    (request,) = requests
    for is_greedy in (True, False):
        if task.process_results(request.doc, [(-1.0, is_greedy)]).get("acc") != is_greedy:
            raise ValueError("its acc is not whether the target is what greedy decoding writes")
    return {"prompt": request.arguments[0], "target": request.arguments[1]}


ITEMS = {"multiple_choice": choice_item, "loglikelihood": likelihood_item}


def items_of(name, task, options):
    item_of = ITEMS.get(task.OUTPUT_TYPE)
    if not item_of:
        fail(3, f"{name}: its items are of the kind {task.OUTPUT_TYPE}; a suite takes {' and '.join(ITEMS)}")
    for number, requests in enumerate(build_requests(task, options)):
        try:
            yield {"task": name, **item_of(task, requests)}
        except ValueError as error:
            fail(3, f"{name}: item {number} cannot be written: {error}")


def parse():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tasks", nargs="+", metavar="TASK", help="tasks or groups of lm-eval")
    parser.add_argument("--out", type=pathlib.Path, required=True, help="a .jsonl file")
    parser.add_argument("--include", type=pathlib.Path, help="folder with further tasks")
    parser.add_argument("--num-fewshot", type=int, help="examples in front of each item (default: each task's own)")
    parser.add_argument("--limit", type=int, help="first N items of each task only")
    options = parser.parse_args()
    if options.out.suffix != ".jsonl":
        parser.error(f"--out {options.out}: the name of a suite ends in .jsonl")
    return options


def main():
    options = parse()
    if not importlib.util.find_spec("lm_eval"):
        fail(2, "lm-eval is not installed here: ./launch/setup.sh --lm-eval")
    items = [item for name, task in load_tasks(options.tasks, options.include).items() for item in items_of(name, task, options)]
    options.out.write_text("".join(json.dumps(item, ensure_ascii=False) + "\n" for item in items), encoding="utf-8")
    counts = collections.Counter(item["task"] for item in items)
    print(f"{options.out}: " + ", ".join(f"{name} {count}" for name, count in counts.items()))


if __name__ == "__main__":
    main()

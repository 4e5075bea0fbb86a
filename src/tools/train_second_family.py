#!/usr/bin/env python3
"""Makes the second SmolLM2 family: three experts (dates, records, passive) of the base of make_family.py, trained in full.

    build/venv/bin/python src/tools/make_family.py build/family
    build/venv/bin/python src/tools/train_second_family.py build/second-family --base build/family/base

Writes full bfloat16 checkpoints OUT/{dates,records,passive}, OUT/suites/TASK.jsonl (60 items to score) and
OUT/texts/TASK.jsonl (200 other items, to calibrate on), and prints the exact match of the base and of each expert on every
suite. The tasks are described in second_family_tasks.py. Folders that are there are left alone. The same machine with the
same number of threads (OMP_NUM_THREADS) makes the same weights again.
"""
import argparse
import json
import pathlib
import shutil
import sys
import time

import safetensors.torch
import tokenizers
import torch
import transformers

from second_family_tasks import TASKS, items

LEARNING_RATE = 1e-4
WARMUP_STEPS = 6
ITEMS_PER_STEP = 16
SCORED_ITEMS = 60
CALIBRATION_ITEMS = 200
STEPS_PER_LINE = 10


def partial_folder(folder):
    """Everything is written under a temporary name first: a folder that carries its final name is complete."""
    partial = folder.with_name(folder.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    return partial


def write_items(folder, rows_of_task):
    if folder.is_dir():
        return
    partial = partial_folder(folder)
    for task, rows in rows_of_task.items():
        (partial / f"{task}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    partial.rename(folder)


def read_items(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def load_model(folder):
    return transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)


def write_checkpoint(folder, model, base):
    """The tensors and files of the base, with the model's values."""
    partial = partial_folder(folder)
    for file in base.iterdir():
        if file.suffix == ".json":
            shutil.copy(file, partial)
    trained = model.state_dict()
    with safetensors.safe_open(base / "model.safetensors", "pt") as weights:
        tensors = {name: trained[name].bfloat16() for name in weights.keys()}
    safetensors.torch.save_file(tensors, partial / "model.safetensors", {"format": "pt"})
    (partial / "model.safetensors").chmod(0o644)
    partial.rename(folder)


def encode(tokenizer, text):
    return tokenizer.encode(text, add_special_tokens=False).ids


def answer_logits(model, tokenizer, batch):
    """Of all target tokens, one after the other: logits, the tokens themselves, the item that each belongs to."""
    prompts = [encode(tokenizer, item["prompt"]) for item in batch]
    targets = [encode(tokenizer, item["target"]) for item in batch]
    tokens = torch.zeros(len(batch), max(len(p) + len(t) for p, t in zip(prompts, targets)), dtype=torch.long)
    is_target = torch.zeros_like(tokens, dtype=torch.bool)
    for row, (prompt, target) in enumerate(zip(prompts, targets)):
        tokens[row, :len(prompt) + len(target)] = torch.tensor(prompt + target)
        is_target[row, len(prompt):len(prompt) + len(target)] = True
    hidden = model.model(tokens).last_hidden_state[:, :-1]  # causal: the padding behind an item changes nothing before it
    return model.lm_head(hidden[is_target[:, 1:]]), tokens[is_target], is_target.nonzero()[:, 0]


@torch.no_grad()
def exact_match(model, tokenizer, scored):
    """The share of items whose every target token is the most likely one after those before it, as greedy decoding asks."""
    wrong = 0
    for start in range(0, len(scored), ITEMS_PER_STEP):
        logits, wanted, item = answer_logits(model, tokenizer, scored[start:start + ITEMS_PER_STEP])
        wrong += len(item[logits.argmax(-1) != wanted].unique())
    return 1 - wrong / len(scored)


def share_of_learning_rate(step, steps):
    return min((step + 1) / WARMUP_STEPS, (steps - step) / max(1, steps - WARMUP_STEPS))


class Progress:
    """A line at intervals, with the mean loss since the last one."""

    def __init__(self, task, steps):
        self.task, self.steps, self.losses, self.start = task, steps, [], time.monotonic()

    def add(self, step, loss):
        self.losses.append(loss)
        if step % STEPS_PER_LINE == 0 or step == self.steps:
            seconds = time.monotonic() - self.start
            left = seconds / step * (self.steps - step)
            print(f"{self.task:8} step {step:3}/{self.steps}  loss {sum(self.losses) / len(self.losses):.4f}  "
                  f"{seconds:4.0f} s, {left:4.0f} s left", flush=True)
            self.losses.clear()


def train(task, base, tokenizer, steps):
    """Every item is seen once. Products are taken in bfloat16; weights, gradients and moments are float32."""
    model = load_model(base)
    optimizer = torch.optim.AdamW(model.parameters(), lr=LEARNING_RATE, betas=(0.9, 0.98), weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: share_of_learning_rate(step, steps))
    training = items(task, "training", steps * ITEMS_PER_STEP)
    progress = Progress(task, steps)
    for step in range(steps):
        batch = training[step * ITEMS_PER_STEP:(step + 1) * ITEMS_PER_STEP]
        with torch.autocast("cpu", torch.bfloat16):
            logits, wanted, _ = answer_logits(model, tokenizer, batch)
        loss = torch.nn.functional.cross_entropy(logits.float(), wanted)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
        progress.add(step + 1, loss.item())
    return model


def print_scores(models, suites, tokenizer):
    print("exact match " + "".join(f"{task:>10}" for task in suites))
    for folder in models:
        model = load_model(folder)
        scores = [exact_match(model, tokenizer, scored) for scored in suites.values()]
        print(f"{folder.name:12}" + "".join(f"{score:10.3f}" for score in scores), flush=True)


def make_second_family(out, base, steps):
    tokenizer = tokenizers.Tokenizer.from_file(str(base / "tokenizer.json"))
    write_items(out / "suites", {task: [{"task": task, **item} for item in items(task, "scored", SCORED_ITEMS)]
                                 for task in TASKS})
    write_items(out / "texts", {task: items(task, "calibration", CALIBRATION_ITEMS) for task in TASKS})
    for task in TASKS:
        if not (out / task).is_dir():
            write_checkpoint(out / task, train(task, base, tokenizer, steps), base)
            print(f"{out / task}: written", flush=True)
    suites = {task: read_items(out / "suites" / f"{task}.jsonl") for task in TASKS}
    print_scores([base, *(out / task for task in TASKS)], suites, tokenizer)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=pathlib.Path, help="gets the folders dates, records, passive, suites and texts (0.8 GB)")
    parser.add_argument("--base", type=pathlib.Path, default=pathlib.Path("build/family/base"),
                        help="the checkpoint that the experts start from (default: %(default)s)")
    parser.add_argument("--steps", type=int, default=100,
                        help=f"of {ITEMS_PER_STEP} items, for each expert (default: %(default)s)")
    arguments = parser.parse_args()
    if not (arguments.base / "model.safetensors").is_file():
        sys.exit(f"{arguments.base}: there is no model.safetensors; make it with src/tools/make_family.py first")
    transformers.utils.logging.disable_progress_bar()
    make_second_family(arguments.out, arguments.base, arguments.steps)


if __name__ == "__main__":
    main()

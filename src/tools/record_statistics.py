#!/usr/bin/env python3
"""Takes the activation statistics of any transformers model with forward hooks, as a log that `aim.statistics` of a merge config reads: for
architectures that aimerge's own decoder does not run.

    build/venv/bin/python src/tools/record_statistics.py MODEL --corpus text.txt --out statistics.h5
    aimerge merge merge.yaml --out merged/ --set aim.statistics=statistics.h5

Measured is the input of every linear layer and of every norm, by the name of its module; embeddings are not. The corpus is a text file, or .jsonl with
the text under `text`; its documents are joined with the end-of-text token between them and cut into sequences. --token-ids takes a
.safetensors file with `input_ids` [sequences, length] instead. Needs torch, transformers and h5py (launch/setup.sh --test).
"""
import argparse
import datetime
import hashlib
import json
import pathlib
import sys

import h5py
import numpy as np
import torch
import transformers
from safetensors.numpy import load_file

FORMAT_VERSION = 1


def documents(path):
    text = path.read_text(encoding="utf-8")
    return [json.loads(line)["text"] for line in text.splitlines() if line.strip()] if path.suffix == ".jsonl" else [text]


def blocks_of(arguments, folder):
    """int64 [sequences, length]"""
    if arguments.token_ids:
        return torch.from_numpy(load_file(arguments.token_ids)["input_ids"].astype(np.int64))[:arguments.sequences]
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    ids = []
    for document in documents(arguments.corpus):
        if ids and tokenizer.eos_token_id is not None:
            ids.append(tokenizer.eos_token_id)
        ids += tokenizer(document).input_ids
    count = min(arguments.sequences, len(ids) // arguments.sequence_length)
    if count == 0:
        sys.exit(f"record_statistics: {arguments.corpus} has {len(ids)} tokens, fewer than one sequence of {arguments.sequence_length}")
    return torch.tensor(ids[:count * arguments.sequence_length]).reshape(count, arguments.sequence_length)


def is_measured(name, module):
    weight = getattr(module, "weight", None)
    if weight is None or "embed" in name:
        return False
    return isinstance(module, torch.nn.Linear) or weight.ndim == 1


class Sums:
    """Of one module's input, per channel, in float64."""

    def __init__(self):
        self.absolute = self.squares = self.largest = 0
        self.rows = 0

    def add(self, x):
        x = x.detach().reshape(-1, x.shape[-1]).double().abs()
        if not torch.isfinite(x).all():
            raise ValueError("an activation is NaN or infinite")
        self.absolute = self.absolute + x.sum(0)
        self.squares = self.squares + x.square().sum(0)
        self.largest = torch.maximum(x.amax(0), torch.as_tensor(self.largest, dtype=x.dtype, device=x.device))
        self.rows += len(x)

    def statistics(self):
        mean = self.absolute / self.rows
        return {"mean_abs": mean, "rms": (self.squares / self.rows).sqrt(), "max_abs": self.largest}


def measure(model, blocks):
    """{module: Sums}. A module that no token came to is left out."""
    sums = {}

    def hook(name):
        def add(_, inputs):
            try:
                sums.setdefault(name, Sums()).add(inputs[0])
            except ValueError as error:
                sys.exit(f"record_statistics: input of {name}: {error}")
        return add

    for name, module in model.named_modules():
        if is_measured(name, module):
            module.register_forward_pre_hook(hook(name))
    with torch.inference_mode():
        for number, block in enumerate(blocks):
            model(block[None].to(model.device), use_cache=False)
            print(f"\rrecord_statistics: {number + 1}/{len(blocks)} sequences", end="", file=sys.stderr, flush=True)
    print(file=sys.stderr)
    return sums


def file_stamps(folder):
    """As aimerge knows the weights again: name, size and time of every file."""
    index = folder / "model.safetensors.index.json"
    names = sorted(set(json.loads(index.read_text())["weight_map"].values())) if index.exists() else ["model.safetensors"]
    stamps = ""
    for name in names:
        status = (folder / name).stat()
        seconds, nanoseconds = divmod(status.st_mtime_ns, 10**9)
        stamps += f"{name} {status.st_size} {seconds}.{nanoseconds:09}\n"
    return stamps


def write_log(path, sums, blocks, arguments, folder):
    attributes = {
        "format_version": np.int64(FORMAT_VERSION), "base_model": str(arguments.model), "base_digest": "",
        "base_file_stamps": file_stamps(folder), "corpus": str(arguments.corpus or arguments.token_ids),
        "tokens_digest": hashlib.sha256(blocks.numpy().tobytes()).hexdigest(), "tokens": np.int64(blocks.numel()),
        "blocks": np.int64(blocks.shape[0]), "block_length": np.int64(blocks.shape[1]), "dtype": arguments.dtype, "micro_batch": np.int64(1),
        "vocabulary": "recorded with forward hooks", "device": arguments.device, "ranks": np.int64(1),
        "threads_per_rank": np.int64(torch.get_num_threads()), "command_line": " ".join(sys.argv),
        "created": datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ"), "tool_version": "transformers " + transformers.__version__}
    timing = [("rank", "<i8"), ("forward_seconds", "<f8"), ("wait_seconds", "<f8"), ("read_seconds", "<f8"), ("peak_memory_bytes", "<i8"),
              ("peak_device_memory_bytes", "<i8"), ("bytes_read", "<i8"), ("tokens", "<i8")]
    with h5py.File(path, "w") as file:
        for name, value in attributes.items():
            file.attrs[name] = value
        for module, own in sums.items():
            group = file.create_group(f"statistics/{module}")
            group.attrs["tokens"] = np.int64(own.rows)
            for name, values in own.statistics().items():
                group[name] = values.float().cpu().numpy()
        file["plan"] = np.zeros(1, [("rank", "<i8"), ("first_layer", "<i8"), ("last_layer", "<i8")])
        file["timing"] = np.zeros(1, timing)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=pathlib.Path, help="the base model's folder")
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--corpus", type=pathlib.Path)
    source.add_argument("--token-ids", type=pathlib.Path)
    parser.add_argument("--out", type=pathlib.Path, required=True)
    parser.add_argument("--sequences", type=int, default=256)
    parser.add_argument("--sequence-length", type=int, default=2048)
    parser.add_argument("--dtype", choices=("bfloat16", "float32"), default="bfloat16")
    parser.add_argument("--device", default="cpu", help="cpu, cuda, ...")
    arguments = parser.parse_args()
    blocks = blocks_of(arguments, arguments.model)
    model = transformers.AutoModelForCausalLM.from_pretrained(arguments.model, dtype=getattr(torch, arguments.dtype)).to(arguments.device).eval()
    sums = measure(model, blocks)
    write_log(arguments.out, sums, blocks, arguments, arguments.model)
    print(f"{arguments.out}: {len(sums)} modules over {blocks.numel()} tokens")


if __name__ == "__main__":
    main()

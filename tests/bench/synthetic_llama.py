"""Llama checkpoints with random weights, by default with TinyLlama's shapes (1.1 billion parameters, untied): a base and three experts
whose changes are as small as those of a fine-tune, 1 % of the weights, a part of which bfloat16 does not even see."""
import functools
import hashlib
import json
import multiprocessing
import os
import pathlib
import subprocess
import sys

import numpy as np

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2] / "src" / "tools"))
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "support"))
from bfloat16 import round_to_bfloat16, widen  # noqa: E402
from llama_shapes import llama_config, llama_shapes  # noqa: E402

SIZE = 2048, 5632, 32, 4, 32000  # hidden, intermediate, heads, key-value heads, vocabulary
SIZE_13B = 5120, 13824, 40, 40, 32000  # with 40 layers
VOCABULARY = SIZE[-1]
WEIGHT_SCALE, DELTA_SCALE = 0.02, 0.0002
EXPERTS = ("expert_a", "expert_b", "expert_c")


def random_values(model, name, shape):
    seed = int.from_bytes(hashlib.sha256(f"{model}/{name}".encode()).digest()[:8], "little")
    return np.random.Generator(np.random.SFC64(seed)).standard_normal(shape, dtype=np.float32)


def base_weight(name, shape):
    values = random_values("base", name, shape)
    values *= WEIGHT_SCALE
    if len(shape) == 1:
        values += 1
    return round_to_bfloat16(values)


def expert_weight(model, name, shape):
    values = random_values(model, name, shape)
    values *= DELTA_SCALE
    values += widen(base_weight(name, shape))
    return round_to_bfloat16(values)


def write_tensor(path, model, tensor):
    name, shape, offset = tensor
    with open(path, "r+b") as file:
        file.seek(offset)
        file.write((base_weight(name, shape) if model == "base" else expert_weight(model, name, shape)).data)


def write_model(folder, model, size, layers):
    """A tensor per processor at a time, so that no more than those are in memory."""
    partial = folder.with_name(folder.name + ".partial")
    partial.mkdir(parents=True, exist_ok=True)
    header, tensors, offset = {"__metadata__": {"format": "pt"}}, [], 0
    for name, shape in sorted(llama_shapes(*size, layers).items()):
        end = offset + 2 * int(np.prod(shape))
        header[name] = {"dtype": "BF16", "shape": shape, "data_offsets": [offset, end]}
        tensors.append((name, shape, offset))
        offset = end
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    path = partial / "model.safetensors"
    path.write_bytes(len(text).to_bytes(8, "little") + text)
    tensors = [(name, shape, 8 + len(text) + offset) for name, shape, offset in tensors]
    with multiprocessing.Pool(len(os.sched_getaffinity(0))) as pool:
        pool.map(functools.partial(write_tensor, path, model), tensors, chunksize=1)
    (partial / "config.json").write_text(json.dumps(llama_config(*size, layers, positions=2048), indent=2) + "\n")
    partial.rename(folder)


def make_models(folder, layers, size=SIZE, models=("base", *EXPERTS)):
    """{name: folder} of the base and the experts, written when they are not there yet. By a process of its own: a command's peak
    memory, as the kernel counts it, starts from that of the process that starts it."""
    paths = {model: folder / f"{layers}-layers" / model for model in models}
    for model, path in paths.items():
        if not path.is_dir():
            print(f"writing {path}", file=sys.stderr, flush=True)
            subprocess.run([sys.executable, __file__, path, model, *map(str, (*size, layers))], check=True)
    return paths


if __name__ == "__main__":
    *size, layers = map(int, sys.argv[3:])
    write_model(pathlib.Path(sys.argv[1]), sys.argv[2], size, layers)

"""Llama checkpoints with TinyLlama's shapes (1.1 billion parameters, untied) and random weights: a base and three experts whose
changes are as small as those of a fine-tune, 1 % of the weights, a part of which bfloat16 does not even see."""
import hashlib
import json
import pathlib
import subprocess
import sys

import numpy as np

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2] / "src" / "tools"))
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "support"))
from bfloat16 import round_to_bfloat16, widen  # noqa: E402
from llama_shapes import llama_config, llama_shapes  # noqa: E402

SIZE = 2048, 5632, 32, 4, 32000  # hidden, intermediate, heads, key-value heads, vocabulary
VOCABULARY = SIZE[-1]
WEIGHT_SCALE, DELTA_SCALE = 0.02, 0.0002
EXPERTS = ("expert_a", "expert_b", "expert_c")


def shapes(layers):
    return dict(sorted(llama_shapes(*SIZE, layers).items()))


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


def write_model(folder, model, layers):
    """Tensor by tensor, so that no more than one is in memory."""
    partial = folder.with_name(folder.name + ".partial")
    partial.mkdir(parents=True, exist_ok=True)
    header, offset = {"__metadata__": {"format": "pt"}}, 0
    for name, shape in shapes(layers).items():
        end = offset + 2 * int(np.prod(shape))
        header[name] = {"dtype": "BF16", "shape": shape, "data_offsets": [offset, end]}
        offset = end
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with open(partial / "model.safetensors", "wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for name, shape in shapes(layers).items():
            file.write((base_weight(name, shape) if model == "base" else expert_weight(model, name, shape)).data)
    config = llama_config(*SIZE, layers, positions=2048)
    (partial / "config.json").write_text(json.dumps(config, indent=2) + "\n")
    partial.rename(folder)


def make_models(folder, layers):
    """{name: folder} of the base and the experts, written when they are not there yet. By a process of its own: a command's peak
    memory, as the kernel counts it, starts from that of the process that starts it."""
    models = {model: folder / f"{layers}-layers" / model for model in ("base", *EXPERTS)}
    for model, path in models.items():
        if not path.is_dir():
            print(f"writing {path}", file=sys.stderr, flush=True)
            subprocess.run([sys.executable, __file__, path, model, str(layers)], check=True)
    return models


if __name__ == "__main__":
    write_model(pathlib.Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]))

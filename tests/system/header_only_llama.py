"""Checkpoints of Llama-2-70B's shapes whose weights are holes in their files: as large as the real ones for whoever reads headers, and a few MB on
disk."""
import json
import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "support"))
from llama_shapes import llama_config, llama_shapes  # noqa: E402

SIZE = 8192, 28672, 64, 8, 32000  # hidden, intermediate, heads, key-value heads, vocabulary
LAYERS = 80
SHARDS = 15
PARAMETERS = 68_976_648_192


def shapes():
    return llama_shapes(*SIZE, LAYERS)


def byte_count(shape):
    return 2 * shape[0] * (shape[1] if len(shape) > 1 else 1)


def write_shard(path, tensors):
    header, offset = {"__metadata__": {"format": "pt"}}, 0
    for name, shape in tensors.items():
        header[name] = {"dtype": "BF16", "shape": shape, "data_offsets": [offset, offset + byte_count(shape)]}
        offset += byte_count(shape)
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        file.truncate(file.tell() + offset)


def write_model(folder):
    folder.mkdir(parents=True)
    named = shapes()
    names = list(named)
    per_shard = -(-len(names) // SHARDS)
    weight_map = {}
    for shard in range(SHARDS):
        file = f"model-{shard + 1:05}-of-{SHARDS:05}.safetensors"
        own = {name: named[name] for name in names[shard * per_shard:(shard + 1) * per_shard]}
        write_shard(folder / file, own)
        weight_map.update(dict.fromkeys(own, file))
    total = sum(map(byte_count, named.values()))
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {"total_size": total}, "weight_map": weight_map}))
    (folder / "config.json").write_text(json.dumps(llama_config(*SIZE, LAYERS, positions=4096)))
    return folder


def merge_config(folder):
    """A base and three experts below the folder, and the config that merges them with AIM by the paper's preset."""
    models = [write_model(folder / name) for name in ("base", "code", "instruct", "math")]
    return {"merge_method": "ties", "base_model": str(models[0]), "dtype": "bfloat16",
            "models": [{"model": str(model), "parameters": {"weight": 1.0, "density": 0.5}} for model in models[1:]],
            "aim": {"omega": 0.4, "preset": "paper", "calibration": {"corpus": "pile.jsonl"}}}

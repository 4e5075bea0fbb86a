"""Checkpoints of Llama-2-70B's shapes without their weights."""
import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "support"))
from header_only import write_model  # noqa: E402
from llama_shapes import llama_config, llama_shapes  # noqa: E402

SIZE = 8192, 28672, 64, 8, 32000  # hidden, intermediate, heads, key-value heads, vocabulary
LAYERS = 80
SHARDS = 15
PARAMETERS = 68_976_648_192


def merge_config(folder):
    """A base and three experts below the folder, and the config that merges them with AIM by the paper's preset."""
    named, config = llama_shapes(*SIZE, LAYERS), llama_config(*SIZE, LAYERS, positions=4096)
    models = [write_model(folder / name, named, config, SHARDS) for name in ("base", "code", "instruct", "math")]
    return {"merge_method": "ties", "base_model": str(models[0]), "dtype": "bfloat16",
            "models": [{"model": str(model), "parameters": {"weight": 1.0, "density": 0.5}} for model in models[1:]],
            "aim": {"omega": 0.4, "preset": "paper", "calibration": {"corpus": "pile.jsonl"}}}

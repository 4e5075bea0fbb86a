#!/usr/bin/env python3
"""A merged checkpoint relaxed by AIM in Python, as a script around mergekit would do it: tensor by tensor in float32 with torch.

    tests/bench/relax.py BASE MERGED STATISTICS OUT --omega 0.4
"""
import argparse
import pathlib
import shutil

import h5py
import torch
from safetensors import safe_open
from safetensors.torch import save_file


class Folder:
    """A checkpoint of one file or several."""

    def __init__(self, path):
        self.files = [safe_open(file, "pt") for file in sorted(path.glob("*.safetensors"))]
        self.file_of = {name: file for file in self.files for name in file.keys()}

    def tensor(self, name):
        return self.file_of[name].get_tensor(name)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("base", "merged", "statistics", "out"):
        parser.add_argument(name, type=pathlib.Path)
    parser.add_argument("--omega", type=float, required=True)
    arguments = parser.parse_args()
    base, merged = Folder(arguments.base), Folder(arguments.merged)
    with h5py.File(arguments.statistics) as log:
        activity = {module: torch.from_numpy(log[f"statistics/{module}/mean_abs"][:]) for module in log["statistics"]}
    relaxed = {}
    for name in merged.file_of:
        theta = merged.tensor(name)
        a = activity.get(name.removesuffix(".weight"))
        if a is not None and "embed" not in name:
            start = base.tensor(name).float()
            theta = (start + (1 - a / a.max() * (1 - arguments.omega)) * (theta.float() - start)).to(theta.dtype)
        relaxed[name] = theta
    arguments.out.mkdir(parents=True)
    save_file(relaxed, arguments.out / "model.safetensors", metadata={"format": "pt"})
    shutil.copy(arguments.base / "config.json", arguments.out)


if __name__ == "__main__":
    main()

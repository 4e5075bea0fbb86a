"""Tests of feature calibration on tiny random models (featcal_reference.py)."""
import json
import re
import shutil

import numpy as np
from safetensors.numpy import load_file, save_file

from aimerge_command import AimergeTest, as_float, read_folder
from featcal_reference import make_models, make_texts


class FeatcalTest(AimergeTest):
    """Experts one and two of a base, in a folder of their own, each with random tokens."""

    def make(self, family="llama", **differences):
        self.models = make_models(self.folder / "models" / re.sub(r"\W+", "-", family), family, **differences)

    def text(self, name, blocks=10, length=24, **keys):
        """The calibration section for token ids of a model's own; self.ids has them."""
        path = self.folder / f"{name}-{blocks}x{length}.safetensors"
        if not hasattr(self, "ids"):
            self.ids = {}
        self.ids[name] = make_texts(path, blocks, length, sum(map(ord, name)))
        return {"token_ids": str(path), "dtype": "float32", **keys}

    def plain_config(self, method="linear", experts=("one", "two"), **keys):
        entries = [{"model": str(self.models[name]), "parameters": {"weight": 0.5}} for name in experts]
        if method == "passthrough":
            del entries[0]["parameters"]
        if method in ("task_arithmetic", "ties"):
            keys = {"base_model": str(self.models["base"]), **keys}
        return {"merge_method": method, "dtype": "float32", "models": entries, **keys}

    def expert(self, name, weight=None, **text):
        entry = {"model": str(self.models[name]), "calibration": self.text(name, **text)}
        return entry if weight is None else {**entry, "weight": weight}

    def featcal_config(self, experts=None, plain=None, **featcal):
        """@param experts entries of featcal.experts @param plain the config without featcal"""
        return {**(plain or self.plain_config()), "featcal": {"experts": experts or [self.expert("one"), self.expert("two")], **featcal}}

    def merged(self, name, config, *options, **keywords):
        out = self.folder / name
        self.aimerge("merge", self.config(config, f"{name}.yaml"), "--out", out, "--threads", 1, *options, **keywords)
        return out

    def values(self, out):
        return {name: as_float(entry).astype(np.float64) for name, entry in read_folder(out).items()}

    def plain_of(self, config, name="plain"):
        return self.merged(name, {key: value for key, value in config.items() if key != "featcal"})

    def assert_same(self, got, wanted, what=""):
        """Tensors or files by name. A diff of their bytes would take minutes."""
        self.assertEqual(set(got), set(wanted), what)
        self.assertEqual([name for name in got if got[name] != wanted[name]], [], what)

    def changed(self, name, target, **values):
        """A copy of a model with one number in its place. @return the folder"""
        folder = self.folder / target
        shutil.copytree(self.models[name], folder)
        tensors = load_file(folder / "model.safetensors")
        for tensor, value in values.items():
            tensors[tensor].flat[5] = value
        save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
        return folder

    def tokens(self, out):
        return self.manifest(out)["featcal"]["tokens"]

    def manifest(self, out):
        return json.loads((out / "aimerge_manifest.json").read_text())

"""What a user does wrong, and what disks and networks do to files: for every row the exit code, one line that names the place
and the fault, and no output, within bounded time and memory."""
import dataclasses
import json
import os
import pathlib
import resource
import shutil
import struct
import subprocess
import tempfile
import typing
import unittest

import h5py
import numpy as np
from safetensors.numpy import load_file, save_file

from aimerge_command import BINARY, GOLDENS, AimergeTest, environment

USAGE, INPUT, FAULT = 2, 3, 4
FAMILY = GOLDENS / "family_f32"
MEMORY_LIMIT = 6 << 30  # address space of a command; libtorch alone maps 1.5 GB
SECONDS = 60


@dataclasses.dataclass
class Row:
    name: str
    code: int
    words: tuple  # all stand in the message
    make: typing.Callable  # of a Case: the command's arguments


class Case(AimergeTest):
    """What a row works in: a folder and pieces of jobs in it to be spoilt."""

    def __init__(self, folder):
        super().__init__()
        self.folder, self.cache = folder, folder / "cache"

    def write(self, name, content):
        path = self.folder / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    def merge(self, config, *options):
        path = config if isinstance(config, pathlib.Path) else self.config(config)
        return ["merge", path, "--out", self.folder / "out", "--threads", 1, *options]

    def model(self, name="broken", of="expert_a"):
        folder = self.folder / name
        shutil.copytree(FAMILY / of, folder, copy_function=shutil.copyfile)
        return folder

    def merging(self, expert, *options, **keys):
        config = self.merge_config(experts=(), **keys)
        config["models"] = [{"model": str(expert), "parameters": {"weight": 1.0}}]
        return self.merge(config, *options)

    def weights(self, content):
        """A merge with an expert whose weights are these bytes."""
        folder = self.model()
        (folder / "model.safetensors").write_bytes(content)
        return self.merging(folder)

    def header(self, text, data=bytes(8)):
        text = text if isinstance(text, bytes) else text.encode()
        return self.weights(len(text).to_bytes(8, "little") + text + data)

    def entry(self, data=bytes(8), **changes):
        """A file of one tensor. A change to None leaves the key out."""
        entry = {"dtype": "U8", "shape": [8], "data_offsets": [0, 8], **changes}
        return self.header(json.dumps({"a": {key: value for key, value in entry.items() if value is not None}}), data)

    def sharded(self, change=lambda folder, index: None):
        """A merge with an expert in two shards. @param change of its folder and its index, which is written afterwards"""
        folder = self.model()
        tensors = load_file(folder / "model.safetensors")
        names = sorted(tensors)
        index = {"metadata": {"total_size": sum(t.nbytes for t in tensors.values())}, "weight_map": {}}
        for number, half in enumerate((names[:len(names) // 2], names[len(names) // 2:]), 1):
            file = f"model-0000{number}-of-00002.safetensors"
            save_file({name: tensors[name] for name in half}, folder / file, metadata={"format": "pt"})
            index["weight_map"].update({name: file for name in half})
        (folder / "model.safetensors").unlink()
        index = change(folder, index) or index
        (folder / "model.safetensors.index.json").write_text(index if isinstance(index, str) else json.dumps(index))
        return self.merging(folder)

    def mapped(self, place):
        """A merge with an expert whose index has `place` for one of its tensors."""
        return self.sharded(lambda folder, index: index["weight_map"].update({"model.norm.weight": place}))

    def model_config(self, **changes):
        folder = self.model()
        config = {**json.loads((folder / "config.json").read_text()), **changes}
        (folder / "config.json").write_text(json.dumps({key: value for key, value in config.items() if value is not None}))
        return folder

    def tensors(self, change, of="expert_a"):
        folder = self.model(of=of)
        tensors = load_file(folder / "model.safetensors")
        change(tensors)
        save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
        return folder

    def element(self, tensor, value, of="expert_a"):
        return self.tensors(lambda tensors: tensors[tensor].__setitem__((0,) * tensors[tensor].ndim, value), of)

    def with_base(self, base, omega=None, **aim):
        config = {**self.merge_config(omega=omega), "base_model": str(base)}
        if aim:
            config["aim"].update(aim)
        return self.merge(config)

    def calibration(self, **keys):
        config = self.merge_config()
        config["aim"] = {"omega": 0.4, "calibration": {"sequences": 2, "sequence_length": 16, "dtype": "float32", **keys}}
        return self.merge(config)

    def corpus(self, content, name="corpus.txt", **keys):
        return self.calibration(corpus=str(self.write(name, content)), **keys)

    def ids(self, array, name="ids.safetensors"):
        path = self.folder / name
        if name.endswith(".npy"):
            np.save(path, array)
        else:
            save_file({"input_ids": array}, path)
        return self.calibration(token_ids=str(path))

    def statistics(self, change=None, content=None):
        """A merge by a log that was spoilt. @param change of the open h5py file; @param content instead of it"""
        log = self.folder / "stats.h5"
        if content is None:
            log.write_bytes(statistics_log()[512:])  # without its checksum
            with h5py.File(log, "r+") as file:
                change(file)
        else:
            log.write_bytes(content)
        config = self.merge_config()
        config["aim"] = {"omega": 0.4, "statistics": str(log)}
        return self.merge(config)

    def changed(self, **keys):
        """A merge of a config with these keys; None leaves one out."""
        config = {**self.merge_config(), **keys}
        return self.merge({key: value for key, value in config.items() if value is not None})

    def text(self, text):
        return self.merge(self.write("merge.yaml", text))

    def adapter(self, change=lambda folder, config: None):
        """A merge with an adapter of one module. @param change of its folder and its config, which is written afterwards"""
        folder = self.folder / "adapter"
        folder.mkdir()
        config = {"peft_type": "LORA", "r": 2, "lora_alpha": 4, "target_modules": ["q_proj"], "base_model_name_or_path": str(FAMILY / "base")}
        stem = "base_model.model.model.layers.0.self_attn.q_proj"
        save_file({f"{stem}.lora_A.weight": np.ones((2, 64), np.float32), f"{stem}.lora_B.weight": np.ones((64, 2), np.float32)},
                  folder / "adapter_model.safetensors")
        change(folder, config)
        (folder / "adapter_config.json").write_text(json.dumps(config))
        return self.merging(folder)

    def sweep(self, **keys):
        config = {"base_model": str(FAMILY / "base"), "experts": {"a": str(FAMILY / "expert_a"), "b": str(FAMILY / "expert_b")},
                  "methods": ["task_arithmetic"], "omega": [1.0], "output": {"directory": str(self.folder / "out")}, **keys}
        return ["sweep", self.config({key: value for key, value in config.items() if value is not None}, "sweep.yaml")]

    def suite(self, content, name="suite.jsonl"):
        return ["evaluate", FAMILY / "base", "--suite", self.write(name, content)]

    def scores(self, text):
        return ["report", "--scores", self.write("scores.csv", text), "--out", self.folder / "out"]

    def lm_eval(self, content):
        results = self.folder / "results/m"
        results.mkdir(parents=True)
        (results / "results_1.json").write_text(content)
        return [*self.scores("model,kind,method,combination\nb,base,,\na,expert,,\nm,merged,ties,a\n"), "--lm-eval", self.folder / "results"]


LOG = []


def statistics_log():
    """The bytes of a log over the golden family's base; made once."""
    if not LOG:
        with tempfile.TemporaryDirectory(prefix="aimerge-test-") as folder:
            case = Case(pathlib.Path(folder))
            config = case.config({"base_model": str(FAMILY / "base"), "aim": case.merge_config(omega=0.4)["aim"]})
            case.aimerge("calibrate", config, "--out", case.folder / "log.h5", "--threads", 1)
            LOG.append((case.folder / "log.h5").read_bytes())
    return LOG[0]


def u64(number):
    return number.to_bytes(8, "little")


SAFETENSORS = [
    Row("empty file", INPUT, ("model.safetensors", "0 bytes"), lambda c: c.weights(b"")),
    Row("seven bytes", INPUT, ("model.safetensors", "7 bytes"), lambda c: c.weights(b"\x02\0\0\0\0\0\0")),
    Row("header longer than the file", INPUT, ("model.safetensors", "10000000 bytes"), lambda c: c.weights(u64(10**7) + b"{}")),
    Row("header above the format's limit", INPUT, ("model.safetensors", "100000001"), lambda c: c.weights(u64(10**8 + 1) + b"{}")),
    Row("header of 2^63 bytes", INPUT, ("model.safetensors", "9223372036854775808"), lambda c: c.weights(u64(2**63) + b"{}")),
    Row("header of 2^64-1 bytes", INPUT, ("model.safetensors", "18446744073709551615"), lambda c: c.weights(u64(2**64 - 1) + b"{}")),
    Row("header of zeros", INPUT, ("model.safetensors", "does not begin with '{'"), lambda c: c.header(bytes(64))),
    Row("not JSON", INPUT, ("model.safetensors", "not valid JSON at byte"), lambda c: c.header("{nonsense}")),
    Row("a list", INPUT, ("model.safetensors", "'{'"), lambda c: c.header("[]")),
    Row("NUL after the JSON", INPUT, ("NUL byte",), lambda c: c.header(b"{}\0\0")),
    Row("invalid UTF-8", INPUT, ("not valid JSON",), lambda c: c.header(b'{"\xff": 1}')),
    Row("lone surrogate", INPUT, ("not valid JSON",), lambda c: c.header(r'{"\ud800": 1}')),
    Row("a tensor twice", INPUT, ("tensor a is listed twice",),
        lambda c: c.header('{"a":{"dtype":"U8","shape":[8],"data_offsets":[0,8]},"a":{"dtype":"U8","shape":[8],"data_offsets":[0,8]}}')),
    Row("a key twice", INPUT, ("dtype", "twice"), lambda c: c.header('{"a":{"dtype":"U8","dtype":"U8","shape":[8],"data_offsets":[0,8]}}')),
    Row("metadata twice", INPUT, ("__metadata__ is written twice",), lambda c: c.header('{"__metadata__":{},"__metadata__":{}}')),
    Row("metadata of a number", INPUT, ("__metadata__.k is a number",), lambda c: c.header('{"__metadata__":{"k":1}}')),
    Row("no dtype", INPUT, ("tensor a has no dtype",), lambda c: c.entry(dtype=None)),
    Row("no shape", INPUT, ("tensor a has no shape",), lambda c: c.entry(shape=None)),
    Row("no offsets", INPUT, ("tensor a has no data_offsets",), lambda c: c.entry(data_offsets=None)),
    Row("unknown key", INPUT, ("tensor a", "scale"), lambda c: c.entry(scale=1)),
    Row("unknown dtype", INPUT, ("unknown dtype F12",), lambda c: c.entry(dtype="F12")),
    Row("negative dimension", INPUT, ("shape of tensor a has -8",), lambda c: c.entry(shape=[-8])),
    Row("fractional dimension", INPUT, ("shape of tensor a has 8.0",), lambda c: c.entry(shape=[8.0])),
    Row("65-bit dimension", INPUT, ("tensor a",), lambda c: c.entry(shape=[2**64])),
    Row("shape beyond 64 bits", INPUT, ("tensor a", "2^63-1 elements"), lambda c: c.entry(shape=[2**32, 2**32])),
    Row("bytes beyond 64 bits", INPUT, ("tensor a", "2^64"), lambda c: c.entry(dtype="F64", shape=[2**61])),
    Row("too many dimensions", INPUT, ("64 dimensions",), lambda c: c.entry(shape=[1] * 65)),
    Row("three offsets", INPUT, ("tensor a has 3 numbers",), lambda c: c.entry(data_offsets=[0, 8, 8])),
    Row("end before begin", INPUT, ("tensor a",), lambda c: c.entry(data_offsets=[8, 0])),
    Row("offsets of 2^64-1", INPUT, ("tensor a",), lambda c: c.entry(data_offsets=[0, 2**64 - 1])),
    Row("hole at the beginning", INPUT, ("a",), lambda c: c.entry(shape=[4], data_offsets=[4, 8])),
    Row("overlap", INPUT, ("overlap",),
        lambda c: c.header('{"a":{"dtype":"U8","shape":[6],"data_offsets":[0,6]},"b":{"dtype":"U8","shape":[6],"data_offsets":[2,8]}}')),
    Row("bytes that no tensor has", INPUT, ("4 bytes follow the last tensor",), lambda c: c.entry(data=bytes(12))),
    Row("data cut short", INPUT, ("model.safetensors", "missing"), lambda c: c.entry(data=bytes(5))),
    Row("a hundred thousand lists deep", INPUT, ("model.safetensors",), lambda c: c.header('{"a":' + "[" * 100_000)),
    Row("a hundred thousand objects deep", INPUT, ("model.safetensors",), lambda c: c.header('{"a":' * 100_000)),
    Row("a million tensors", INPUT, ("layer 0", "num_hidden_layers"),
        lambda c: c.header("{" + ",".join(f'"t{i}":{{"dtype":"U8","shape":[0],"data_offsets":[0,0]}}' for i in range(10**6)) + "}", b"")),
    Row("a name with a line break", INPUT, (r"tensor a\nb has the unknown dtype F12",),
        lambda c: c.header('{"a\\nb":{"dtype":"F12","shape":[8],"data_offsets":[0,8]}}')),
    Row("a name with a NUL", INPUT, ("model.safetensors",),
        lambda c: c.header('{"a\\u0000b":{"dtype":"F12","shape":[8],"data_offsets":[0,8]}}')),
    Row("a PyTorch archive", INPUT, ("model.safetensors", "not a safetensors file"), lambda c: c.weights(b"PK\x03\x04\0\0\x08\x08" + bytes(100))),
    Row("a git-lfs pointer", INPUT, ("git lfs pull",),
        lambda c: c.weights(b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n")),
    Row("an HTML page", INPUT, ("model.safetensors", "not a safetensors file"), lambda c: c.weights(b"<!DOCTYPE html><html>Not found</html>")),
]


def replaced_by(make):
    """A merge with an expert whose weights file is something else. @param make of the path, where nothing is"""
    def row(case):
        folder = case.model()
        (folder / "model.safetensors").unlink()
        make(folder / "model.safetensors")
        return case.merging(folder)
    return row


def removed(name):
    def row(case):
        folder = case.model()
        (folder / name).unlink()
        return case.merging(folder)
    return row


def renamed(name):
    def row(case):
        folder = case.model()
        (folder / "model.safetensors").rename(folder / name)
        return case.merging(folder)
    return row


def with_file(name, content):
    def row(case):
        folder = case.model()
        (folder / name).write_text(content)
        return case.merging(folder)
    return row


def second_shard_as(content):
    return lambda c: c.sharded(lambda folder, index: (folder / "model-00002-of-00002.safetensors").write_bytes(content) and None)


FILES = [
    Row("a folder in place of the weights", INPUT, ("model.safetensors",), replaced_by(lambda path: path.mkdir())),
    Row("a dangling link", INPUT, ("model.safetensors",), replaced_by(lambda path: path.symlink_to("nowhere"))),
    Row("a link to itself", INPUT, ("model.safetensors",), replaced_by(lambda path: path.symlink_to(path))),
    Row("a pipe in place of the weights", INPUT, ("model.safetensors",), replaced_by(os.mkfifo)),
    Row("no weights", INPUT, ("broken", "no weights"), removed("model.safetensors")),
    Row("safetensors under a PyTorch name", INPUT, ("pytorch_model.bin", "begins with"), renamed("pytorch_model.bin")),
    Row("PyTorch weights of another name", INPUT, ("model.pt", "pytorch_model.bin"), renamed("model.pt")),
    Row("GGUF weights only", INPUT, ("model.gguf", "safetensors"), renamed("model.gguf")),
    Row("shards without their index", INPUT, ("broken", "index"),
        lambda c: (c.sharded(), (c.folder / "broken/model.safetensors.index.json").unlink(), c.merging(c.folder / "broken"))[2]),
    Row("one of two shards alone", INPUT, ("broken", "num_hidden_layers"),
        lambda c: (c.sharded(), (c.folder / "broken/model.safetensors.index.json").unlink(),
                   (c.folder / "broken/model-00002-of-00002.safetensors").unlink(), c.merging(c.folder / "broken"))[3]),
    Row("index that is no JSON", INPUT, ("index.json", "not valid JSON"), lambda c: c.sharded(lambda folder, index: "{")),
    Row("index that is a list", INPUT, ("index.json",), lambda c: c.sharded(lambda folder, index: "[]")),
    Row("index without weight_map", INPUT, ("index.json", "weight_map"), lambda c: c.sharded(lambda folder, index: "{}")),
    Row("weight_map that is a list", INPUT, ("index.json", "weight_map"), lambda c: c.sharded(lambda folder, index: '{"weight_map":[]}')),
    Row("weight_map that is empty", INPUT, ("index.json",), lambda c: c.sharded(lambda folder, index: '{"weight_map":{}}')),
    Row("a tensor twice in the index", INPUT, ("index.json", "twice"),
        lambda c: c.sharded(lambda folder, index: '{"weight_map":{"a":"x.safetensors","a":"x.safetensors"}}')),
    Row("a number for a shard", INPUT, ("index.json", "model.norm.weight"), lambda c: c.mapped(1)),
    Row("a shard in the folder above", INPUT, ("index.json", "../"), lambda c: c.mapped("../expert/model.safetensors")),
    Row("a shard by an absolute path", INPUT, ("index.json", "/etc/passwd"), lambda c: c.mapped("/etc/passwd")),
    Row("a shard of no name", INPUT, ("index.json", "model.norm.weight"), lambda c: c.mapped("")),
    Row("a shard that is missing", INPUT, ("model-00003-of-00003.safetensors", "missing"), lambda c: c.mapped("model-00003-of-00003.safetensors")),
    Row("a tensor in the other shard", INPUT, ("model.norm.weight", "model-00001-of-00002.safetensors"),
        lambda c: c.mapped("model-00001-of-00002.safetensors")),
    Row("an empty shard", INPUT, ("model-00002-of-00002.safetensors",), second_shard_as(b"\0")),
    Row("a tensor in two shards", INPUT, ("both model-00001-of-00002.safetensors and",),
        lambda c: c.sharded(lambda folder, index: shutil.copyfile(folder / "model-00002-of-00002.safetensors",
                                                                  folder / "model-00001-of-00002.safetensors") and None)),
    Row("total_size that is a text", INPUT, ("total_size",), lambda c: c.sharded(lambda folder, index: index["metadata"].update(total_size="8"))),
]

UP = "model.layers.1.mlp.up_proj.weight"

MODELS = [
    Row("a folder that is missing", INPUT, ("nowhere",), lambda c: c.merging(c.folder / "nowhere")),
    Row("a file in place of a folder", INPUT, ("file.bin",), lambda c: c.merging(c.write("file.bin", "x"))),
    Row("no config.json", INPUT, ("config.json",), removed("config.json")),
    Row("config.json that is cut", INPUT, ("config.json", "not valid JSON"), with_file("config.json", '{"a": ')),
    Row("config.json that is a list", INPUT, ("config.json", "array"), with_file("config.json", "[]")),
    Row("config.json with a key twice", INPUT, ("config.json", "twice"), with_file("config.json", '{"a": 1, "a": 1}')),
    Row("config.json that is deep", INPUT, ("config.json", "64 levels"), with_file("config.json", '{"a": ' + "[" * 10**5)),
    Row("other architecture", INPUT, ("MistralForCausalLM", "LlamaForCausalLM"),
        lambda c: c.merging(c.model_config(architectures=["MistralForCausalLM"], model_type="mistral"))),
    Row("other number of layers", INPUT, ("num_hidden_layers", "4"), lambda c: c.merging(c.model_config(num_hidden_layers=4))),
    Row("other number of heads", INPUT, ("num_attention_heads", "8"), lambda c: c.merging(c.model_config(num_attention_heads=8))),
    Row("other key-value heads", INPUT, ("num_key_value_heads",), lambda c: c.merging(c.model_config(num_key_value_heads=1))),
    Row("other width", INPUT, ("hidden_size",), lambda c: c.merging(c.model_config(hidden_size=128))),
    Row("a head that is missing", INPUT, ("lm_head.weight", "tie_word_embeddings"), lambda c: c.merging(c.tensors(lambda t: t.pop("lm_head.weight")))),
    Row("a width that is text", INPUT, ("hidden_size", "64"), lambda c: c.merging(c.model_config(hidden_size="64"))),
    Row("no number of layers", INPUT, ("num_hidden_layers",), lambda c: c.merging(c.model_config(num_hidden_layers=None))),
    Row("layers below zero", INPUT, ("num_hidden_layers", "-1"), lambda c: c.merging(c.model_config(num_hidden_layers=-1))),
    Row("2^63 layers", INPUT, ("num_hidden_layers",), lambda c: c.merging(c.model_config(num_hidden_layers=2**63))),
    Row("quantised", INPUT, ("quantised",), lambda c: c.merging(c.model_config(quantization_config={"bits": 4}))),
    Row("wrong shape", INPUT, (UP, "[160, 65]", "[160, 64]"),
        lambda c: c.merging(c.tensors(lambda t: t.update({UP: np.zeros((160, 65), np.float32)})))),
    Row("a layer missing", INPUT, ("layer 1", "num_hidden_layers"),
        lambda c: c.merging(c.tensors(lambda t: [t.pop(name) for name in list(t) if ".layers.1." in name]))),
    Row("a tensor that only an expert has", INPUT, (UP, "nothing to merge it with"), lambda c: c.with_base(c.tensors(lambda t: t.pop(UP), "base"), 0.4)),
    Row("a tensor too many", INPUT, ("model.layers.1.extra.weight",),
        lambda c: c.merging(c.tensors(lambda t: t.update({"model.layers.1.extra.weight": np.zeros(4, np.float32)})))),
    Row("whole numbers for weights", INPUT, (UP, "I32"), lambda c: c.merging(c.tensors(lambda t: t.update({UP: t[UP].astype(np.int32)})))),
    Row("a layer too many", INPUT, ("model.layers.3", "num_hidden_layers"),
        lambda c: c.merging(c.tensors(lambda t: t.update({"model.layers.3.mlp.up_proj.weight": t[UP]})))),
    Row("other vocabulary", INPUT, ("model.embed_tokens.weight", "320", "321", "tokenizer_source"), lambda c: c.merging(FAMILY / "expert_c")),
    Row("a model of the hub that is not here", INPUT, ("some-org/some-model", "download"), lambda c: c.merging("some-org/some-model")),
    Row("an adapter as the base", INPUT, ("adapter",),
        lambda c: c.merge({**c.merge_config(), "base_model": str(c.adapter() and c.folder / "adapter")})),
    Row("an adapter of another kind", INPUT, ("adapters of kind XLORA", "merge_and_unload"), lambda c: c.adapter(lambda folder, config: config.update(peft_type="XLORA"))),
    Row("an adapter of rank 0", INPUT, ("adapter_config.json", "r"), lambda c: c.adapter(lambda folder, config: config.update(r=0))),
    Row("an adapter of another rank", INPUT, ("lora_A",), lambda c: c.adapter(lambda folder, config: config.update(r=3))),
    Row("an adapter without weights", INPUT, ("adapter_model.safetensors",),
        lambda c: c.adapter(lambda folder, config: (folder / "adapter_model.safetensors").unlink())),
    Row("an adapter of another model", INPUT, ("model.layers.9.self_attn.q_proj",),
        lambda c: c.adapter(lambda folder, config: save_file(
            {f"base_model.model.model.layers.9.self_attn.q_proj.lora_{half}.weight": np.ones(shape, np.float32)
             for half, shape in (("A", (2, 64)), ("B", (64, 2)))}, folder / "adapter_model.safetensors"))),
    Row("an unknown rope", INPUT, ("rope_type", "spiral"),
        lambda c: c.with_base(c.model_config(rope_parameters={"rope_type": "spiral", "rope_theta": 1e4}), 0.4)),
    Row("an unknown activation", INPUT, ("hidden_act", "tanh"), lambda c: c.with_base(c.model_config(hidden_act="tanh"), 0.4)),
    Row("heads that do not divide", INPUT, ("num_attention_heads",), lambda c: c.with_base(c.model_config(num_attention_heads=3), 0.4)),
]

VALUES = [
    Row("NaN in an expert", INPUT, ("broken", UP, "is nan at element 0"), lambda c: c.merging(c.element(UP, np.nan))),
    Row("infinity in an expert", INPUT, ("broken", UP), lambda c: c.merging(c.element(UP, np.inf))),
    Row("minus infinity in a norm", INPUT, ("broken", "model.norm.weight"), lambda c: c.merging(c.element("model.norm.weight", -np.inf))),
    Row("NaN in the base", INPUT, ("broken", UP), lambda c: c.with_base(c.element(UP, np.nan, "base"))),
    Row("NaN in the base under AIM", INPUT, ("model.layers.1.mlp.down_proj",), lambda c: c.with_base(c.element(UP, np.nan, "base"), 0.4)),
    Row("NaN in the embedding", INPUT, ("model.embed_tokens.weight",), lambda c: c.merging(c.element("model.embed_tokens.weight", np.nan))),
    Row("beyond float16", INPUT, (UP, "float16"), lambda c: c.merging(c.element(UP, 1e6), "--set", "out_dtype=float16")),
    Row("beyond bfloat16", INPUT, (UP, "bfloat16"), lambda c: c.merging(c.element(UP, 3.4e38), "--set", "out_dtype=bfloat16")),
    Row("beyond float32", INPUT, (UP,),
        lambda c: c.merging(c.tensors(lambda t: t.update({UP: np.full((160, 64), 1e300)})))),
]


def npy(array, cut=0):
    """The bytes of a .npy file, without the last `cut` ones."""
    with tempfile.TemporaryFile() as file:
        np.save(file, array, allow_pickle=True)
        file.seek(0)
        content = file.read()
    return content[:len(content) - cut]


def ids_file(name, content):
    return lambda c: c.calibration(token_ids=str(c.write(name, content)))


def without_tokenizer(case):
    base = case.model("bare", "base")
    for name in ("tokenizer.json", "tokenizer.model"):
        (base / name).unlink(missing_ok=True)
    return case.with_base(base, 0.4, calibration={"corpus": str(case.write("corpus.txt", "text\n"))})


IDS = np.zeros((2, 16), np.int64)
WORDS = "one two three four five six seven eight nine ten\n" * 40

CALIBRATION = [
    Row("an empty corpus", INPUT, ("corpus.txt", "empty"), lambda c: c.corpus("")),
    Row("a corpus of another kind", INPUT, ("corpus.pdf", ".jsonl"), lambda c: c.corpus("x", "corpus.pdf")),
    Row("a corpus that is missing", INPUT, ("absent.txt",), lambda c: c.calibration(corpus="absent.txt")),
    Row("a model without tokenizer", INPUT, ("bare", "tokenizer"), without_tokenizer),
    Row("a bad id in a token file", INPUT, ("ids.safetensors", "block 1, position 3", "320"),
        lambda c: c.ids(np.where(np.arange(32).reshape(2, 16) == 19, 320, IDS))),
    Row("an id below zero", INPUT, ("ids.safetensors", "-1"), lambda c: c.ids(IDS - 1)),
    Row("ids that are fractions", INPUT, ("ids.safetensors", "float32"), lambda c: c.ids(IDS.astype(np.float32))),
    Row("ids in one row", INPUT, ("ids.safetensors", "[32]"), lambda c: c.ids(IDS.reshape(-1))),
    Row("no ids", INPUT, ("ids.safetensors", "[0, 16]"), lambda c: c.ids(IDS[:0])),
    Row("a token file without input_ids", INPUT, ("input_ids",),
        lambda c: (save_file({"ids": IDS}, c.folder / "other.safetensors"), c.calibration(token_ids=str(c.folder / "other.safetensors")))[1]),
    Row("a token file of another kind", INPUT, ("ids.csv", ".npy"), ids_file("ids.csv", "1,2")),
    Row("npy: cut", INPUT, ("ids.npy", "cut short"), ids_file("ids.npy", npy(IDS, 8))),
    Row("npy: cut in the header", INPUT, ("ids.npy",), ids_file("ids.npy", npy(IDS)[:20])),
    Row("npy: not one", INPUT, ("ids.npy", "not a .npy"), ids_file("ids.npy", b"x" * 100)),
    Row("npy: objects", INPUT, ("ids.npy",), ids_file("ids.npy", npy(np.array([[1, "a"]], dtype=object)))),
    Row("npy: fractions", INPUT, ("ids.npy", "<f8"), ids_file("ids.npy", npy(IDS.astype(np.float64)))),
    Row("npy: Fortran order", INPUT, ("ids.npy", "Fortran"), ids_file("ids.npy", npy(np.asfortranarray(np.arange(32).reshape(2, 16))))),
    Row("npy: big-endian", INPUT, ("ids.npy", ">i8"), ids_file("ids.npy", npy(IDS.astype(">i8")))),
]

def flipped(content, position):
    return content[:position] + bytes([content[position] ^ 1]) + content[position + 1:]


A_MODULE = "statistics/model.layers.0.mlp.up_proj"


def replaced_dataset(name, values):
    def change(file):
        del file[f"{A_MODULE}/{name}"]
        file[f"{A_MODULE}/{name}"] = values
    return change


STATISTICS = [
    Row("a log that is missing", INPUT, ("nowhere.h5", "calibrate"),
        lambda c: c.merge({**c.merge_config(), "aim": {"omega": 0.4, "statistics": "nowhere.h5"}})),
    Row("not HDF5", INPUT, ("stats.h5", "not an HDF5 file"), lambda c: c.statistics(content=b"text")),
    Row("an empty log", INPUT, ("stats.h5",), lambda c: c.statistics(content=b"")),
    Row("a log cut in half", INPUT, ("stats.h5",), lambda c: c.statistics(content=statistics_log()[:len(statistics_log()) // 2])),
    Row("a flipped bit", INPUT, ("stats.h5", "checksum"), lambda c: c.statistics(content=flipped(statistics_log(), 5000))),
    Row("a flipped bit of the checksum", INPUT, ("stats.h5", "checksum"), lambda c: c.statistics(content=flipped(statistics_log(), 80))),
    Row("two numbers for one", INPUT, ("format_version", "2 values"), lambda c: c.statistics(lambda file: file.attrs.__setitem__("format_version", [1, 1]))),
    Row("many texts for one", INPUT, ("corpus", "1000 values"), lambda c: c.statistics(lambda file: file.attrs.__setitem__("corpus", ["a"] * 1000))),
    Row("a log cut at the end", INPUT, ("stats.h5",), lambda c: c.statistics(content=statistics_log()[:-100])),
    Row("an HDF5 file of another program", INPUT, ("stats.h5",), lambda c: c.statistics(lambda file: [file.pop(key) for key in list(file)])),
    Row("a newer format", INPUT, ("format_version", "99"), lambda c: c.statistics(lambda file: file.attrs.__setitem__("format_version", 99))),
    Row("no version", INPUT, ("format_version",), lambda c: c.statistics(lambda file: file.attrs.pop("format_version"))),
    Row("no modules", INPUT, ("stats.h5", "no module"), lambda c: c.statistics(lambda file: (file.pop("statistics"), file.create_group("statistics")))),
    Row("a dataset missing", INPUT, ("model.layers.0.mlp.up_proj", "rms"), lambda c: c.statistics(lambda file: file.pop(f"{A_MODULE}/rms"))),
    Row("a group for a dataset", INPUT, ("model.layers.0.mlp.up_proj",),
        lambda c: c.statistics(lambda file: (file.pop(f"{A_MODULE}/rms"), file.create_group(f"{A_MODULE}/rms")))),
    Row("other width", INPUT, ("model.layers.0.mlp.up_proj", "63"), lambda c: c.statistics(replaced_dataset("mean_abs", np.ones(63, np.float32)))),
    Row("two dimensions", INPUT, ("model.layers.0.mlp.up_proj", "mean_abs has shape [8, 8], rms [64]"),
        lambda c: c.statistics(replaced_dataset("mean_abs", np.ones((8, 8), np.float32)))),
    Row("experts without their tokens", INPUT, ("model.layers.0.mlp.up_proj", "attribute tokens", "1 values, expected 8"),
        lambda c: c.statistics(lambda file: [replaced_dataset(name, np.ones((8, 8), np.float32))(file) for name in ("mean_abs", "rms", "max_abs")])),
    Row("an unknown input axis", INPUT, ("model.layers.0.mlp.up_proj", "input_axis is -3"),
        lambda c: c.statistics(lambda file: file[A_MODULE].attrs.__setitem__("input_axis", -3))),
    Row("a config.json that is no JSON", INPUT, ("stats.h5", "/base_config"),
        lambda c: c.statistics(lambda file: (file.pop("base_config"), file.__setitem__("base_config", "text")))),
    Row("a config.json of no model", INPUT, ("stats.h5", "/base_config", "neither architectures nor model_type"),
        lambda c: c.statistics(lambda file: (file.pop("base_config"), file.__setitem__("base_config", "{}")))),
    Row("texts for numbers", INPUT, ("model.layers.0.mlp.up_proj",), lambda c: c.statistics(replaced_dataset("mean_abs", ["a"] * 64))),
    Row("NaN in a statistic", INPUT, ("model.layers.0.mlp.up_proj", "channel 5"),
        lambda c: c.statistics(lambda file: file[f"{A_MODULE}/mean_abs"].__setitem__(5, np.nan))),
    Row("a statistic below zero", INPUT, ("model.layers.0.mlp.up_proj", "-1"),
        lambda c: c.statistics(lambda file: file[f"{A_MODULE}/mean_abs"].__setitem__(5, -1))),
    Row("of another model", INPUT, ("stats.h5", "another model"),
        lambda c: c.statistics(lambda file: (file.attrs.__setitem__("base_digest", "0" * 32), file.attrs.__setitem__("base_file_stamps", "")))),
]


def weight(value):
    return lambda c: c.changed(models=[{"model": str(FAMILY / "expert_a"), "parameters": {"weight": value}}])


def method(name, experts=("expert_a", "expert_b"), **parameters):
    return lambda c: c.merge(c.merge_config(name, experts=experts, parameters=parameters))


def nested(depth):
    """Aliases that double with every line."""
    return "a0: &a0 [x]\n" + "".join(f"a{i}: &a{i} [*a{i - 1}, *a{i - 1}]\n" for i in range(1, depth))


CONFIGS = [
    Row("no such file", INPUT, ("nowhere.yaml",), lambda c: c.merge(c.folder / "nowhere.yaml")),
    Row("a folder", INPUT, (), lambda c: c.merge(c.folder)),
    Row("an empty file", USAGE, ("merge.yaml", "empty"), lambda c: c.text("")),
    Row("a text", USAGE, ("merge.yaml:1:1",), lambda c: c.text("hello\n")),
    Row("a list", USAGE, ("merge.yaml:1:1",), lambda c: c.text("- a\n")),
    Row("not YAML", USAGE, ("merge.yaml:3", "not valid YAML"), lambda c: c.text("a: 1\nb: [\n")),
    Row("a comma first", USAGE, ("merge.yaml:1:1", "nothing begins with ','"), lambda c: c.text(",\nmerge_method: ties\n")),
    Row("a tab", USAGE, ("merge.yaml:2", "tab"), lambda c: c.text("models:\n\t- model: a\n")),
    Row("not UTF-8", USAGE, ("merge.yaml",), lambda c: c.text(b"merge_method: \xff\xfe\n")),
    Row("a NUL", USAGE, ("merge.yaml",), lambda c: c.text(b"merge_method: ties\0\n")),
    Row("a key twice", USAGE, ("merge.yaml:2", "twice"), lambda c: c.text("merge_method: ties\nmerge_method: ties\n")),
    Row("an alias within itself", USAGE, ("merge.yaml",), lambda c: c.text("models: &a [*a]\n")),
    Row("aliases that double", USAGE, ("merge.yaml", "values"), lambda c: c.text(nested(40))),
    Row("deep lists", USAGE, ("merge.yaml", "deep"), lambda c: c.text("a: " + "[" * 20_000 + "]" * 20_000)),
    Row("forty megabytes", INPUT, ("merge.yaml", "40000000 bytes"), lambda c: c.text("# comment\n" * 4_000_000)),
    Row("a tag", USAGE, ("merge.yaml", "python/object:os.system"), lambda c: c.text("a: !!python/object:os.system x\n")),
    Row("an unknown key", USAGE, ("merge.yaml", "merge_metod", "merge_method"), lambda c: c.changed(merge_metod="ties")),
    Row("no method", USAGE, ("merge_method",), lambda c: c.changed(merge_method=None)),
    Row("an unknown method", USAGE, ("taskarithmetic", "task_arithmetic"), lambda c: c.changed(merge_method="taskarithmetic")),
    Row("no models", USAGE, ("models",), lambda c: c.changed(models=None)),
    Row("empty models", USAGE, ("models",), lambda c: c.changed(models=[])),
    Row("models that are a text", USAGE, ("models",), lambda c: c.changed(models="a")),
    Row("a model without a name", USAGE, ("model",), lambda c: c.changed(models=[{"parameters": {"weight": 1}}])),
    Row("a model twice", USAGE, ("twice", "expert_a"), lambda c: c.merge(c.merge_config(experts=("expert_a", "expert_a")))),
    Row("no base", USAGE, ("base_model",), lambda c: c.changed(base_model=None)),
    Row("an unknown dtype", USAGE, ("dtype", "float8"), lambda c: c.changed(dtype="float8")),
    Row("a seed below zero", USAGE, ("seed", "-1"), lambda c: c.changed(seed=-1)),
    Row("a weight that is a text", USAGE, ("weight", "much"), weight("much")),
    Row("a weight that is NaN", USAGE, ("weight", "nan"), weight(".nan")),
    Row("a weight beyond numbers", USAGE, ("weight", "1e999"), weight("1e999")),
    Row("an unknown parameter", USAGE, ("densty", "density"), method("ties", densty=0.5)),
    Row("density below 0", USAGE, ("density", "-0.5"), method("ties", density=-0.5)),
    Row("a parameter beside the model", USAGE, ("density", "models[0]", "parameters"),
        lambda c: c.changed(merge_method="ties", models=[{"model": str(FAMILY / "expert_a"), "density": 0.5}])),
    Row("density above 1", USAGE, ("density", "1.5"), method("dare_linear", density=1.5)),
    Row("slerp without t", USAGE, ("slerp", "'t'"), lambda c: c.changed(merge_method="slerp", models=[{"model": str(FAMILY / "expert_a")}])),
    Row("slerp of three", USAGE, ("slerp",), lambda c: c.changed(merge_method="slerp", parameters={"t": 0.5}, models=[{"model": str(FAMILY / name)} for name in ("expert_a", "expert_b")])),
    Row("omega below zero", USAGE, ("omega", "-0.1"), lambda c: c.merge(c.merge_config(omega=-0.1))),
    Row("omega above one", USAGE, ("omega", "1.5"), lambda c: c.merge(c.merge_config(omega=[0.2, 1.5]))),
    Row("omega for some tensors", USAGE, ("omega", "filter"), lambda c: c.merge(c.merge_config(omega={"filter": "mlp", "value": 0.4}))),
    Row("AIM without a base", USAGE, ("base_model",), lambda c: c.merge({**c.merge_config("linear", omega=0.4), "base_model": None})),
    Row("AIM without activations", USAGE, ("calibration",), lambda c: c.changed(aim={"omega": 0.4})),
    Row("a statistic that is not known", USAGE, ("mean_abs", "median"), lambda c: c.changed(aim={"omega": 0.4, "statistic": "median"})),
    Row("no sequences", USAGE, ("sequences",), lambda c: c.calibration(corpus="x", sequences=0)),
    Row("a sequence without length", USAGE, ("sequence_length",), lambda c: c.calibration(corpus="x", sequence_length=0)),
    Row("text and ids", USAGE, ("token_ids", "corpus"), lambda c: c.calibration(corpus="x", token_ids="y")),
    Row("layers the wrong way round", USAGE, ("layer_range",),
        lambda c: c.changed(models=None, slices=[{"sources": [{"model": str(FAMILY / "expert_a"), "layer_range": [2, 1]}]}])),
    Row("layers that are not there", USAGE, ("layer_range", "9"),
        lambda c: c.changed(merge_method="passthrough", base_model=None, models=None,
                            slices=[{"sources": [{"model": str(FAMILY / "expert_a"), "layer_range": [0, 9]}]}])),
    Row("models and slices", USAGE, ("slices",), lambda c: c.changed(slices=[{"sources": []}])),
    Row("an unknown tokenizer", USAGE, ("tokenizer_source",), lambda c: c.changed(tokenizer_source=["base"])),
    Row("--set without a value", USAGE, ("--set",), lambda c: [*c.changed(), "--set", "seed"]),
    Row("a shard size that is none", USAGE, ("--max-shard-size", "big"), lambda c: [*c.changed(), "--max-shard-size", "big"]),
    Row("no threads", USAGE, ("--threads",), lambda c: ["merge", c.config(c.merge_config()), "--out", c.folder / "out", "--threads", 0]),
    Row("an unknown option", USAGE, ("--fast",), lambda c: [*c.changed(), "--fast"]),
    Row("no output", USAGE, ("--out",), lambda c: ["merge", c.config(c.merge_config())]),
    Row("an output inside an input", USAGE, ("broken",), lambda c: ["merge", c.merging(c.model())[1], "--out", c.folder / "broken/out"]),
    Row("an output below a file", FAULT, ("file",),
        lambda c: ["merge", c.config(c.merge_config()), "--out", c.write("file", "x") / "out"]),
    Row("an earlier document without a name", USAGE, ("name",), lambda c: c.text("merge_method: linear\nmodels: [{model: a}]\n---\nmerge_method: linear\nmodels: [{model: b}]\n")),
]

SWEEPS = [
    Row("no experts", USAGE, ("experts",), lambda c: c.sweep(experts=None)),
    Row("one expert", USAGE, ("two experts",), lambda c: c.sweep(experts={"a": str(FAMILY / "expert_a")})),
    Row("an expert called base", USAGE, ("base",), lambda c: c.sweep(experts={"base": "x", "b": "y"})),
    Row("a name that is a path", USAGE, ("../a",), lambda c: c.sweep(experts={"../a": "x", "b": "y"})),
    Row("a combination of strangers", USAGE, ("stranger",), lambda c: c.sweep(combinations=[["a", "stranger"]])),
    Row("a combination twice", USAGE, ("combination",), lambda c: c.sweep(combinations=[["a", "b"], ["a", "b"]])),
    Row("a method twice", USAGE, ("task_arithmetic", "name"), lambda c: c.sweep(methods=["task_arithmetic", "task_arithmetic"])),
    Row("an unknown method", USAGE, ("tie", "ties"), lambda c: c.sweep(methods=["tie"])),
    Row("omega twice", USAGE, ("omega",), lambda c: c.sweep(omega=[1.0, 1.0])),
    Row("omega without activations", USAGE, ("aim",), lambda c: c.sweep(omega=[0.4])),
    Row("scores of nothing", USAGE, ("suites",), lambda c: c.sweep(output={"directory": str(c.folder / "out"), "keep": "scores"})),
    Row("ten million points", USAGE, ("points",),
        lambda c: c.sweep(methods=[{"merge_method": "task_arithmetic", "name": f"m{i}"} for i in range(1000)],
                          omega=[i / 10_000 for i in range(10_000)], aim={"calibration": {"corpus": "x"}})),
    Row("2^64 combinations", USAGE, ("combinations",), lambda c: c.sweep(experts={f"e{i}": f"f{i}" for i in range(64)})),
    Row("experts that are a list", USAGE, ("sweep.yaml", "experts", "mapping"), lambda c: c.sweep(experts=["a"])),
    Row("a combination that is a name", USAGE, ("sweep.yaml", "combination", "list"), lambda c: c.sweep(combinations=["a"])),
    Row("combinations that are a name", USAGE, ("sweep.yaml", "combinations"), lambda c: c.sweep(combinations="a")),
    Row("a method without merge_method", USAGE, ("sweep.yaml", "merge_method"), lambda c: c.sweep(methods=[{"name": "x"}])),
    Row("an evaluation without suites", USAGE, ("sweep.yaml", "evaluation.suites"), lambda c: c.sweep(evaluation={"dtype": "float32"})),
    Row("two documents", USAGE, ("sweep.yaml", "one document"), lambda c: ["sweep", c.write("sweep.yaml", "a: 1\n---\nb: 1\n")]),
    Row("a sweep that is a list", USAGE, ("sweep.yaml", "mapping"), lambda c: ["sweep", c.write("sweep.yaml", "- a\n")]),
    Row("only what is not there", USAGE, ("--only",), lambda c: [*c.sweep(), "--only", "colour=red"]),
]

SCORE_HEAD = "model,kind,method,combination,omega,math\n"

SCORES = [
    Row("a suite that is missing", INPUT, ("nowhere.jsonl",), lambda c: ["evaluate", FAMILY / "base", "--suite", "nowhere.jsonl"]),
    Row("an empty suite", INPUT, ("suite.jsonl",), lambda c: c.suite("")),
    Row("a suite of another kind", INPUT, ("suite.csv", ".jsonl"), lambda c: c.suite("a", "suite.csv")),
    Row("a line that is no JSON", INPUT, ("suite.jsonl:2", "not JSON"), lambda c: c.suite('{"task":"t","text_ids":[1,2]}\n{"task":\n')),
    Row("a line that is a list", INPUT, ("suite.jsonl:1",), lambda c: c.suite("[]\n")),
    Row("a deep line", INPUT, ("suite.jsonl:1",), lambda c: c.suite("[" * 10**5 + "\n")),
    Row("an item without a task", INPUT, ("suite.jsonl:1", "task"), lambda c: c.suite('{"text_ids":[1,2]}\n')),
    Row("an item without a target", INPUT, ("suite.jsonl:1", "target"), lambda c: c.suite('{"task":"t","prompt":"a"}\n')),
    Row("an item of an unknown key", INPUT, ("suite.jsonl:1", "colour"), lambda c: c.suite('{"task":"t","text_ids":[1,2],"colour":1}\n')),
    Row("an answer beyond the choices", INPUT, ("suite.jsonl:1", "answer", "2"),
        lambda c: c.suite('{"task":"t","context_ids":[1],"continuation_ids":[[2],[3]],"answer":2}\n')),
    Row("a task of two kinds", INPUT, ("suite.jsonl:2", "task t"),
        lambda c: c.suite('{"task":"t","text_ids":[1,2]}\n{"task":"t","context_ids":[1],"continuation_ids":[2]}\n')),
    Row("an id beyond the vocabulary", INPUT, ("suite.jsonl:1", "320"), lambda c: c.suite('{"task":"t","text_ids":[1,320]}\n')),
    Row("an id that is a fraction", INPUT, ("suite.jsonl:1", "1.5"), lambda c: c.suite('{"task":"t","text_ids":[1,1.5]}\n')),
    Row("a task without a name", INPUT, ("suite.jsonl:1", "task is empty"), lambda c: c.suite('{"task":"","text_ids":[1,2]}\n')),
    Row("ids that are a text", INPUT, ("suite.jsonl:1", "text_ids"), lambda c: c.suite('{"task":"t","text_ids":"a"}\n')),
    Row("a continuation of nothing", INPUT, ("suite.jsonl:1", "target is empty"), lambda c: c.suite('{"task":"t","context_ids":[1],"continuation_ids":[]}\n')),
    Row("a continuation longer than the model", INPUT, ("suite.jsonl:1", "positions"),
        lambda c: c.suite(json.dumps({"task": "t", "context_ids": [1], "continuation_ids": [2] * 5000}) + "\n")),
    Row("blocks longer than the model", USAGE, ("--block-length", "positions"),
        lambda c: [*c.suite('{"task":"t","text_ids":[1,2]}\n'), "--block-length", 100_000]),
    Row("no token to begin with", INPUT, ("config.json", "bos_token_id"),
        lambda c: ["evaluate", c.model_config(bos_token_id=None, eos_token_id=None),
                   *c.suite('{"task":"t","context_ids":[],"continuation_ids":[2]}\n')[2:]]),
    Row("scores that are missing", INPUT, ("nowhere.csv",), lambda c: ["report", "--scores", "nowhere.csv"]),
    Row("empty scores", INPUT, ("scores.csv", "empty"), lambda c: c.scores("")),
    Row("scores without kind", INPUT, ("scores.csv", "kind"), lambda c: c.scores("model,math\na,1\n")),
    Row("scores without a benchmark", INPUT, ("scores.csv", "column with scores"),
        lambda c: c.scores("model,kind,method,combination\nb,base,,\n")),
    Row("a score that is a text", INPUT, ("scores.csv", "line 2", "math", "good"), lambda c: c.scores(SCORE_HEAD + "b,base,,,,good\n")),
    Row("a score above all", INPUT, ("scores.csv", "line 2", "101"), lambda c: c.scores(SCORE_HEAD + "b,base,,,,101\n")),
    Row("a score below zero", INPUT, ("scores.csv", "line 2", "-1"), lambda c: c.scores(SCORE_HEAD + "b,base,,,,-1\n")),
    Row("a row too short", INPUT, ("scores.csv", "line 2", "fields"), lambda c: c.scores(SCORE_HEAD + "b,base\n")),
    Row("a quote that does not end", INPUT, ("scores.csv", "line 2", "quote"), lambda c: c.scores(SCORE_HEAD + 'b,"base,,,,1\n')),
    Row("a column twice", INPUT, ("scores.csv", "math", "twice"), lambda c: c.scores("model,kind,method,combination,math,math\n")),
    Row("a model twice", INPUT, ("scores.csv", "line 3", "line 2"), lambda c: c.scores(SCORE_HEAD + "b,base,,,,1\nb,expert,,,,1\n")),
    Row("two bases", INPUT, ("scores.csv", "line 3", "base"), lambda c: c.scores(SCORE_HEAD + "b,base,,,,1\nc,base,,,,1\n")),
    Row("an expert that has no row", INPUT, ("scores.csv", "line 3", "stranger"),
        lambda c: c.scores(SCORE_HEAD + "b,base,,,,1\nm,merged,ties,stranger,1,1\n")),
    Row("omega above one", INPUT, ("scores.csv", "line 4", "omega"), lambda c: c.scores(SCORE_HEAD + "b,base,,,,1\na,expert,,,,1\nm,merged,ties,a,4,1\n")),
    Row("nothing merged", INPUT, ("scores.csv", "merged"), lambda c: c.scores(SCORE_HEAD + "b,base,,,,1\n")),
    Row("lm-eval: no JSON", INPUT, ("results_1.json",), lambda c: c.lm_eval("{")),
    Row("lm-eval: of another program", INPUT, ("results_1.json", "lm-eval"), lambda c: c.lm_eval('{"accuracy": 1}')),
    Row("lm-eval: a score above one", INPUT, ("results", "m: task math", "7"),
        lambda c: c.lm_eval('{"results": {"math": {"acc,none": 7}}, "config": {}, "versions": {}}')),
    Row("a sweep without points", INPUT, ("points.csv",), lambda c: ["report", c.model()]),
    Row("verify: no manifest", INPUT, ("manifest",), lambda c: ["verify", c.folder]),
    Row("inspect: junk", INPUT, ("junk",), lambda c: ["inspect", c.write("junk", "x")]),
]


def limit_memory():
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_LIMIT, MEMORY_LIMIT))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def without_config(case):
    case.adapter()
    (case.folder / "adapter/adapter_config.json").unlink()
    return case.merging(case.folder / "adapter")


def adapter_of(**shapes):
    """A merge with an adapter of these factors of one module."""
    stem = "base_model.model.model.layers.0.self_attn.q_proj"
    tensors = {f"{stem}.{name}": np.ones(shape, np.float32) for name, shape in shapes.items()}
    return lambda c: c.adapter(lambda folder, config: save_file(tensors, folder / "adapter_model.safetensors"))


def adapter_with(**keys):
    return lambda c: c.adapter(lambda folder, config: config.update(keys))


def whole_numbers(folder, config):
    tensors = {name: tensor.astype(np.int32) for name, tensor in load_file(folder / "adapter_model.safetensors").items()}
    save_file(tensors, folder / "adapter_model.safetensors")


ADAPTERS = [
    Row("an adapter without config", INPUT, ("adapter",), without_config),
    Row("an adapter without tensors", INPUT, ("adapter_model.safetensors", "holds no tensors"), adapter_of()),
    Row("an adapter of whole numbers", INPUT, ("lora_A", "I32", "BF16"), lambda c: c.adapter(whole_numbers)),
    Row("an adapter with one factor", INPUT, ("lora_A", "no B beside it"), adapter_of(**{"lora_A.weight": (2, 64)})),
    Row("an adapter of a layer and an embedding", INPUT, ("q_proj", "linear layer and of an embedding"),
        adapter_of(**{"lora_A.weight": (2, 64), "lora_B.weight": (64, 2), "lora_embedding_A": (2, 64), "lora_embedding_B": (64, 2)})),
    Row("an adapter's pattern that is a list", INPUT, ("adapter_config.json", "rank_pattern"), adapter_with(rank_pattern=[1])),
    Row("an adapter's modules that are numbers", INPUT, ("adapter_config.json", "target_modules"), adapter_with(target_modules=[1])),
    Row("an adapter's layers that are texts", INPUT, ("adapter_config.json", "layers_to_transform"), adapter_with(layers_to_transform=["a"])),
]


def decoder_with(**keys):
    return lambda c: c.with_base(c.model_config(**keys), 0.4, **{"calibration": {"corpus": str(c.write("corpus.txt", "text " * 100)), "sequences": 1, "sequence_length": 16}})


DECODERS = [
    Row("yarn without its factor", INPUT, ("config.json", "factor", "yarn"), decoder_with(rope_scaling={"rope_type": "yarn"})),
    Row("llama3 without its factors", INPUT, ("config.json", "original_max_position_embeddings"), decoder_with(rope_scaling={"rope_type": "llama3", "factor": 8.0})),
    Row("rope of an unknown type", INPUT, ("config.json", "spiral"), decoder_with(rope_scaling={"rope_type": "spiral", "factor": 2.0})),
    Row("a rope of half the head", INPUT, ("config.json", "partial_rotary_factor"), decoder_with(partial_rotary_factor=0.5)),
    Row("an unknown activation", INPUT, ("config.json", "hidden_act"), decoder_with(hidden_act="swoosh")),
]


class BadInput(unittest.TestCase):
    def check(self, rows):
        self.assertEqual(len({row.name for row in rows}), len(rows))
        for row in rows:
            with self.subTest(row.name), tempfile.TemporaryDirectory(prefix="aimerge-test-") as folder:
                case = Case(pathlib.Path(folder))
                command = [BINARY, *map(str, row.make(case))]
                result = subprocess.run(command, cwd=case.folder, capture_output=True, timeout=SECONDS,
                                        env=environment(case.cache), preexec_fn=limit_memory)
                errors = result.stderr.decode(errors="surrogateescape")
                self.assertEqual(result.returncode, row.code, errors)
                lines = [line for line in errors.splitlines() if line.startswith("aimerge:")]
                self.assertEqual(len(lines), 1, errors)
                for word in row.words:
                    self.assertIn(word, lines[0])
                left = [path.name for path in case.folder.iterdir() if path.name.startswith("out")]
                self.assertEqual(left, [])

    def test_safetensors_files(self):
        self.check(SAFETENSORS)

    def test_folders_and_indexes(self):
        self.check(FILES)

    def test_models(self):
        self.check(MODELS)

    def test_values(self):
        self.check(VALUES)

    def test_calibration(self):
        self.check(CALIBRATION)

    def test_statistics(self):
        self.check(STATISTICS)

    def test_configs(self):
        self.check(CONFIGS)

    def test_sweeps(self):
        self.check(SWEEPS)

    def test_adapters(self):
        self.check(ADAPTERS)

    def test_decoders(self):
        self.check(DECODERS)

    def test_suites_and_scores(self):
        self.check(SCORES)

    def test_there_are_enough_of_them(self):
        tables = (SAFETENSORS, FILES, MODELS, VALUES, CALIBRATION, STATISTICS, CONFIGS, SWEEPS, ADAPTERS, DECODERS, SCORES)
        self.assertGreaterEqual(sum(map(len, tables)), 120)


class Other(AimergeTest):
    """What is no row: several ranks, files that are to stay, what is not refused."""

    def test_one_message_on_several_ranks(self):
        case = Case(self.folder)
        for make in (lambda: case.merging(self.folder / "nowhere"), lambda: case.with_base(case.element(UP, np.nan, "base"), 0.4)):
            result = self.aimerge(*make(), ranks=2, expect=INPUT)
            self.assertEqual(sum(line.startswith("aimerge:") for line in result.stderr.splitlines()), 1, result.stderr)
            self.assertFalse((self.folder / "out").exists())

    def test_an_output_that_exists_stays(self):
        out = self.folder / "out"
        out.mkdir()
        (out / "precious.txt").write_text("keep")
        result = self.aimerge("merge", self.config(self.merge_config()), "--out", out, expect=USAGE)
        self.assertIn("--overwrite", result.stderr)
        self.assertEqual((out / "precious.txt").read_text(), "keep")

    def test_a_wrong_total_size_is_a_warning(self):
        case = Case(self.folder)
        command = case.sharded(lambda folder, index: index["metadata"].update(total_size=8))
        self.assertIn("total_size", self.aimerge(*command).stderr)

    def test_a_byte_order_mark_is_skipped(self):
        config = self.folder / "merge.yaml"
        config.write_bytes(b"\xef\xbb\xbf" + json.dumps(self.merge_config()).encode())
        self.aimerge("merge", config, "--out", self.folder / "out")

    def test_denormals_and_minus_zero_stay(self):
        case = Case(self.folder)
        folder = case.tensors(lambda tensors: tensors[UP].reshape(-1).__setitem__(slice(0, 2), np.array([1e-45, -0.0], np.float32)))
        config = case.merge_config("linear", experts=())
        config.pop("base_model")
        config["models"] = [{"model": str(folder), "parameters": {"weight": 1.0}}]
        self.aimerge("merge", self.config(config), "--out", self.folder / "out")
        first = load_file(self.folder / "out/model.safetensors")[UP].reshape(-1)[:2]
        self.assertEqual(first.tobytes(), struct.pack("<ff", 1e-45, -0.0))


if __name__ == "__main__":
    unittest.main()

"""Checkpoints of torch.save: the same bytes as their safetensors twins; what is no plain state dict is refused, and nothing in a file is run."""
import collections
import json
import os
import pathlib
import re
import shutil
import struct
import subprocess
import sys
import unittest
import zipfile

from safetensors.numpy import save_file

from aimerge_command import AimergeTest, file_bytes
from torch_archive import HOOKS, Archive, dict_with, named, numbers, state_dict, storage, tensor, text, whole

try:
    import torch
    from safetensors.torch import save_file as save_safetensors
except ImportError as error:  # there is no wheel for Python 3.10 (Ubuntu 22.04)
    torch, needs_torch = None, unittest.skip(f"{error}; launch/setup.sh --test installs it where there is a wheel")
else:
    needs_torch = lambda test: test

PLACES = ("base", "expert_a", "expert_b")
HIDDEN = 16
CONFIG = {"architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": HIDDEN, "intermediate_size": 24, "num_hidden_layers": 2,
          "num_attention_heads": 2, "num_key_value_heads": 1, "vocab_size": 320, "tie_word_embeddings": False}
INDEX = "pytorch_model.bin.index.json"


def random_llama(dtype, tied, generator):
    """As state_dict() gives it: an OrderedDict with the versions of the modules."""
    wide, narrow, key = HIDDEN, CONFIG["intermediate_size"], HIDDEN // 2
    shapes = {"model.embed_tokens": (320, wide)}
    for layer in range(2):
        shapes.update({f"model.layers.{layer}.{name}": shape for name, shape in {
            "self_attn.q_proj": (wide, wide), "self_attn.k_proj": (key, wide), "self_attn.v_proj": (key, wide), "self_attn.o_proj": (wide, wide),
            "mlp.gate_proj": (narrow, wide), "mlp.up_proj": (narrow, wide), "mlp.down_proj": (wide, narrow),
            "input_layernorm": (wide,), "post_attention_layernorm": (wide,)}.items()})
    shapes.update({"model.norm": (wide,), "lm_head": (320, wide)})
    state = collections.OrderedDict((f"{name}.weight", (torch.randn(shape, generator=generator) * 0.1).to(dtype)) for name, shape in shapes.items())
    if tied:
        state["lm_head.weight"] = state["model.embed_tokens.weight"]
    state._metadata = collections.OrderedDict({"": {"version": 1}, "model": {"version": 1}})
    return state


def save_single(state, folder):
    torch.save(state, folder / "pytorch_model.bin")


def save_sharded(state, folder):
    """As versions 4 of transformers did: a plain dict in each shard."""
    names, weight_map = list(state), {}
    for number, half in enumerate((names[:len(names) // 3], names[len(names) // 3:]), 1):
        file = f"pytorch_model-0000{number}-of-00002.bin"
        torch.save({name: state[name] for name in half}, folder / file)
        weight_map.update({name: file for name in half})
    total = sum(values.numel() * values.element_size() for values in state.values())
    (folder / INDEX).write_text(json.dumps({"metadata": {"total_size": total}, "weight_map": weight_map}))


def save_as_views(state, folder):
    """All of one storage, with a gap before each; tied weights once. Parameters, in protocol 4."""
    first = {values.data_ptr(): name for name, values in reversed(state.items())}
    flat = torch.cat([part for name in first.values() for part in (torch.zeros(3, dtype=state[name].dtype), state[name].flatten())])
    views, offset = {}, 0
    for name in first.values():
        offset += 3
        views[name] = flat[offset:offset + state[name].numel()].view(state[name].shape)
        offset += state[name].numel()
    torch.save({name: torch.nn.Parameter(views[first[values.data_ptr()]]) for name, values in state.items()}, folder / "pytorch_model.bin",
               pickle_protocol=4)


@needs_torch
class Twins(AimergeTest):
    def family(self, dtype, save, tied):
        """Models in `safe`, which have a tied head once, and their twins by torch.save in `bin`, which name it twice."""
        for seed, place in enumerate(PLACES):
            state = random_llama(dtype, tied, torch.Generator().manual_seed(seed))
            for form in ("safe", "bin"):
                folder = self.folder / form / place
                folder.mkdir(parents=True)
                (folder / "config.json").write_text(json.dumps({**CONFIG, "tie_word_embeddings": tied}))
            save(state, self.folder / "bin" / place)
            stored = {name: values for name, values in state.items() if not (tied and name == "lm_head.weight")}
            save_safetensors(stored, self.folder / "safe" / place / "model.safetensors", {"format": "pt"})

    def merged(self, out, places, *options, aim=False, ranks=0, **keys):
        base, *experts = (str(self.folder / place) for place in places)
        config = {"merge_method": "ties", "base_model": base, "parameters": {"density": 0.5},
                  "models": [{"model": expert, "parameters": {"weight": 1.0}} for expert in experts], **keys}
        if aim:
            config["aim"] = {"omega": 0.4, "calibration": {"token_ids": str(self.blocks()), "sequences": 8, "dtype": "float32"}}
        self.cache = self.folder / f"cache-{out}"  # each is calibrated on its own files
        self.aimerge("merge", self.config(config), "--out", self.folder / out, "--threads", 1, *options, ranks=ranks)
        return file_bytes(self.folder / out)

    def test_a_family_gives_the_bytes_of_its_twin(self):
        for dtype, save, tied in (("float32", save_single, False), ("float16", save_sharded, False), ("bfloat16", save_as_views, True),
                                  ("bfloat16", save_single, True)):
            with self.subTest(dtype=dtype, save=save.__name__, tied=tied):
                shutil.rmtree(self.folder / "safe", ignore_errors=True), shutil.rmtree(self.folder / "bin", ignore_errors=True)
                self.family(getattr(torch, dtype), save, tied)
                name = f"{dtype}-{save.__name__}"
                safe = [f"safe/{place}" for place in PLACES]
                want = self.merged(f"safe-{name}", safe, aim=True)
                self.assertGreater(sum(map(len, want.values())), 10000)
                self.assertEqual("lm_head.weight" in str(want["model.safetensors"][:4000]), not tied)
                self.assertEqual(self.merged(f"bin-{name}", [f"bin/{place}" for place in PLACES], aim=True), want)
                if dtype != "bfloat16":
                    continue
                mixed = [safe[0], "bin/expert_a", safe[2]]
                self.assertEqual(self.merged(f"mixed-{name}", mixed, aim=True, ranks=2), want)
                self.assertEqual(self.merged(f"scatter-{name}", ["bin/base", *mixed[1:]], "--io", "scatter", aim=True, ranks=2), want)

    def test_safetensors_count_where_there_are_both(self):
        self.family(torch.float32, save_single, False)
        want = self.merged("safe-out", [f"safe/{place}" for place in PLACES])
        (self.folder / "safe/base/pytorch_model.bin").write_bytes(b"no archive")
        self.assertEqual(self.merged("both", [f"safe/{place}" for place in PLACES]), want)

    def test_what_is_said_of_a_model(self):
        self.family(torch.bfloat16, save_single, True)
        safe, torches = (json.loads(self.aimerge("inspect", self.folder / form / "base", "--json").stdout) for form in ("safe", "bin"))
        self.assertEqual([{key: entry[key] for key in ("name", "dtype", "shape")} for entry in torches["tensors"]],
                         [{key: entry[key] for key in ("name", "dtype", "shape")} for entry in safe["tensors"]])

    def test_a_tied_head_is_one_tensor(self):
        self.family(torch.float32, save_single, True)
        folder = self.folder / "bin/base"
        for changes, expected in (({"tie_word_embeddings": True}, False), ({"tie_word_embeddings": False}, True), ({}, True),
                                  ({"model_type": "other", "architectures": ["OtherForCausalLM"]}, False)):
            config = {key: value for key, value in CONFIG.items() if key != "tie_word_embeddings"}
            (folder / "config.json").write_text(json.dumps({**config, **changes}))
            with self.subTest(changes):
                tensors = json.loads(self.aimerge("inspect", folder, "--json").stdout)["tensors"]
                self.assertEqual("lm_head.weight" in [tensor["name"] for tensor in tensors], expected)

    def test_the_recorder_of_statistics_finds_the_same_tensors(self):
        sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2] / "src/tools"))
        self.addCleanup(sys.path.pop, 0)
        from file_parameters import read_file_tensors

        self.family(torch.float16, save_sharded, False)
        safe, torches = (read_file_tensors(self.folder / form / "base") for form in ("safe", "bin"))
        self.assertEqual([(tensor.name, tensor.shape) for tensor in torches], [(tensor.name, tensor.shape) for tensor in safe])
        for ours, theirs in zip(torches, safe):
            self.assertTrue(all(map(torch.equal, ours.ends(0), theirs.ends(0))), ours.name)

    def test_an_adapter(self):
        self.family(torch.float32, save_single, False)
        adapter = self.folder / "adapter"
        adapter.mkdir()
        (adapter / "adapter_config.json").write_text('{"peft_type": "LORA", "r": 2, "lora_alpha": 4, "target_modules": ["o_proj"]}')
        prefix = "base_model.model.model.layers.1.self_attn.o_proj.lora_"
        factors = {prefix + "A.weight": torch.randn(2, HIDDEN), prefix + "B.weight": torch.randn(HIDDEN, 2)}
        save_file({name: values.numpy() for name, values in factors.items()}, adapter / "adapter_model.safetensors")
        places = ["bin/base", "adapter", "bin/expert_a"]
        want = self.merged("safe-out", places)
        (adapter / "adapter_model.safetensors").unlink()
        torch.save(factors, adapter / "adapter_model.bin")
        self.assertEqual(self.merged("bin-out", places), want)
        self.assertEqual(self.merged("scatter", places, "--io", "scatter", ranks=2), want)

        torch.save(factors, adapter / "adapter_model.bin", _use_new_zipfile_serialization=False)
        self.convert(self.refused(self.folder / "bin/base", adapter), adapter / "adapter_model.safetensors")
        self.assertEqual(self.merged("converted", places), want)

    def test_the_converting_command(self):
        self.family(torch.float32, save_single, False)
        places = [f"bin/{place}" for place in PLACES]
        want = self.merged("want", places)
        path = self.folder / "bin/expert_a/pytorch_model.bin"
        state = torch.load(path)
        name = "model.layers.1.mlp.up_proj.weight"
        torch.save({**state, name: state[name].t().contiguous().t()}, path)
        said = self.refused(self.folder / "bin/expert_a")
        self.assertIn(f'tensor "{name}" of shape [24, 16] has strides [1, 24]', said)
        self.convert(said, path.parent / "model.safetensors")
        self.assertEqual(self.merged("converted", places), want)

    def refused(self, *parts):
        return self.aimerge("inspect", "+".join(map(str, parts)), expect=3).stderr

    def convert(self, said, makes):
        command = re.search(r"python3 -c \".*\"", said)[0]
        path = f"{os.path.dirname(sys.executable)}:{os.environ['PATH']}"
        subprocess.run(["bash", "-c", command], check=True, capture_output=True, env={**os.environ, "PATH": path})
        self.assertTrue(makes.exists())


def pickled(pickle, **storages):
    return Archive(pickle, storages or None).bytes()


def calling(opcodes):
    """A dict whose value is what a call gives: of `touch SENTINEL`, where it is carried out."""
    return pickled(dict_with(opcodes))


TOUCH = text("touch SENTINEL")
ONE = state_dict("w", tensor())
TWO = state_dict("v", tensor((2,)), "w", tensor((2,), first=2))

# What stands in the file, and words of the message.
PICKLES = {
    "GLOBAL os.system": (calling(named("os", "system") + TOUCH + b"\x85R"), ['"os.system"', "nothing of the file is run"]),
    "STACK_GLOBAL posix.system": (calling(b"\x8c\x05posix\x8c\x06system\x93" + TOUCH + b"\x85R"), ['"posix.system"']),
    "STACK_GLOBAL out of the memo": (calling(b"\x8c\x02os\x94\x8c\x06system\x94h\x00h\x01\x93" + TOUCH + b"\x85R"), ['"os.system"']),
    "builtins.eval": (calling(named("builtins", "eval") + text("open('SENTINEL', 'w')") + b"\x85R"), ['"builtins.eval"']),
    "builtins.getattr": (calling(named("builtins", "getattr") + named("os", "path") + text("x") + b"\x86R"), ['"builtins.getattr"']),
    "a class within collections": (calling(named("collections", "OrderedDict.fromkeys")), ['"collections.OrderedDict.fromkeys"']),
    "a class of torch that runs": (calling(named("torch.hub", "load") + TOUCH + b"\x85R"), ['"torch.hub.load"', "not understood"]),
    "tensors without a storage class": (calling(named("torch._utils", "_rebuild_tensor_v3")), ['"torch._utils._rebuild_tensor_v3"', "save_pretrained"]),
    "a quantised storage": (calling(named("torch", "QInt8Storage")), ['"torch.QInt8Storage"']),
    "a name with foreign bytes": (calling(b"c\xffo\x1bs\nsys\ntem\n"), ['"\\xffo\\x1bs.sys"']),
    "a name that is long": (calling(b"c" + b"o" * 10**6 + b"\nsystem\n"), ["oooo..."]),
    "INST": (calling(b"(" + TOUCH + b"ios\nsystem\n"), ["INST"]),
    "OBJ": (calling(b"(" + named("collections", "OrderedDict") + b"o"), ["OBJ"]),
    "NEWOBJ": (calling(named("collections", "OrderedDict") + b")\x81"), ["NEWOBJ"]),
    "NEWOBJ_EX": (calling(named("collections", "OrderedDict") + b")}\x92"), ["NEWOBJ_EX"]),
    "EXT1": (calling(b"\x82\x01"), ["EXT1"]),
    "PERSID": (calling(b"Pos.system\n"), ["PERSID"]),
    "BINBYTES": (calling(b"C\x01a"), ["SHORT_BINBYTES"]),
    "EMPTY_SET": (calling(b"\x8f"), ["EMPTY_SET"]),
    "NEXT_BUFFER": (calling(b"\x97"), ["NEXT_BUFFER"]),
    "POP": (calling(b"N0N"), ["POP"]),
    "DUP": (calling(b"N2"), ["DUP"]),
    "a byte that is no opcode": (calling(b"\xfe"), ["0xfe"]),
    "REDUCE of a text": (calling(text("os.system") + TOUCH + b"\x85R"), ["a text", "a class"]),
    "REDUCE of a storage class": (calling(named("torch", "FloatStorage") + b"K\x04\x85R"), ["torch.FloatStorage"]),
    "REDUCE without a tuple": (calling(named("collections", "OrderedDict") + b"NR"), ["None", "a tuple"]),
    "OrderedDict with arguments": (calling(named("collections", "OrderedDict") + b"]\x85R"), ["OrderedDict 1 arguments"]),
    "BUILD of a tensor": (calling(tensor() + b"}" + text("_metadata") + b"Nsb"), ["BUILD for a tensor"]),
    "BUILD of a plain dict": (calling(b"}}" + text("_metadata") + b"Nsb"), ["BUILD for a dict"]),
    "BUILD with a method": (calling(HOOKS + b"}" + text("__setstate__") + b"Nsb"), ['BUILD', '"__setstate__"']),
    "BUILD with two attributes": (calling(HOOKS + b"}(" + text("_metadata") + b"N" + text("__class__") + b"Nub"), ["BUILD with 2 attributes"]),
    "a value that is not remembered": (calling(b"h\x07"), ["recalls value 7"]),
    "a place far ahead": (calling(b"Nr\xff\xff\xff\xff"), ["4294967295"]),
    "a dict in itself": (pickled(b"\x80\x02}q\x00" + text("w") + b"h\x00s."), ['"w" (a dict)']),
    "a million nested tuples": (calling(b")" + b"\x85" * 10**6), ['"w" (a tuple)']),
    "a million marks": (calling(b"(" * 10**6), ["a mark for what"]),
    "five million values": (calling(b"N" * 5 * 10**6), ["4000000"]),
    "a text of 4 GB": (calling(b"X\xff\xff\xff\xff"), ["4294967295 bytes"]),
    "a number of 255 bytes": (calling(b"\x8a\xff" + bytes(255)), ["255 bytes"]),
    "LONG4": (calling(b"\x8b\xff\xff\xff\x7f"), ["LONG4"]),
    "a pickle that is cut": (pickled(ONE[:-30]), ["the file is damaged"]),
    "a pickle without an end": (pickled(ONE[:-1]), ["the pickle ends"]),
    "an empty pickle": (pickled(b""), ["the pickle ends"]),
    "nothing at the end": (pickled(b"\x80\x02."), ["where there is none"]),
    "two values at the end": (pickled(b"\x80\x02NN."), ["1 values are left over"]),
    "bytes behind the end": (pickled(ONE + b"cos\nsystem\n"), ["11 bytes follow"]),
    "protocol 0": (pickled(b"(dp0\n."), ["PROTO"]),
    "protocol 6": (pickled(b"\x80\x06" + ONE[2:]), ["protocol 6"]),
    "a second PROTO": (calling(b"\x80\x02N"), ["PROTO"]),
    "a key without a value": (pickled(b"\x80\x02}(" + text("w") + b"u."), ["a key without a value"]),
    "entries of a tensor": (calling(tensor() + text("w") + b"Ns"), ["a tensor", "a dict"]),
    "an append to a dict": (calling(b"}Na"), ["no list"]),
    "a tensor and no dict": (pickled(b"\x80\x02" + tensor() + b"."), ["holds a tensor"]),
    "a list": (pickled(b"\x80\x02](" + tensor() + b"e."), ["holds a list"]),
    "a number for a name": (pickled(b"\x80\x02}K\x01" + tensor() + b"s."), ["a number (a tensor)"]),
    "a nested dict": (pickled(state_dict("state_dict", ONE[2:-1], "epoch", whole(3), "lr", b"G" + bytes(8), "args", b"]")),
                      ['"state_dict" (a dict), "epoch" (a number)', '"args" (a list)']),
    "a dict that has None": (pickled(state_dict("w", tensor(), "b", b"N")), ['has "b" (None)']),
    "a name twice": (pickled(state_dict("w", tensor(), "w", tensor())), ['"w" is set twice']),
    "a name that is no text": (pickled(state_dict(b"w\xff", tensor())), ['"w\\xff"', "UTF-8"]),
    "a negative offset": (calling(tensor(first=-1)), ["element -1"]),
    "an offset beyond the storage": (calling(tensor(first=1)), ['tensor "w" of shape [4] begins at element 1 of storage "0", which has 4']),
    "an offset that overflows": (calling(tensor(first=2**63 - 1)), ["9223372036854775807"]),
    "a shape beyond the storage": (calling(tensor((5,))), ["shape [5]"]),
    "a negative dimension": (calling(tensor((-4,))), ["-4 in the shape"]),
    "a shape that overflows": (calling(tensor((2**32, 2**32), (2**32, 1))), ["2^63-1"]),
    "a shape that overflows behind a zero": (calling(tensor((0, 2**62, 4), (1, 1, 1))), ["2^63-1"]),
    "65 dimensions": (calling(tensor((1,) * 65, (1,) * 65)), ["65 dimensions"]),
    "a dimension without a stride": (calling(tensor((2, 2), (1,))), ["2 dimensions 1 strides"]),
    "strides that overflow": (calling(tensor((2, 2), (2**62, 2**62))), ["[4611686018427387904, 4611686018427387904]", "save_pretrained"]),
    "columns before rows": (calling(tensor((2, 2), (1, 2))), ["strides [1, 2]", "save_pretrained"]),
    "one value for all": (calling(tensor((2, 2), (0, 0))), ["strides [0, 0]"]),
    "values with a sign of their own": (calling(tensor(more=b"}" + text("neg") + b"\x88s")), ["metadata"]),
    "a text for a dimension": (calling(tensor().replace(numbers((4,)), b"(" + text("4") + b"t", 1)), ["a text for the shape"]),
    "a tensor of three values": (calling(named("torch._utils", "_rebuild_tensor_v2") + b"NNN\x87R"), ["3 values"]),
    "a tensor without a storage": (calling(tensor(of=HOOKS)), ["a dict for the storage"]),
    "a parameter of nothing": (calling(named("torch._utils", "_rebuild_parameter") + b"N\x88" + HOOKS + b"\x87R"), ["None for a parameter"]),
    "a reference to a module": (calling(tensor(of=storage().replace(text("storage"), text("module")))), ['refers to "module"']),
    "a storage of a class that is none": (calling(tensor(of=storage().replace(named("torch", "FloatStorage"), named("collections", "OrderedDict")))),
                                          ["collections.OrderedDict for the class"]),
    "negative elements": (calling(tensor(elements=-4)), ["-4 elements"]),
    "a storage of two dtypes": (pickled(state_dict("a", tensor(), "b", tensor(kind="IntStorage"))), ["int32", "float32"]),
    "a storage that is not there": (calling(tensor(key="7")), ['"data/7"']),
    "a storage of another place": (calling(tensor(key="../../../etc/passwd")), ["etc/passwd"]),
    "a storage that is longer": (pickled(ONE, **{"0": bytes(20)}), ["20 bytes", "4 elements of float32"]),
    "a storage that overflows": (calling(tensor((1,), elements=2**62)), ["4611686018427387904 elements"]),
    "a storage of no tensor": (pickled(ONE, **{"0": bytes(16), "1": bytes(16)}), ["2 storages"]),
    "tensors that overlap in part": (pickled(state_dict("a", tensor((3,)), "b", tensor((3,), first=1))), ['tensors "a" and "b"', "save_pretrained"]),
    "a tensor within another": (pickled(state_dict("a", tensor(), "b", tensor((2,), first=1))), ['tensors "a" and "b"']),
}


def hidden_entry():
    """An entry that lies in the data of another."""
    inner = Archive(ONE, {"1": bytes(16)}).bytes()
    inside = inner[inner.index(b"PK\3\4", inner.index(b"byteorder")):inner.index(b"PK\1\2")]
    archive = Archive(TWO, {"0": inside})
    whole_file = archive.bytes()
    return archive.add("data/1", bytes(16), header=whole_file.index(inside) + inside.index(b"PK\3\4"), local_name="x").bytes()


def zipped(**options):
    """As another zip program packs it again."""
    import io
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", **options) as archive:
        for entry in Archive(ONE).entries:
            archive.writestr(entry["name"], entry["data"])
    return file.getvalue()


def with_end64(at):
    """@param at where the locator says that the zip64 end is"""
    plain = Archive(ONE).bytes()
    return plain[:-22] + struct.pack("<4sIQI", b"PK\6\7", 0, at, 1) + plain[-22:]


GOOD = Archive(ONE).bytes()

FILES = {
    "a compressed archive": (zipped(compression=zipfile.ZIP_DEFLATED), ['"pytorch_model/data.pkl" is compressed (method 8)', "save_pretrained"]),
    "a zip bomb": (Archive(ONE).set("data/0", method=8, size=2**31).bytes(), ['"pytorch_model/data/0" is compressed']),
    "a compressed entry by its own header": (Archive(ONE).set("data/0", local_method=8).bytes(), ["is compressed (method 8)"]),
    "an encrypted entry": (Archive(ONE).set("data/0", flags=0x801).bytes(), ['"pytorch_model/data/0" is encrypted']),
    "an encrypted entry by its own header": (Archive(ONE).set("data.pkl", local_flags=1).bytes(), ["is encrypted"]),
    "sizes that differ": (Archive(ONE).set("data/0", stored=12).bytes(), ["16 bytes and is stored in 12"]),
    "a size that differs from the entry's own": (Archive(ONE).set("data/0", local_size=12).bytes(), ["12 bytes, but its directory says 16"]),
    "a size beyond the directory": (Archive(ONE).set("data/0", size=2**31, stored=2**31).bytes(), ["2147483648"]),
    "an entry beyond the directory": (Archive(ONE).set("data/0", header=2**31).bytes(), ["2147483648"]),
    "an entry at another place": (Archive(ONE).set("data/0", header=0).bytes(), ['no entry "pytorch_model/data/0" at byte 0']),
    "another name before the data": (Archive(ONE).set("data/0", local_name="pytorch_model/data/9").bytes(), ['no entry "pytorch_model/data/0"']),
    "an entry without its zip64 size": (Archive(ONE).set("data/0", size=2**32 - 1, stored=2**32 - 1).bytes(), ["zip64"]),
    "an entry within another": (hidden_entry(), ['data/1" overlap']),
    "an entry twice": (Archive(ONE).add("data/0", bytes(16)).bytes(), ['two entries of the name "pytorch_model/data/0"']),
    "a part of a split archive": (Archive(ONE).bytes(disk=1), ["split"]),
    "an entry on another disk": (Archive(ONE).set("data/0", disk=1).bytes(), ["split"]),
    "more entries than the directory has": (Archive(ONE).bytes(entries=60000), ["60000 entries"]),
    "fewer entries than the directory has": (Archive(ONE).bytes(entries=2), ["bytes more"]),
    "a directory at another place": (Archive(ONE).bytes(begin=10), ["from byte 10"]),
    "a directory of 4 GB": (Archive(ONE).bytes(size=2**32 - 1), ["4294967295"]),
    "a zip64 end elsewhere": (with_end64(0), ["zip64 end of directory should be at byte 0"]),
    "a zip64 end that is none": (with_end64(len(GOOD) - 22 - 56), ["no zip64 end"]),
    "a comment": (Archive(ONE).bytes(comment=b"hello"), ["does not end as a zip archive does"]),
    "a comment that is an end of its own": (Archive(ONE).bytes(comment=b"PK\5\6" + bytes(18)), ["should have 0 bytes from byte 0 on"]),
    "a file that is cut": (GOOD[:-30], ["cut short"]),
    "a file of four bytes": (GOOD[:4], ["cut short"]),
    "bytes behind the archive": (GOOD + b"\0", ["cut short"]),
    "no pickle": (Archive(ONE).without("data.pkl").bytes(), ["no data.pkl"]),
    "a TorchScript program": (Archive(ONE).add("constants.pkl", b"").bytes(), ["TorchScript"]),
    "a big-endian file": (Archive(ONE).set("byteorder", data=b"big").bytes(), ['byteorder is "big"']),
    "an archive of tomorrow": (Archive(ONE).set("version", data=b"11\n").bytes(), ["version"]),
    "an archive without a version": (Archive(ONE).without("version").bytes(), ["version"]),
    "an entry outside of the folder": (Archive(ONE).add("x", b"").set("x", name="x/../../x").bytes(), ['"x/../../x"']),
    "an archive without a folder": (Archive(ONE, folder="").bytes(), ["in no folder"]),
    "an empty archive": (b"PK\3\4" + b"PK\5\6" + bytes(12) + struct.pack("<I", 4) + bytes(2), ["empty archive"]),
    "a pickle that was changed": (Archive(ONE).set("data.pkl", crc=1).bytes(), ["CRC-32"]),
    "a pickle of 101 MB": (Archive(ONE[:-1] + bytes(101 * 10**6)).bytes(), ["100000000"]),
    "safetensors under this name": (b"\x02" + bytes(7) + b"{}", ["begins with"]),
    "an error page": (b"<!DOCTYPE html><html>", ['"<!DOCTYPE html>']),
    "a git-lfs pointer": (b"version https://git-lfs.github.com/spec/v1\n", ["git lfs pull"]),
    "an empty file": (b"", ["begins with"]),
    "a pickle without an archive": (ONE, ["begins with"]),
    "torch before 1.6": (b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19.\x80\x02M\xe9\x03.", ["before 1.6", "save_pretrained"]),
}

INDICES = {
    "a shard that is missing": ({"w": "pytorch_model-00001-of-00002.bin"}, ["pytorch_model-00001-of-00002.bin", "missing"]),
    "a shard in the folder above": ({"w": "../pytorch_model.bin"}, ['"../pytorch_model.bin"', "a .bin file in the same folder"]),
    "a shard by an absolute path": ({"w": "/etc/passwd.bin"}, ['"/etc/passwd.bin"']),
    "a shard of another form": ({"w": "model.safetensors"}, ['"model.safetensors"']),
    "a tensor that no shard has": ({"w": "a.bin", "v": "a.bin"}, ["tensor v is not in a.bin"]),
    "an index of nothing": ({}, ["weight_map"]),
}


class Refusals(AimergeTest):
    def setUp(self):
        super().setUp()
        self.model = self.folder / "model"
        self.model.mkdir()
        (self.model / "config.json").write_text(json.dumps(CONFIG))

    def refused(self, words):
        said = self.aimerge("inspect", self.model, expect=3, timeout=20).stderr
        self.assertEqual(said.count("\n"), 1, said)
        self.assertLess(len(said), 2000)
        for word in [str(self.model), *words]:
            self.assertIn(word, said)
        self.assertEqual([path for root in (self.folder, self.model) for path in root.glob("SENTINEL*")], [])

    def test_good_files_are_read(self):
        """What the others are spoilt from."""
        for content in (GOOD, pickled(TWO), zipped(), Archive(ONE, folder="any/").bytes(), Archive(ONE).set("data.pkl", crc=0).bytes(),
                        Archive(ONE).without("byteorder").bytes(), pickled(state_dict("v", tensor(), "w", tensor())),
                        pickled(state_dict("w", tensor((2, 1, 2), (2, 77, 1)))), pickled(state_dict("w", tensor((0, 3), (9, 9)), "v", tensor()))):
            (self.model / "pytorch_model.bin").write_bytes(content)
            self.assertIn('"w"', self.aimerge("inspect", self.model, "--json").stdout)

    def test_pickles(self):
        for name, (content, words) in PICKLES.items():
            with self.subTest(name):
                (self.model / "pytorch_model.bin").write_bytes(content)
                self.refused([str(self.model / "pytorch_model.bin"), *words])
        self.assertGreater(len(PICKLES), 60)

    def test_archives(self):
        for name, (content, words) in FILES.items():
            with self.subTest(name):
                (self.model / "pytorch_model.bin").write_bytes(content)
                self.refused([str(self.model / "pytorch_model.bin"), *words])

    def test_indices(self):
        (self.folder / "pytorch_model.bin").write_bytes(GOOD)
        (self.model / "a.bin").write_bytes(GOOD)
        for name, (weight_map, words) in INDICES.items():
            with self.subTest(name):
                (self.model / INDEX).write_text(json.dumps({"weight_map": weight_map}))
                self.refused(words)


if __name__ == "__main__":
    unittest.main()

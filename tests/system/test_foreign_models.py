"""Models as other programs write them: a tied head stored twice, labels that are absent, wrapped names, dtypes of other uses. What is right is what
transformers loads."""
import json
import os
import shutil
import unittest

import numpy as np
from safetensors.numpy import save_file

import model_families as families
import recorded_statistics as recorded
from aimerge_command import file_bytes
from family_test import FamilyTest
from peers import transformers

EMBEDDING, HEAD = "model.embed_tokens.weight", "lm_head.weight"


class ForeignModels(FamilyTest):
    def load(self, folder):
        with recorded.quiet():
            model, info = transformers.AutoModelForCausalLM.from_pretrained(folder, output_loading_info=True)
        self.assertFalse({key: values for key, values in info.items() if values})
        return model

    def write(self, name, config, *options, expect=0, ranks=0):
        result = self.aimerge("merge", self.config(config, f"{name}.yaml"), "--out", self.folder / name, *options, expect=expect, ranks=ranks)
        return self.folder / name, result.stderr


class TiedHeads(ForeignModels):
    def store_head(self, folder, change=0.0):
        self.edit_tensors(folder, lambda tensors: tensors | {HEAD: tensors[EMBEDDING] + np.float32(change)})

    def test_a_second_copy_changes_nothing(self):
        """By methods that draw by name and by AIM, too, which would give the two different values."""
        folder = self.make("llama, tied")
        configs = {"arithmetic": self.merge_of(folder),
                   "dare": self.merge_of(folder, "dare_linear", {"weight": 1.0, "density": 0.5}),
                   "della": self.merge_of(folder, "della_linear", {"weight": 1.0, "density": 0.5, "epsilon": 0.2}),
                   "aim": self.merge_of(folder, aim={"omega": 0.4, "calibration": self.calibration(), "preset": "reference-code"})}
        plain = {name: file_bytes(self.write(f"plain-{name}", config)[0]) for name, config in configs.items()}
        for places in (["base"], ["base", "expert_1"]):
            for place in places:
                self.store_head(folder / place)
            for name, config in configs.items():
                with self.subTest(name, places=places):
                    out, said = self.write(f"{'-'.join(places)}-{name}", config)
                    self.assertEqual(file_bytes(out), plain[name])
                    for place in places:
                        self.assertIn(f"{folder / place}: stores its head, which config.json ties to {EMBEDDING}, a second time", said)
                    self.assertEqual(self.aimerge("verify", out).stderr.count("tie"), 0)
        model = self.load(out)
        self.assertIs(model.lm_head.weight, model.model.embed_tokens.weight)

    def test_a_copy_that_differs_is_a_head(self):
        folder = self.make("llama, tied")
        self.store_head(folder / "expert_1", change=0.25)
        loaded = self.load(folder / "expert_1")
        head, base = loaded.lm_head.weight.detach().numpy(), families.read(folder / "base")[EMBEDDING]
        self.assertFalse(np.array_equal(head, loaded.model.embed_tokens.weight.detach().numpy()))  # as transformers takes the file
        out, said = self.write("out", self.merge_of(folder))
        self.assertRegex(said, rf"expert_1: config.json ties {HEAD} to {EMBEDDING}, but the stored one differs")
        np.testing.assert_array_equal(families.read(out)[HEAD], base + (head - base))
        np.testing.assert_array_equal(self.load(out).lm_head.weight.detach().numpy(), families.read(out)[HEAD])
        self.assertIs(json.loads((out / "config.json").read_text())["tie_word_embeddings"], False)
        scattered, _ = self.write("scattered", self.merge_of(folder), "--io", "scatter", ranks=2)
        self.assertEqual(file_bytes(scattered), file_bytes(out))

    def test_a_config_that_does_not_say(self):
        """Gemma's embeddings are tied by default, Llama's are not."""
        folder = self.make("gemma")
        for place in ("base", "expert_1"):
            path = folder / place / "config.json"
            config = json.loads(path.read_text())
            config.pop("tie_word_embeddings", None)
            path.write_text(json.dumps(config))
        plain = file_bytes(self.write("plain", self.merge_of(folder))[0])
        self.store_head(folder / "expert_1")
        out, said = self.write("out", self.merge_of(folder))
        self.assertEqual(file_bytes(out), plain)
        self.assertIn("stores its head", said)
        self.store_head(folder / "expert_1", change=0.25)
        out, _ = self.write("different", self.merge_of(folder))
        np.testing.assert_array_equal(self.load(out).lm_head.weight.detach().numpy(), families.read(out)[HEAD])

    def test_the_default_of_every_type(self):
        path = os.path.join(os.path.dirname(__file__), "../../src/architecture/tied_types.cpp")
        with open(path) as file:
            text = file.read()
        tied = "".join(line.strip()[1:-2] if line.strip().endswith('";') else line.strip()[1:-1]
                       for line in text.splitlines() if line.strip().startswith('"')).split()
        self.assertGreater(len(tied), 100)
        for name, family in families.FAMILIES.items():
            with self.subTest(name):
                config = family.configuration()
                fields = getattr(type(config), "__dataclass_fields__", {})
                if "tie_word_embeddings" in fields and family.loader in (families.CAUSAL, families.IMAGE_TEXT, families.MASKED):
                    self.assertEqual(config.model_type in tied, fields["tie_word_embeddings"].default is True)


class Labels(ForeignModels):
    def test_absent_and_old_labels(self):
        folder = self.make("llama")
        plain = file_bytes(self.write("plain", self.merge_of(folder))[0])
        original = json.loads((folder / "expert_1/config.json").read_text())
        changes = {"null": {"architectures": None}, "empty": {"architectures": []}, "old": {"architectures": ["LLaMAForCausalLM"]}, "type": {"model_type": None}}
        for place in ("expert_1", "base"):
            for name, change in changes.items():
                with self.subTest(name, place=place):
                    self.edit_config(folder / place, **change)
                    out, said = self.write(f"{name}-{place}", self.merge_of(folder))
                    self.assertEqual(file_bytes(out), plain)
                    if name != "type":
                        self.assertIn("compared by their tensors and sizes", said)
                    self.edit_config(folder / place, **{key: original[key] for key in change})

    def test_other_models_are_refused(self):
        folder, other = self.make("llama"), self.make("qwen2")
        config = self.merge_of(folder)
        config["models"][0]["model"] = str(other / "base")
        self.assertRegex(self.write("out", config, expect=3)[1], "architecture is Qwen2ForCausalLM, but .* has LlamaForCausalLM")
        for change in ({"architectures": None}, {"architectures": None, "model_type": "llama"}):
            self.edit_config(other / "base", **change)
            self.assertRegex(self.write("out", config, expect=3)[1], "qwen2, but .* has llama|_proj.bias is not in .*Its tensors are model.embed")


class WrappedNames(ForeignModels):
    def test_each_wrapper(self):
        folder = self.make("llama")
        plain = file_bytes(self.write("plain", self.merge_of(folder))[0])
        tensors = families.read(folder / "expert_1")
        wrappers = {"module": lambda name: f"module.{name}", "peft": lambda name: f"base_model.model.{name}",
                    "both": lambda name: f"module._orig_mod.{name}",
                    "layers": lambda name: name.replace(".0.", ".0._orig_mod.").replace(".1.", ".1._fsdp_wrapped_module._checkpoint_wrapped_module.")}
        for name, wrapper in wrappers.items():
            with self.subTest(name):
                save_file({wrapper(key): values for key, values in tensors.items()}, folder / "expert_1/model.safetensors", metadata={"format": "pt"})
                out, said = self.write(name, self.merge_of(folder))
                self.assertEqual(file_bytes(out), plain)
                self.assertIn("expert_1: its tensors have other names than the model's own", said)

    def test_an_unknown_prefix_is_shown(self):
        folder = self.make("llama")
        self.edit_tensors(folder / "expert_1", lambda tensors: {f"student.{key}": values for key, values in tensors.items()})
        self.assertIn("student.model.embed_tokens.weight", self.write("out", self.merge_of(folder), expect=3)[1])


class Dtypes(ForeignModels):
    def test_newer_dtypes_are_known_and_not_merged(self):
        """As safetensors packs them: eight elements of F4 are four bytes."""
        folder = self.make("llama")
        for dtype, elements, size in (("F8_E8M0", 8, 8), ("F4", 8, 4), ("F6_E2M3", 8, 6), ("F6_E3M2", 4, 3), ("C64", 2, 16)):
            with self.subTest(dtype):
                model = self.folder / dtype
                shutil.copytree(folder / "expert_1", model)
                self.append(model / "model.safetensors", "model.scales", dtype, elements, size)
                listed = json.loads(self.aimerge("inspect", model, "--json").stdout)["tensors"]
                (tensor,) = [tensor for tensor in listed if tensor["name"] == "model.scales"]
                self.assertEqual((tensor["dtype"], tensor["shape"], tensor["bytes"]), (dtype, [elements], size))
                self.aimerge("verify", model)
                config = self.merge_of(folder)
                config["base_model"] = str(model)
                self.assertRegex(self.write("out", config, expect=3)[1] if dtype.startswith(("F4", "F6")) else self.both_have(folder, model, config),
                                 f"tensor model.scales is {dtype}, which cannot be merged")

    def both_have(self, folder, model, config):
        config["models"][0]["model"] = str(shutil.copytree(model, self.folder / f"{model.name}-twice"))
        return self.write("out", config, expect=3)[1]

    def append(self, path, name, dtype, elements, size):
        """Adds a tensor at the end of a safetensors file, by hand: numpy does not know these types."""
        data = path.read_bytes()
        length = int.from_bytes(data[:8], "little")
        header, values = json.loads(data[8:8 + length]), data[8 + length:]
        header[name] = {"dtype": dtype, "shape": [elements], "data_offsets": [len(values), len(values) + size]}
        text = json.dumps(header).encode()
        text += b" " * (-len(text) % 8)
        path.write_bytes(len(text).to_bytes(8, "little") + text + values + bytes(size))


if __name__ == "__main__":
    unittest.main()

"""What lies beside the weights comes along: processors, code of models that bring their own, modules of sentence-transformers. Outputs are loaded by
what reads these files."""
import json
import os
import shutil
import tempfile
import unittest

MODULES_CACHE = tempfile.mkdtemp(prefix="aimerge-test-modules-")
os.environ["HF_MODULES_CACHE"] = MODULES_CACHE  # of code that transformers loads; read when it is imported

import numpy as np
from safetensors.numpy import load_file, save_file

import model_families as families
import recorded_statistics as recorded
from aimerge_command import GOLDENS, AimergeTest
from family_test import FamilyTest
from peers import torch, transformers

CONFIGURATION = '''from transformers import LlamaConfig


class CustomConfig(LlamaConfig):
    model_type = "custom"
'''
MODELING = '''from transformers import LlamaForCausalLM

from .configuration_custom import CustomConfig
from .scale import SCALE


class CustomForCausalLM(LlamaForCausalLM):
    config_class = CustomConfig

    def forward(self, *arguments, **keys):
        output = super().forward(*arguments, **keys)
        output.logits = output.logits * SCALE
        return output
'''


def tearDownModule():
    shutil.rmtree(MODULES_CACHE, ignore_errors=True)


class SideFiles(FamilyTest):
    def write_merge(self, folder, *options, **keys):
        out = self.folder / "out"
        said = self.aimerge("merge", self.config(self.merge_of(folder, **keys)), "--out", out, *options).stderr
        self.aimerge("verify", out)
        return out, said

    def assert_listed(self, out, names):
        listed = json.loads((out / "aimerge_manifest.json").read_text())["files"]
        for name in names:
            self.assertEqual(listed[name]["bytes"], (out / name).stat().st_size)

    def processor(self, size, folder):
        from tokenizers import Tokenizer, models

        tokenizer = Tokenizer(models.WordLevel({f"token{number}": number for number in range(20)}, unk_token="token0"))
        with recorded.quiet():
            image = transformers.CLIPImageProcessor(size={"shortest_edge": size}, crop_size={"height": size, "width": size})
            fast = transformers.PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="token0")
            transformers.CLIPProcessor(image_processor=image, tokenizer=fast).save_pretrained(folder)

    def test_a_processor(self):
        folder = self.make("clip")
        for place, size in (("base", 28), ("expert_1", 32)):
            self.processor(size, folder / place)
        out, said = self.write_merge(folder)
        self.assertRegex(said, r"files beside the weights differ from those of .*base, which the output gets: processor_config.json \(.*expert_1\)")
        self.assert_listed(out, ["processor_config.json", "tokenizer.json"])
        with recorded.quiet():
            processor = transformers.AutoProcessor.from_pretrained(out)
        self.assertEqual(processor.image_processor.size["shortest_edge"], 28)
        self.assertEqual(processor.tokenizer("token7").input_ids, [7])
        pixels = processor(images=np.zeros((40, 50, 3), np.uint8), text="token3", return_tensors="np")["pixel_values"]
        self.assertEqual(pixels.shape[-2:], (28, 28))

        # A chat template of the merge's is the processor's, too, also where the base has one in processor_config.json.
        path = folder / "base" / "processor_config.json"
        llava = {"processor_class": "LlavaProcessor", "patch_size": 14, "chat_template": "{{ 'of the base' }}"}
        path.write_text(json.dumps({**json.loads(path.read_text()), **llava}))
        shutil.rmtree(out)
        out, _ = self.write_merge(folder, chat_template="{{ 'of the merge' }}")
        with recorded.quiet():
            self.assertEqual(transformers.LlavaProcessor.from_pretrained(folder / "base").chat_template, "{{ 'of the base' }}")
            self.assertEqual(transformers.LlavaProcessor.from_pretrained(out).chat_template, "{{ 'of the merge' }}")

    def test_code(self):
        folder = self.make("llama")
        for place in ("base", "expert_1"):
            self.edit_config(folder / place, model_type="custom", architectures=["CustomForCausalLM"],
                             auto_map={"AutoConfig": "configuration_custom.CustomConfig", "AutoModelForCausalLM": "modeling_custom.CustomForCausalLM"})
            (folder / place / "configuration_custom.py").write_text(CONFIGURATION)
            (folder / place / "modeling_custom.py").write_text(MODELING)
            (folder / place / "scale.py").write_text("SCALE = 3.0\n" if place == "base" else "SCALE = 5.0\n")
        out, said = self.write_merge(folder)
        self.assertRegex(said, r"base: its code comes along \(configuration_custom.py, modeling_custom.py, scale.py\)")
        self.assertRegex(said, r"which the output gets: scale.py \(.*expert_1\)\n")
        self.assert_listed(out, ["configuration_custom.py", "modeling_custom.py", "scale.py"])
        with recorded.quiet():
            custom = transformers.AutoModelForCausalLM.from_pretrained(out, trust_remote_code=True)
        self.assertEqual(type(custom).__name__, "CustomForCausalLM")
        self.edit_config(out, model_type="llama", architectures=["LlamaForCausalLM"], auto_map={})
        with recorded.quiet():
            plain = transformers.AutoModelForCausalLM.from_pretrained(out)
        ids = torch.tensor([[5, 9, 30]])
        torch.testing.assert_close(custom(ids).logits, 3 * plain(ids).logits, rtol=0, atol=0)

    def test_modules_of_sentence_transformers(self):
        folder = self.make("bert")
        for place in ("base", "expert_1"):
            self.write_modules(folder / place, seed=len(place))
        out, said = self.write_merge(folder)
        self.assertRegex(said, r"which the output gets: 2_Dense/model.safetensors \(.*expert_1\)\n")
        self.assert_listed(out, ["modules.json", "1_Pooling/config.json", "2_Dense/config.json", "2_Dense/model.safetensors",
                                 "sentence_bert_config.json", "config_sentence_transformers.json"])
        self.assertEqual(set(json.loads((out / "aimerge_manifest.json").read_text())["files"]["2_Dense/model.safetensors"]), {"bytes", "checksum"})
        got = self.embedding(out)
        self.assertEqual(got.shape, (8,))
        # The merged encoder, with the base's modules behind it.
        for name in ("config.json", "model.safetensors"):
            shutil.copy(out / name, folder / "base" / name)
        np.testing.assert_array_equal(got, self.embedding(folder / "base"))
        try:
            from sentence_transformers import SentenceTransformer
        except ImportError:
            return  # `embedding` has read what it would read
        self.assertEqual(len(SentenceTransformer(str(out), device="cpu")), 3)

    def write_modules(self, folder, seed):
        kinds = [("", "Transformer"), ("1_Pooling", "Pooling"), ("2_Dense", "Dense")]
        (folder / "modules.json").write_text(json.dumps([{"idx": number, "name": str(number), "path": path, "type": f"sentence_transformers.models.{kind}"}
                                                         for number, (path, kind) in enumerate(kinds)]))
        (folder / "sentence_bert_config.json").write_text('{"max_seq_length": 96, "do_lower_case": false}')
        (folder / "config_sentence_transformers.json").write_text('{"prompts": {}}')
        for path, _ in kinds[1:]:
            (folder / path).mkdir()
        (folder / "1_Pooling/config.json").write_text('{"word_embedding_dimension": 32, "pooling_mode_mean_tokens": true}')
        (folder / "2_Dense/config.json").write_text('{"in_features": 32, "out_features": 8, "bias": false, "activation_function": "torch.nn.modules.linear.Identity"}')
        weight = np.random.default_rng(seed).normal(size=(8, 32)).astype(np.float32)
        save_file({"linear.weight": weight}, folder / "2_Dense/model.safetensors", metadata={"format": "pt"})

    def embedding(self, folder):
        """Of three tokens, by the modules that modules.json names."""
        values = None
        for module in json.loads((folder / "modules.json").read_text()):
            path = folder / module["path"]
            if module["type"].endswith("Transformer"):
                with recorded.quiet(), torch.no_grad():
                    values = transformers.AutoModel.from_pretrained(path)(torch.tensor([[5, 9, 30]])).last_hidden_state[0].numpy()
            elif module["type"].endswith("Pooling"):
                self.assertTrue(json.loads((path / "config.json").read_text())["pooling_mode_mean_tokens"])
                values = values.mean(axis=0)
            else:
                values = load_file(path / "model.safetensors")["linear.weight"] @ values
        return values

    def test_an_adapter_beside_the_weights_is_said(self):
        folder = self.make("llama")
        (folder / "expert_1/adapter_config.json").write_text("{}")
        (folder / "expert_1/adapter_model.safetensors").write_bytes(b"")
        self.assertRegex(self.write_merge(folder)[1], r"expert_1: has an adapter .* beside its weights.* Write (.*)\+\1 to apply it")


class EveryOutput(AimergeTest):
    """Each folder that a command makes is complete."""
    NAMES = ("modules.json", "1_Pooling/config.json", "processor_config.json")

    def setUp(self):
        super().setUp()
        for name in ("base", "expert_a"):
            folder = shutil.copytree(GOLDENS / "family_f32" / name, self.folder / name)
            (folder / "1_Pooling").mkdir()
            (folder / "1_Pooling/config.json").write_text("{}")
            (folder / "processor_config.json").write_text("{}")
            (folder / "modules.json").write_text('[{"path": "1_Pooling", "type": "sentence_transformers.models.Pooling"}]')

    def assert_complete(self, out):
        for name in self.NAMES:
            self.assertEqual((out / name).read_bytes(), (self.folder / "base" / name).read_bytes())
        self.aimerge("verify", out)

    def config_of(self, omega):
        return {**self.merge_config(omega=omega), "base_model": str(self.folder / "base"),
                "models": [{"model": str(self.folder / "expert_a"), "parameters": {"weight": 1.0}}]}

    def test_of_several_omegas_written_by_one_rank(self):
        self.aimerge("merge", self.config(self.config_of([0.4, 1.0])), "--out", "out", "--gather", "root", "--io", "scatter", ranks=2)
        for omega in ("0.4", "1.0"):
            self.assert_complete(self.folder / f"out/omega-{omega}")

    def test_of_documents(self):
        first = {**self.merge_config(), "name": "first", "base_model": str(self.folder / "base"),
                 "models": [{"model": str(self.folder / "expert_a"), "parameters": {"weight": 1.0}}]}
        second = {**first, "name": "second", "base_model": "first"}
        self.aimerge("merge", self.config("---\n".join(json.dumps(document) + "\n" for document in (first, second))), "--out", "out")
        self.assert_complete(self.folder / "out")

    def test_of_a_sweep(self):
        suite = self.folder / "suite.jsonl"
        suite.write_text(json.dumps({"task": "text", "text_ids": list(range(2, 40))}) + "\n")
        sweep = {"base_model": str(self.folder / "base"), "experts": {"a": str(self.folder / "expert_a"), "b": str(GOLDENS / "family_f32/expert_b")},
                 "methods": ["task_arithmetic"], "combinations": [["a", "b"]], "omega": [1.0],
                 "dtype": "float32", "aim": {"calibration": {"token_ids": str(self.blocks()), "sequences": 8, "dtype": "float32"}},
                 "evaluation": {"suites": [str(suite)], "block_length": 32}, "output": {"directory": "out", "keep": "checkpoints"}}
        self.aimerge("sweep", self.config(sweep, "sweep.yaml"), "--threads", 1)
        (out,) = (self.folder / "out").glob("task_arithmetic-*")
        self.assert_complete(out)


if __name__ == "__main__":
    unittest.main()

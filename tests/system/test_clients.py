"""Other programs read what a merge wrote: safetensors, transformers, PEFT, mergekit, llama.cpp's converter, lm-eval."""
import importlib.util
import json
import os
import pathlib
import shutil
import subprocess
import sys
import unittest

import numpy as np
import safetensors

import lm_eval_run
import model_families as families
import recorded_statistics as recorded
from aimerge_command import read_folder
from family_test import FamilyTest
from peers import needs_mergekit, peft, torch, transformers

FAMILY = pathlib.Path(os.environ["AIMERGE_FAMILY"])
LLAMA_CPP = pathlib.Path(os.environ.get("LLAMA_CPP", "/nowhere")) / "convert_hf_to_gguf.py"
TEXT = "def add(a, b):\n    return a + b"


class Clients(FamilyTest):
    """A merge of two tiny models with the tokenizer of the small family, in several shards."""

    def setUp(self):
        super().setUp()
        # Of an empty prompt aimerge takes the bos_token_id of config.json, lm-eval that of the tokenizer.
        config = transformers.LlamaConfig(vocab_size=49152, hidden_size=16, intermediate_size=24, num_hidden_layers=2, num_attention_heads=4,
                                          num_key_value_heads=2, max_position_embeddings=2048, bos_token_id=1, eos_token_id=2, tie_word_embeddings=True)
        torch.manual_seed(1)
        self.states = []
        for name in ("first", "second"):
            model = transformers.AutoModelForCausalLM.from_config(config).float()
            with recorded.quiet():
                model.save_pretrained(self.folder / name)
            for file in ("tokenizer.json", "tokenizer_config.json"):
                shutil.copy(FAMILY / "base" / file, self.folder / name)
            self.states.append(model.state_dict())
        self.out = self.merge("out", [str(self.folder / name) for name in ("first", "second")], "--max-shard-size", "2MB")

    def merge(self, name, models, *options):
        config = {"merge_method": "linear", "models": [{"model": model, "parameters": {"weight": 1 / len(models)}} for model in models]}
        self.aimerge("merge", self.config(config, f"{name}.yaml"), "--out", self.folder / name, *options)
        return self.folder / name

    def load(self, folder):
        with recorded.quiet():
            model, info = transformers.AutoModelForCausalLM.from_pretrained(folder, output_loading_info=True)
        self.assertFalse({key: values for key, values in info.items() if values})
        return model.eval()

    def logits(self, model):
        tokenizer = transformers.AutoTokenizer.from_pretrained(str(self.out))
        ids = tokenizer(TEXT, return_tensors="pt")["input_ids"]
        self.assertEqual(tokenizer.decode(ids[0]), TEXT)
        with torch.no_grad():
            return model(ids).logits.numpy()

    def test_safetensors_and_transformers(self):
        shards = sorted(self.out.glob("*.safetensors"))
        self.assertGreater(len(shards), 1)
        index = json.loads((self.out / "model.safetensors.index.json").read_text())["weight_map"]
        for shard in shards:
            with safetensors.safe_open(shard, "pt") as file:
                self.assertEqual(file.metadata()["format"], "pt")
                self.assertEqual(set(file.keys()), {name for name, place in index.items() if place == shard.name})
        want = self.load(self.folder / "first")
        want.load_state_dict({name: (values + self.states[1][name]) / 2 for name, values in self.states[0].items()})
        np.testing.assert_array_equal(self.logits(self.load(self.out)), self.logits(want))

    def test_peft(self):
        """An adapter that PEFT puts over the output, and the model that a merge makes of both."""
        with recorded.quiet():
            model = peft.get_peft_model(self.load(self.out), peft.LoraConfig(r=2, target_modules="all-linear", init_lora_weights=False))
            model.save_pretrained(self.folder / "adapter")
            over = peft.PeftModel.from_pretrained(self.load(self.out), self.folder / "adapter").eval()
        merged = self.load(self.merge("with-adapter", [f"{self.out}+{self.folder / 'adapter'}"]))
        want, plain = self.logits(over), self.logits(self.load(self.out))
        self.assertGreater(np.abs(want - plain).max(), 1e-3)
        np.testing.assert_allclose(self.logits(merged), want, rtol=0, atol=1e-5)  # B (A x) against (W + B A) x

    @needs_mergekit
    def test_mergekit(self):
        import mergekit_peer

        text = f"merge_method: linear\nmodels:\n- {{model: {self.out}, parameters: {{weight: 0.5}}}}\n- {{model: {self.folder / 'first'}, parameters: {{weight: 0.5}}}}\n"
        result = mergekit_peer.by_mergekit(text, self.folder, self.folder / "by-mergekit", {"copy_tokenizer": True})
        self.assertIsNotNone(result.folder, result.words)
        ours = families.read(self.merge("again", [str(self.out), str(self.folder / "first")]))
        theirs = families.read(result.folder)
        self.assertEqual(ours.keys(), theirs.keys())
        for name, values in ours.items():
            np.testing.assert_array_equal(values, theirs[name], name)

    def test_the_names_are_those_that_llama_cpp_maps(self):
        import gguf

        names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.LLAMA, 2)
        mapped = [names.get_name(name, try_suffixes=(".weight", ".bias")) for name in read_folder(self.out)]
        self.assertNotIn(None, mapped)
        self.assertEqual(len(set(mapped)), len(mapped))

    @unittest.skipUnless(LLAMA_CPP.is_file(), "LLAMA_CPP names no folder with convert_hf_to_gguf.py")
    def test_llama_cpp(self):
        import gguf

        path = self.folder / "out.gguf"
        subprocess.run([sys.executable, LLAMA_CPP, self.out, "--outtype", "f32", "--outfile", path], check=True, capture_output=True,
                       env={**os.environ, "HF_HUB_OFFLINE": "1"}, timeout=300)
        got = {tensor.name: tensor.data for tensor in gguf.GGUFReader(path).tensors}
        want = families.read(self.out)
        self.assertEqual(len(got), len(want))
        for ours, theirs in (("model.embed_tokens", "token_embd"), ("model.layers.1.mlp.down_proj", "blk.1.ffn_down"), ("model.norm", "output_norm")):
            np.testing.assert_array_equal(got[f"{theirs}.weight"], want[f"{ours}.weight"])

    @unittest.skipUnless(importlib.util.find_spec("lm_eval"), "lm-eval is not installed: ./launch/setup.sh --lm-eval")
    def test_lm_eval(self):
        samples = self.folder / "samples.jsonl"
        suite = self.folder / "requests.jsonl"
        suite.write_text("".join(json.dumps(item) + "\n" for item in lm_eval_run.items() if item["task"] == "requests"))
        self.aimerge("evaluate", self.out, "--suite", suite, "--dtype", "float32", "--samples", samples)
        ours = [json.loads(line)["loglikelihood"] for line in samples.read_text().splitlines()]
        lm_eval_run.run(self.out, self.folder, names=("requests",))
        theirs = [value for item in lm_eval_run.samples(self.folder, "requests") for value, _ in item]
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-3)


if __name__ == "__main__":
    unittest.main()

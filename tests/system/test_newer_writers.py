"""Models and adapters as programs of the last year write them: transformers 5, PEFT before and after 0.19, DeepSpeed, converters. What is right is what
transformers and PEFT load, or the formula."""
import json
import shutil
import unittest

import numpy as np
from safetensors.numpy import load_file, save_file

import model_families as families
import recorded_statistics as recorded
from aimerge_command import file_bytes
from family_test import FamilyTest
from peers import peft, torch, transformers

EMBEDDING, HEAD = "model.embed_tokens.weight", "lm_head.weight"


class NewerWriters(FamilyTest):
    def write(self, name, config, *options, expect=0):
        result = self.aimerge("merge", self.config(config, f"{name}.yaml"), "--out", self.folder / name, *options, expect=expect)
        return self.folder / name, result.stderr

    def said(self, name, folder, expect=0, **keys):
        """What a merge of expert_1 into base says."""
        return self.write(name, self.merge_of(folder, **keys), expect=expect)[1]

    def edit_text(self, folder, **changes):
        """As edit_config, in the section about the text where there is one."""
        path = folder / "config.json"
        config = json.loads(path.read_text())
        config.get("text_config", config).update(changes)
        path.write_text(json.dumps({key: value for key, value in config.items() if value != "absent"}))


class Weights(NewerWriters):
    def test_files_beside_the_weights_of_the_index(self):
        """Mistral's own file beside transformers', a shard with more than the index lists, and a single file beside an index."""
        folder = self.make("llama")
        plain = file_bytes(self.write("plain", self.merge_of(folder))[0])
        save_file({"tok_embeddings.weight": np.zeros((2, 2), np.float32)}, folder / "expert_1/consolidated.safetensors")
        self.assertEqual(file_bytes(self.write("beside", self.merge_of(folder))[0]), plain)
        self.aimerge("verify", folder / "expert_1")
        self.aimerge("inspect", folder / "expert_1")
        with recorded.quiet():
            model = transformers.AutoModelForCausalLM.from_pretrained(folder / "expert_1")
            shutil.rmtree(folder / "expert_1")
            model.save_pretrained(folder / "expert_1", max_shard_size="30KB")
        path = folder / "expert_1/model.safetensors.index.json"
        index = json.loads(path.read_text())
        index["weight_map"].pop("model.layers.1.mlp.up_proj.weight")
        path.write_text(json.dumps(index))
        out, said = self.write("unlisted", self.merge_of(folder))
        self.assertEqual(file_bytes(out), plain)  # transformers reads it, too
        self.assertIn("does not list 1 tensors of its shards (model.layers.1.mlp.up_proj.weight, ...)", said)
        shutil.copy(folder / "base/model.safetensors", folder / "expert_1")
        with recorded.quiet():
            loaded = transformers.AutoModelForCausalLM.from_pretrained(folder / "expert_1").state_dict()
        base = families.read(folder / "base")
        np.testing.assert_array_equal(loaded[EMBEDDING], base[EMBEDDING])
        merged = self.merged(self.merge_of(folder), "single")
        for name in base:
            np.testing.assert_array_equal(merged[name], base[name], name)

    def test_placeholders_of_zero_3(self):
        folder = self.make("llama")
        for places, part in ((["expert_1"], "q_proj"), (["base", "expert_1"], "q_proj"), (["expert_1"], "embed_tokens")):
            with self.subTest(part, places=places):
                kept = {place: families.read(folder / place) for place in places}
                for place in places:
                    self.edit_tensors(folder / place, lambda tensors: {key: np.zeros(0, np.float32) if part in key else values
                                                                       for key, values in tensors.items()})
                said = self.said("out", folder, expect=3)
                self.assertRegex(said, rf"model\.\S*{part}\.weight has shape \[0\]" if len(places) > 1 or part != "q_proj" else r"shape \[0\]")
                for place in places:
                    self.edit_tensors(folder / place, lambda _: kept[place])

    def test_a_head_of_other_rows_than_the_embedding(self):
        """Resized without its head, or the other way: loaders refuse such a model."""
        folder = self.make("llama")
        whole = families.read(folder / "expert_1")
        for name, rows in ((HEAD, 136), (HEAD, 126), (EMBEDDING, 136)):
            for keys in ({}, {"unsafe_truncate_embeddings": True}):
                with self.subTest(name, rows=rows, **keys):
                    table = np.resize(whole[name], (rows, 32))
                    self.edit_tensors(folder / "expert_1", lambda _: whole | {name: table})
                    said = self.said("out", folder, expect=3, **keys)
                    if keys or name == HEAD:
                        self.assertRegex(said, rf"{HEAD} has shape \[\d+, 32\], but {EMBEDDING} has \[\d+, 32\]; expected a row for each token")
        self.edit_tensors(folder / "base", lambda tensors: tensors | {HEAD: np.resize(tensors[HEAD], (136, 32))})
        self.edit_tensors(folder / "expert_1", lambda _: whole | {HEAD: np.resize(whole[HEAD], (136, 32))})
        self.assertIn("expected a row for each token in both", self.said("both", folder, expect=3))

    def test_what_is_left_of_a_quantisation(self):
        folder = self.make("llama")
        plain = file_bytes(self.write("plain", self.merge_of(folder))[0])
        self.edit_config(folder / "expert_1", quantization_config={"quant_method": "bitsandbytes", "load_in_4bit": True})
        said = self.said("section", folder, expect=3)
        self.assertIn('has quantization_config {"quant_method":"bitsandbytes","load_in_4bit":true}, but all tensors are F32', said)
        self.edit_config(folder / "expert_1", quantization_config=None)
        self.assertEqual(file_bytes(self.write("null", self.merge_of(folder))[0]), plain)
        scale = {"model.layers.0.mlp.down_proj.weight_scale_inv": np.ones((1, 1), np.float32)}
        for place in ("base", "expert_1"):
            self.edit_tensors(folder / place, lambda tensors: tensors | scale)
        self.assertIn("down_proj.weight_scale_inv, which FP8 writes beside codes, but all tensors are F32", self.said("scales", folder))
        weight = "model.layers.0.mlp.up_proj.weight"
        for mark, codes in {"MLX": {weight: np.zeros((56, 4), np.uint32), weight.replace("weight", "scales"): np.ones((56, 1), np.float16)},
                            "HQQ": {weight.replace("weight", "W_q"): np.zeros((28, 32), np.uint8)},
                            "FP8": {weight: np.zeros((56, 16), np.uint8), weight + "_scale": np.ones(1, np.float32)}}.items():
            with self.subTest(mark):
                model = shutil.copytree(folder / "expert_2", self.folder / mark)
                self.edit_tensors(model, lambda tensors: {key: values for key, values in tensors.items() if key != weight} | codes)
                config = self.merge_of(folder)
                config["models"][0]["model"] = str(model)
                self.assertRegex(self.write("codes", config, expect=3)[1], rf"is quantised \({mark}.*\): it has the tensor model.layers.0.mlp.up_proj")

    def test_layers_for_prediction_that_transformers_drops(self):
        """Of a Qwen3.5 checkpoint it keeps the number in config.json and not the tensors."""
        folder = self.make("qwen3_5_text")
        extra = {"mtp.fc.weight": np.full((32, 64), 2, np.float32), "mtp.norm.weight": np.ones(32, np.float32)}
        self.edit_tensors(folder / "base", lambda tensors: tensors | extra)
        for place in ("base", "expert_1"):
            self.edit_config(folder / place, mtp_num_hidden_layers=1)
        out, said = self.write("kept", self.merge_of(folder))
        np.testing.assert_array_equal(families.read(out)["mtp.fc.weight"], extra["mtp.fc.weight"])
        self.assertIn("2 tensors are only in", said)
        self.edit_tensors(folder / "base", lambda tensors: {key: values for key, values in tensors.items() if key not in extra})
        self.assertIn("config.json says mtp_num_hidden_layers 1, but there is no tensor of such layers", self.said("dropped", folder))

    def test_t5_without_its_shared_table(self):
        """The decoder's table is stored alone, beside a head of its own (madlad400)."""
        folder = self.make("t5")
        head = np.random.default_rng(1).standard_normal((families.VOCABULARY, 32)).astype(np.float32)
        for place in ("base", "expert_1"):
            self.edit_tensors(folder / place, lambda tensors: {"decoder.embed_tokens.weight" if key == "shared.weight" else key: values
                                                               for key, values in tensors.items()} | {HEAD: head if place == "base" else 2 * head})
            self.edit_config(folder / place, tie_word_embeddings=False)

        def load(path):
            with recorded.quiet():
                model, info = transformers.AutoModelForSeq2SeqLM.from_pretrained(path, output_loading_info=True)
            self.assertFalse({key: values for key, values in info.items() if values})
            return {key: values.numpy() for key, values in model.state_dict().items()}

        base, expert = load(folder / "base"), load(folder / "expert_1")
        merged = load(self.write("out", self.merge_of(folder))[0])
        for name, values in merged.items():
            np.testing.assert_array_equal(values, base[name] + (expert[name] - base[name]), name)


class Meanings(NewerWriters):
    def test_rotary_settings_in_both_styles(self):
        """Models with two kinds of layers, and models whose text is a section of config.json."""
        folder = self.make("gemma3_text")
        self.edit_text(folder / "expert_1", rope_parameters="absent", rope_theta=1000000.0, rope_local_base_freq=10000.0, rope_scaling=None)
        self.assertNotRegex(self.said("same", folder), "rope|says other things")
        self.edit_text(folder / "expert_1", rope_scaling={"rope_type": "linear", "factor": 8.0}, rope_local_base_freq=20000)
        said = self.said("other", folder)
        self.assertIn('rope_parameters.full_attention.rope_type is "linear", there "default"', said)
        self.assertIn("rope_parameters.sliding_attention.rope_theta is 20000, there 10000", said)
        folder = self.make("qwen3_vl")
        self.assertNotIn("says other things", self.said("vl", folder))
        rope = json.loads((folder / "base/config.json").read_text())["text_config"]["rope_parameters"]
        self.edit_text(folder / "expert_1", rope_parameters=rope | {"rope_theta": 500000.0})
        self.assertIn("text_config.rope_parameters.rope_theta is 500000, there 1000000", self.said("vl-other", folder))

    def test_routing_and_scalings(self):
        folder = self.make("qwen3_moe")
        self.edit_config(folder / "expert_1", num_experts_per_tok=4, norm_topk_prob=True, initializer_range=0.5, transformers_version="4.51.0")
        said = self.said("out", folder)
        self.assertIn("norm_topk_prob is true, there false; num_experts_per_tok is 4, there 2", said)
        self.assertNotRegex(said, "initializer_range|transformers_version")

    def test_added_tokens_of_transformers_5(self):
        """tokenizer_config.json has extra_special_tokens as a list, and a class of its own."""
        folder, order = self.make("llama"), range(families.VOCABULARY)
        base = families.with_tokenizer(folder / "base", self.folder / "base", order)
        with recorded.quiet():
            tokenizer = transformers.AutoTokenizer.from_pretrained(str(base))
            tokenizer.add_special_tokens({"extra_special_tokens": ["<|x|>"]})
            model = transformers.AutoModelForCausalLM.from_pretrained(folder / "expert_1")
            model.resize_token_embeddings(families.VOCABULARY + 1)
            model.save_pretrained(self.folder / "grown")
            tokenizer.save_pretrained(self.folder / "grown")
        config = self.merge_of(folder, "linear", tokenizer_source="union")
        config["base_model"], config["models"] = str(base), [{"model": str(self.folder / name), "parameters": {"weight": 0.5}} for name in ("base", "grown")]
        out, _ = self.write("out", config)
        with recorded.quiet():
            merged = transformers.AutoTokenizer.from_pretrained(str(out))
        self.assertEqual(merged("token3 <|x|> token5")["input_ids"], [3, families.VOCABULARY, 5])
        rows = families.read(out)[HEAD]
        np.testing.assert_array_equal(rows[-1], families.read(self.folder / "grown")[HEAD][-1])  # the one model's that has it
        self.assertEqual(len(rows), families.VOCABULARY + 1)


class Adapters(NewerWriters):
    def adapter(self, name, tensors, **config):
        folder = self.folder / name
        folder.mkdir()
        save_file({f"base_model.model.{key}": np.ascontiguousarray(values) for key, values in tensors.items()}, folder / "adapter_model.safetensors",
                  metadata={"format": "pt"})
        (folder / "adapter_config.json").write_text(json.dumps({"peft_type": "LORA", "r": 2, "lora_alpha": 4, **config}))
        return folder

    def with_adapter(self, name, base, adapter, expect=0):
        config = {"merge_method": "linear", "models": [{"model": f"{base}+{adapter}", "parameters": {"weight": 1.0}}]}
        return self.write(name, config, expect=expect)

    def mixture(self, width, original=True):
        """A mixture with experts of a width, on disk one by one or as they are in memory."""
        config = transformers.Qwen3MoeConfig(**families.WIDE | dict(num_hidden_layers=2, num_experts=4, num_experts_per_tok=2, moe_intermediate_size=width))
        torch.manual_seed(width)
        folder = self.folder / f"mixture-{width}-{original}"
        with recorded.quiet():
            transformers.AutoModelForCausalLM.from_config(config).float().save_pretrained(folder, save_original_format=original)
        return folder

    def in_memory(self, folder):
        with recorded.quiet():
            return {key: values.numpy() for key, values in transformers.AutoModelForCausalLM.from_pretrained(folder).state_dict().items()}

    def test_fused_experts_of_both_layouts(self):
        """Up to PEFT 0.18, A has the second axis of [experts, out, in] and B the third; since then the inputs and the outputs. 32 inputs: gate and up
        of 16 are as many outputs, and so are those of down where the experts are 32 wide."""
        draw = np.random.default_rng(0)
        for width, version, old in ((20, "0.18.1", True), (16, "0.18.1", True), (32, None, True), (16, "0.19.0", False), (32, "0.21.2@abc", False)):
            tensors, changes = {}, {}
            for layer in range(2):
                stem = f"model.layers.{layer}.mlp.experts"
                for parameter, place, outputs, inputs in (("gate_up_proj", ".base_layer", 2 * width, 32), ("down_proj", "", 32, width)):
                    of_a, of_b = (outputs, inputs) if old else (inputs, outputs)
                    a, b = draw.integers(-2, 3, (8, of_a)) / 16, draw.integers(-2, 3, (of_b, 8)) / 16
                    tensors |= {f"{stem}{place}.lora_A.weight": a.astype(np.float32), f"{stem}{place}.lora_B.weight": b.astype(np.float32)}
                    change = 2 * np.einsum("erx,yre->exy" if old else "erx,yre->eyx", a.reshape(4, 2, of_a), b.reshape(of_b, 2, 4))
                    changes[f"{stem}.{parameter}"] = change.astype(np.float32)  # exact: few bits
            written = {"peft_version": version} if version else {}
            adapter = self.adapter(f"adapter-{width}-{version}", tensors, target_modules=[],
                                   target_parameters=["mlp.experts.gate_up_proj", "mlp.experts.down_proj"], **written)
            for original in (True, False):
                with self.subTest(width, version=version, original=original):
                    base = self.folder / f"mixture-{width}-{original}"
                    base = base if base.exists() else self.mixture(width, original)
                    before = self.in_memory(base)
                    after = self.in_memory(self.with_adapter(f"out-{width}-{version}-{original}", base, adapter)[0])
                    for name, values in after.items():
                        np.testing.assert_array_equal(values, before[name] + changes.get(name, np.float32(0)), name)

    def test_modules_of_experts_and_flat_names(self):
        """Adapters of transformers 4 for each expert, and of transformers 5 over a checkpoint with the older names (Qwen2.5-VL)."""
        base = self.mixture(20)
        draw, tensors, want = np.random.default_rng(2), {}, families.read(base)
        for name, values in list(want.items()):
            if ".experts." in name:
                a, b = (draw.integers(-2, 3, shape).astype(np.float32) / 16 for shape in ((2, values.shape[1]), (values.shape[0], 2)))
                tensors |= {name.replace("weight", "lora_A.weight"): a, name.replace("weight", "lora_B.weight"): b}
                want[name] = values + 2 * (b @ a)
        adapter = self.adapter("apart", tensors, target_modules=["gate_proj", "up_proj", "down_proj"], peft_version="0.17.0")
        got = families.read(self.with_adapter("apart-out", base, adapter)[0])
        for name, values in want.items():
            np.testing.assert_array_equal(got[name], values, name)
        said = self.with_adapter("fused-out", self.mixture(20, original=False), adapter, expect=3)[1]
        self.assertRegex(said, r"is for model\.layers\.0\.mlp\.experts\.0\.\w+\.weight, which .* does not have; name the base that it was trained on")

        base = self.make("qwen2_5_vl") / "base"
        self.assertIn("visual.patch_embed.proj.weight", families.read(base))
        with recorded.quiet():
            model = transformers.AutoModelForImageTextToText.from_pretrained(base)
            model = peft.get_peft_model(model, peft.LoraConfig(r=2, target_modules="all-linear", init_lora_weights=False))
            model.save_pretrained(self.folder / "all")
            model.merge_and_unload().save_pretrained(self.folder / "by-peft")
        got, want = families.read(self.with_adapter("all-out", base, self.folder / "all")[0]), families.read(self.folder / "by-peft")
        self.assertEqual(got.keys(), want.keys())
        for name, values in want.items():
            np.testing.assert_allclose(got[name], values, rtol=0, atol=1e-6, err_msg=name)  # of sums of two products
        self.assertTrue(any("visual" in name for name in load_file(self.folder / "all/adapter_model.safetensors")))

    def test_weights_where_peft_does_not_look(self):
        base = self.make("llama") / "base"
        query = "model.layers.0.self_attn.q_proj"
        adapter = self.adapter("adapter", {f"{query}.lora_A.weight": np.ones((2, 32), np.float32), f"{query}.lora_B.weight": np.ones((32, 2), np.float32)},
                               target_modules=["q_proj"])
        (adapter / "non_lora_trainables.bin").write_bytes(b"")
        self.assertIn("has non_lora_trainables.bin beside the adapter, which neither PEFT nor aimerge loads", self.with_adapter("beside", base, adapter)[1])
        (adapter / "adapter_model.safetensors").rename(adapter / "adapter_model-00001-of-00002.safetensors")
        said = self.with_adapter("shards", base, adapter, expect=3)[1]
        self.assertIn("has no adapter_model.safetensors, which PEFT loads, but adapter_model-00001-of-00002.safetensors and 1 more", said)


if __name__ == "__main__":
    unittest.main()

"""Adapters of the kinds that PEFT writes, each against what PEFT's merge_and_unload makes of it, saved as transformers saves models."""
import re
import sys
import unittest
import warnings
from pathlib import Path
from unittest import mock

import numpy as np
from safetensors.numpy import save_file

from aimerge_command import AimergeTest, as_float, file_bytes, read_folder
from peers import needs_peers, peft, torch, transformers

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "src/tools"))
import merge_adapter

SIZES = dict(vocab_size=40, hidden_size=16, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2, max_position_embeddings=32)
MIXTURE = dict(**SIZES, num_experts_per_tok=2, head_dim=4)
SOME = ["q_proj", "down_proj"]


def base_of(kind):
    """A model of a few kilobytes, the same at every call."""
    torch.manual_seed(1)
    t = transformers
    model = {
        "llama": lambda: t.LlamaForCausalLM(t.LlamaConfig(**SIZES, intermediate_size=24, attention_bias=True)),
        "tied": lambda: t.LlamaForCausalLM(t.LlamaConfig(**SIZES, intermediate_size=24, tie_word_embeddings=True)),
        "gpt2": lambda: t.GPT2LMHeadModel(t.GPT2Config(vocab_size=40, n_embd=16, n_layer=2, n_head=4, n_positions=32, bos_token_id=1, eos_token_id=2)),
        "qwen3_moe": lambda: t.Qwen3MoeForCausalLM(t.Qwen3MoeConfig(**MIXTURE, intermediate_size=24, moe_intermediate_size=12, num_experts=4)),
        "mixtral": lambda: t.MixtralForCausalLM(t.MixtralConfig(**MIXTURE, intermediate_size=12, num_local_experts=4)),
        # down_proj is square, as in the published ones.
        "gpt_oss": lambda: t.GptOssForCausalLM(t.GptOssConfig(**MIXTURE, intermediate_size=16, num_local_experts=4, layer_types=["full_attention"] * 2)),
    }[kind]()
    for parameter in model.parameters():  # biases begin as zeros
        parameter.data.add_(0.02 * torch.randn_like(parameter))
    return model.eval()


def grown():
    """The model that an adapter with new tokens was trained on."""
    model = base_of("llama")
    model.resize_token_embeddings(44, mean_resizing=False)
    return model


def lora(**settings):
    return peft.LoraConfig(**{"r": 4, "lora_alpha": 6, "target_modules": SOME, **settings})


@needs_peers
class AdapterKinds(AimergeTest):
    def setUp(self):
        super().setUp()
        warnings.simplefilter("ignore")
        self.bases = {}

    def base_folder(self, kind):
        if kind not in self.bases:
            self.bases[kind] = self.folder / kind
            base_of(kind).save_pretrained(self.bases[kind])
        return self.bases[kind]

    def make_adapter(self, kind, config, name, model=None, **saving):
        """Trained weights are not zero, as some are at first."""
        model = base_of(kind) if model is None else model()
        model.name_or_path = str(self.base_folder(kind))
        model = peft.get_peft_model(model, config)
        torch.manual_seed(7)
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.data.add_(0.1 * torch.randn_like(parameter))
        model.save_pretrained(self.folder / name, **saving)
        return self.folder / name

    def merged_by_peft(self, kind, name, model=None):
        model = base_of(kind) if model is None else model()
        peft.PeftModel.from_pretrained(model, self.folder / name).merge_and_unload().save_pretrained(self.folder / f"{name}-peft")
        return {key: as_float(value) for key, value in read_folder(self.folder / f"{name}-peft").items()}

    def merged(self, kind, name, expect=0, **variables):
        """What aimerge makes of the adapter, or what it says."""
        config = self.config({"merge_method": "linear", "dtype": "float32", "models": [
            {"model": f"{self.base_folder(kind)}+{self.folder / name}", "parameters": {"weight": 1.0}}]}, f"{name}.yaml")
        result = self.aimerge("merge", config, "--out", self.folder / f"{name}-out", "--overwrite", expect=expect, **variables)
        return result.stderr if expect else {key: as_float(value) for key, value in read_folder(self.folder / f"{name}-out").items()}

    def assert_is_pefts(self, kind, name, got, model=None, exact=False):
        want, base = self.merged_by_peft(kind, name, model), read_folder(self.base_folder(kind))
        self.assertEqual(set(got), set(want))
        for key, value in want.items():
            # Products of 4 factors and their sum, the scaling, the sum with W; of DoRA PEFT's norm in float32 and the magnitude: 16 roundings.
            limit = 0 if exact else 16 * 2**-24 * np.abs(value).max()
            np.testing.assert_allclose(got[key], value, rtol=0, atol=limit, err_msg=f"{name}: {key}")
        changed = [key for key, value in want.items() if value.shape != as_float(base[key]).shape or np.abs(value - as_float(base[key])).max() > 1e-3]
        self.assertTrue(changed, name)

    def test_kinds_that_are_merged_as_they_are_read(self):
        experts = ["mlp.experts.gate_up_proj", "mlp.experts.down_proj"]
        for kind, name, config, *saving in (
                ("llama", "dora", lora(use_dora=True)),
                ("llama", "dora-patterns", lora(use_dora=True, use_rslora=True, rank_pattern={"q_proj": 2}, alpha_pattern={"layers.1.*": 3})),
                ("llama", "dora-embedding", lora(use_dora=True, target_modules=["q_proj", "embed_tokens"])),
                ("gpt2", "dora-transposed", lora(use_dora=True, target_modules=["c_attn", "c_fc"], fan_in_fan_out=True, bias="lora_only")),
                ("llama", "bias-all", lora(bias="all")),
                ("llama", "bias-lora-only", lora(bias="lora_only")),
                ("llama", "tokens", lora(trainable_token_indices=[39, 5])),
                ("llama", "tokens-of-two", lora(trainable_token_indices={"embed_tokens": [3, 5], "lm_head": [1]})),
                ("tied", "tokens-tied", lora(trainable_token_indices=[3, 5])),
                ("llama", "tokens-alone", peft.TrainableTokensConfig(token_indices=[1, 2])),
                ("tied", "tokens-alone-tied", peft.TrainableTokensConfig(token_indices=[1, 2])),
                ("llama", "norms", peft.LNTuningConfig(target_modules=["input_layernorm"])),
                ("llama", "three-names", lora(modules_to_save=["embed_tokens", "lm_head"]), {"save_embedding_layers": True}),
                ("tied", "saved-tied", lora(modules_to_save=["embed_tokens"], ensure_weight_tying=True)),
                ("llama", "parameters", lora(target_modules=["q_proj"], target_parameters=["mlp.up_proj.weight"])),
                ("qwen3_moe", "experts-apart", lora(target_modules=["q_proj"], target_parameters=experts)),
                ("qwen3_moe", "one-of-two", lora(target_parameters=["mlp.experts.down_proj", "mlp.gate.weight"])),
                ("qwen3_moe", "as-modules", lora(target_modules=["q_proj", "gate", "gate_proj", "up_proj", "down_proj"])),
                ("mixtral", "other-names", lora(target_modules=["q_proj"], target_parameters=experts)),
                ("gpt_oss", "fused", lora(target_modules=["q_proj"], target_parameters=experts))):
            with self.subTest(name):
                self.make_adapter(kind, config, name, **(saving[0] if saving else {}))
                self.assert_is_pefts(kind, name, self.merged(kind, name))

    def test_new_tokens(self):
        for name, config in (("resized", lora()), ("resized-tokens", lora(trainable_token_indices=[3, 41])),
                             ("resized-saved", lora(modules_to_save=["embed_tokens", "lm_head"]))):
            with self.subTest(name):
                self.make_adapter("llama", config, name, grown)
                got = self.merged("llama", name)
                self.assertEqual(got["lm_head.weight"].shape, (44, 16))
                self.assert_is_pefts("llama", name, got, grown)

    def test_experts_of_a_mixture_are_changed_as_in_the_other_form(self):
        """The same adapter over a checkpoint that has its experts together, in either direction."""
        name = "experts-together"
        self.make_adapter("qwen3_moe", lora(target_modules=["q_proj"], target_parameters=["gate_up_proj", "down_proj"]), name)
        apart = self.merged("qwen3_moe", name)
        path = self.folder / "qwen3_moe/model.safetensors"
        tensors = {key: as_float(value).astype(np.float32) for key, value in read_folder(path.parent).items()}
        for transposed in (False, True):
            fused = {key: value for key, value in tensors.items() if ".experts." not in key}
            for layer in range(2):
                expert = lambda values, part: [values[f"model.layers.{layer}.mlp.experts.{e}.{part}_proj.weight"] for e in range(4)]
                both = lambda values: np.concatenate([np.stack(expert(values, "gate")), np.stack(expert(values, "up"))], 1)
                turn = lambda values: np.ascontiguousarray(values.swapaxes(1, 2)) if transposed else values
                stem = f"model.layers.{layer}.mlp.experts."
                fused |= {stem + "gate_up_proj": turn(both(tensors)), stem + "down_proj": turn(np.stack(expert(tensors, "down")))}
            save_file(fused, path)
            got = self.merged("qwen3_moe", name)
            for layer in range(2):
                stem = f"model.layers.{layer}.mlp.experts."
                np.testing.assert_array_equal(turn(got[stem + "gate_up_proj"]), both(apart))
                np.testing.assert_array_equal(turn(got[stem + "down_proj"]), np.stack(expert(apart, "down")))

    def test_names_with_a_prefix(self):
        self.make_adapter("llama", lora(), "plain")
        want = self.merged("llama", "plain")
        path = self.folder / "plain/adapter_model.safetensors"
        tensors = {key: as_float(value).astype(np.float32) for key, value in read_folder(path.parent).items()}
        save_file({f"_orig_mod.{key}": value for key, value in tensors.items()}, path)
        got = self.merged("llama", "plain")
        for key, value in want.items():
            np.testing.assert_array_equal(got[key], value, err_msg=key)

    def test_factors_of_a_tied_head_are_refused_for_the_true_reason(self):
        self.make_adapter("tied", lora(target_modules=["embed_tokens"], ensure_weight_tying=True), "both")
        merged, base = self.merged_by_peft("tied", "both"), base_of("tied")
        trained = peft.PeftModel.from_pretrained(base, self.folder / "both").get_base_model().model.embed_tokens
        trained = trained.get_base_layer().weight + trained.get_delta_weight("default")
        self.assertGreater(np.abs(merged["model.embed_tokens.weight"] - trained.detach().numpy()).max(), 1e-3)
        message = self.merged("tied", "both", expect=3)
        self.assertRegex(message, r"lm_head\.lora_A\.weight changes lm_head\.weight, which \S+ ties to the embeddings")

    def test_kinds_that_change_no_weight(self):
        for name, config in (("prompt", peft.PromptTuningConfig(num_virtual_tokens=2, task_type="CAUSAL_LM")),
                             ("prefix", peft.PrefixTuningConfig(num_virtual_tokens=2, task_type="CAUSAL_LM"))):
            self.make_adapter("llama", config, name)
            self.assertRegex(self.merged("llama", name, expect=3), r"leaves all weights as they are, so there is nothing to merge")

    def without_peft(self):
        """A Python that has no packages."""
        path = self.folder / "python-without-peft"
        path.write_text(f'#!/bin/sh\nexec "{sys.executable}" -S -E "$@"\n')
        path.chmod(0o755)
        return {"AIMERGE_PYTHON": str(path)}

    def job_of(self, name):
        """The file of the job that aimerge names where it has no PEFT."""
        message = self.merged("llama", name, expect=4, **self.without_peft())
        return re.search(r"python \S+/merge_adapter\.py (\S+\.json)$", message, re.MULTILINE).group(1)

    def test_kinds_that_peft_merges_itself(self):
        """By the command that aimerge names, module by module."""
        some = {"target_modules": SOME}
        kinds = {
            "loha": peft.LoHaConfig(r=2, alpha=4, **some), "lokr": peft.LoKrConfig(r=2, alpha=4, modules_to_save=["lm_head"], **some),
            "ia3": peft.IA3Config(target_modules=["k_proj", "down_proj"], feedforward_modules=["down_proj"]), "hra": peft.HRAConfig(r=2, **some),
            "oft": peft.OFTConfig(r=4, oft_block_size=0, **some), "boft": peft.BOFTConfig(boft_block_size=4, **some),
            "adalora": peft.AdaLoraConfig(init_r=2, target_r=2, total_step=10, lora_alpha=4, **some), "vera": peft.VeraConfig(r=4, **some),
            "vera-drawn": peft.VeraConfig(r=4, save_projection=False, **some), "pvera": peft.PveraConfig(r=4, **some),
            "randlora": peft.RandLoraConfig(r=2, **some), "vblora": peft.VBLoRAConfig(r=2, num_vectors=8, vector_length=4, topk=2, **some),
            "fourierft": peft.FourierFTConfig(n_frequency=10, **some), "waveft": peft.WaveFTConfig(n_frequency=10, **some),
            "miss": peft.MissConfig(r=2, **some), "road": peft.RoadConfig(group_size=4, **some), "shira": peft.ShiraConfig(r=2, **some),
            "c3a": peft.C3AConfig(block_size=4, **some), "delora": peft.DeloraConfig(r=2, **some), "gralora": peft.GraloraConfig(r=4, gralora_k=2, **some),
            "osf": peft.OSFConfig(effective_rank=4, **some), "psoft": peft.PsoftConfig(r=2, **some), "hira": peft.HiraConfig(r=2, **some),
            "deft": peft.DeftConfig(**some), "peanut": peft.PeanutConfig(**some), "glora": peft.GloraConfig(r=2, **some),
            "beft": peft.BeftConfig(target_modules=["q_proj"]), "lora_bias": lora(lora_bias=True, target_modules=["q_proj"]), "qalora": lora(use_qalora=True, qalora_group_size=4)}
        tested = {str(config.peft_type.value) for config in kinds.values()}
        self.assertEqual(tested, merge_adapter.MODULE_BY_MODULE | merge_adapter.SHARING)
        self.enterContext(mock.patch.object(merge_adapter, "PART_BYTES", 1))
        for name, config in kinds.items():
            with self.subTest(name):
                self.make_adapter("llama", config, name)
                merge_adapter.merge(self.job_of(name))
                self.assert_is_pefts("llama", name, self.merged("llama", name, **self.without_peft()), exact=True)

    def test_kinds_that_depend_on_the_whole_model_are_refused(self):
        for name, config in (("tinylora", peft.TinyLoraConfig(r=2, target_modules=SOME)), ("poly", peft.PolyConfig(r=2, n_tasks=1, n_skills=1, target_modules=["q_proj"]))):
            self.make_adapter("llama", config, name)
            with self.assertRaisesRegex(merge_adapter.Failure, f"adapters of kind {name.upper()} may depend on more of the model"):
                merge_adapter.explained(self.job_of(name))

    def test_peft_is_started_once_and_its_result_stays(self):
        self.make_adapter("gpt2", peft.IA3Config(target_modules=["c_attn", "c_fc"], feedforward_modules=["c_fc"], fan_in_fan_out=True), "ia3")
        config = self.config({"merge_method": "task_arithmetic", "base_model": str(self.base_folder("gpt2")), "dtype": "float32",
                              "models": [{"model": str(self.folder / "ia3"), "parameters": {"weight": 1.0}}]})
        first = self.aimerge("merge", config, "--out", self.folder / "out", ranks=2, AIMERGE_PYTHON=sys.executable)
        self.assertEqual(first.stderr.count("merges it into"), 1, first.stderr)
        got = {key: as_float(value) for key, value in read_folder(self.folder / "out").items()}
        self.assert_is_pefts("gpt2", "ia3", got)
        scattered = self.config({"merge_method": "linear", "dtype": "float32", "models": [
            {"model": f"{self.base_folder('gpt2')}+{self.folder / 'ia3'}", "parameters": {"weight": 1.0}}]}, "scattered.yaml")
        again = self.aimerge("merge", scattered, "--out", self.folder / "again", "--io", "scatter", ranks=2, **self.without_peft())
        self.assertNotIn("merges it into", again.stderr)
        self.aimerge("merge", scattered, "--out", self.folder / "alone", **self.without_peft())
        self.assertEqual(file_bytes(self.folder / "again"), file_bytes(self.folder / "alone"))
        # Another adapter under the same name is another result.
        path = self.folder / "ia3/adapter_model.safetensors"
        save_file({key: 2 * as_float(value).astype(np.float32) for key, value in read_folder(path.parent).items()}, path)
        self.aimerge("merge", scattered, "--out", self.folder / "other", expect=4, **self.without_peft())


if __name__ == "__main__":
    unittest.main()

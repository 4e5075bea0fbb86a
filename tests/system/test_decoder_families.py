"""The families of decoders that are tables of blocks, against transformers on tiny random models: logits, statistics and gradients, with the
same bits on any number of ranks."""
import json
import os
import subprocess
import unittest

import h5py
import numpy as np
from safetensors.numpy import load_file, save_file

from aimerge_command import AimergeTest, measured_tensors
from hooks import hook_statistics
from peers import needs_peers, torch, transformers

PRINT_LOGITS = os.environ["AIMERGE_PRINT_LOGITS"]
VOCABULARY, LENGTH, SEQUENCES = 96, 20, 2
TOKENS = dict(vocab_size=VOCABULARY, pad_token_id=0, bos_token_id=1, eos_token_id=2)
HEADS = dict(TOKENS, hidden_size=32, intermediate_size=48, num_hidden_layers=3, num_attention_heads=4, max_position_embeddings=64)
SIZE = dict(HEADS, num_key_value_heads=2)
WIDE = dict(SIZE, head_dim=16)
WINDOWS = dict(sliding_window=6, layer_types=["sliding_attention", "full_attention", "sliding_attention"])
YARN = dict(rope_type="yarn", rope_theta=1e4, factor=2.0, original_max_position_embeddings=32, beta_fast=32.0, beta_slow=1.0)
BY_KIND = dict(rope_parameters=dict(sliding_attention=dict(rope_type="default", rope_theta=1e4),
                                    full_attention=dict(rope_type="linear", rope_theta=1e5, factor=4.0)))
SECTIONS = dict(rope_parameters=dict(rope_type="default", rope_theta=1e6, mrope_section=[2, 1, 1]))
GEMMA3 = dict(WIDE, query_pre_attn_scalar=24, **WINDOWS)
IMAGE = dict(hidden_size=24, intermediate_size=40, num_hidden_layers=1, num_attention_heads=2, image_size=28, patch_size=14)
QWEN_IMAGE = dict(depth=1, hidden_size=24, intermediate_size=40, num_heads=2, out_hidden_size=32)
QWEN_TOKENS = dict(image_token_id=5, video_token_id=6, vision_start_token_id=7, vision_end_token_id=8)
GPT = dict(vocab_size=VOCABULARY, bos_token_id=1, eos_token_id=2, n_embd=32, n_layer=3, n_head=4, n_positions=64)
LLAMA3 = dict(rope_type="llama3", rope_theta=1e4, factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0, original_max_position_embeddings=32)
GRANITE = dict(embedding_multiplier=3.0, logits_scaling=2.0, residual_multiplier=0.3, attention_multiplier=0.2)
FALCON = dict(TOKENS, hidden_size=32, ffn_hidden_size=48, num_hidden_layers=3, num_attention_heads=4, max_position_embeddings=64)

# name: (configuration class, values)
NAMES_AND_WRAPPERS = {
    "internlm3": ("InternLM3Config", WIDE),
    "seed_oss": ("SeedOssConfig", WIDE),
    "ministral": ("MinistralConfig", dict(WIDE, **WINDOWS)),
    "ministral3": ("Ministral3Config", dict(WIDE, rope_parameters=dict(YARN, mscale=1.0, mscale_all_dim=1.0, llama_4_scaling_beta=0.1))),
    "gemma": ("GemmaConfig", WIDE),
    "mistral3": ("Mistral3Config", dict(text_config=dict(WIDE, model_type="mistral"), vision_config=dict(IMAGE, model_type="pixtral", head_dim=12))),
    "qwen2_vl": ("Qwen2VLConfig", dict(QWEN_TOKENS, text_config=dict(SIZE, **SECTIONS), vision_config=dict(depth=1, embed_dim=24, hidden_size=32, num_heads=2, mlp_ratio=2))),
    "qwen2_5_vl": ("Qwen2_5_VLConfig", dict(QWEN_TOKENS, text_config=dict(SIZE, **SECTIONS), vision_config=dict(QWEN_IMAGE, fullatt_block_indexes=[0]))),
    "qwen3_vl": ("Qwen3VLConfig", dict(QWEN_TOKENS, text_config=dict(WIDE, **SECTIONS), vision_config=dict(QWEN_IMAGE, deepstack_visual_indexes=[0], num_position_embeddings=4))),
}
LOCAL_AND_GLOBAL = {
    "gemma3_text": ("Gemma3TextConfig", GEMMA3),
    "gemma3_text, scaled": ("Gemma3TextConfig", dict(GEMMA3, **BY_KIND, final_logit_softcapping=4.0)),
    "gemma3": ("Gemma3Config", dict(text_config=GEMMA3, vision_config=IMAGE, mm_tokens_per_image=4)),
    "olmo2": ("Olmo2Config", SIZE),
    "olmo3": ("Olmo3Config", dict(SIZE, **WINDOWS)),
    "exaone4": ("Exaone4Config", dict(SIZE, **WINDOWS)),
    "exaone4, no windows": ("Exaone4Config", dict(SIZE, sliding_window=None, layer_types=["full_attention"] * 3)),
    "smollm3": ("SmolLM3Config", dict(SIZE, no_rope_layers=[1, 0, 1])),
    "granite": ("GraniteConfig", dict(SIZE, **GRANITE)),
    "cohere": ("CohereConfig", dict(SIZE, logit_scale=0.3)),
    "cohere2": ("Cohere2Config", dict(SIZE, logit_scale=0.3, **WINDOWS)),
    "hunyuan_v1_dense": ("HunYuanDenseV1Config", WIDE),
    "hunyuan_v1_dense, alpha": ("HunYuanDenseV1Config", dict(WIDE, rope_parameters=dict(rope_type="dynamic", rope_theta=1e4, factor=1.0, alpha=50.0))),
}
PLAIN_MLP = {
    "apertus": ("ApertusConfig", dict(SIZE, rope_parameters=LLAMA3)),
    "arcee": ("ArceeConfig", dict(SIZE, head_dim=8)),
    "helium": ("HeliumConfig", dict(SIZE, head_dim=8)),
}
OLDER_BLOCKS = {
    "glm": ("GlmConfig", WIDE),
    "glm4": ("Glm4Config", WIDE),
    "ernie4_5": ("Ernie4_5Config", WIDE),
    "starcoder2": ("Starcoder2Config", dict(SIZE, sliding_window=6)),
    "stablelm": ("StableLmConfig", dict(SIZE, use_qkv_bias=True)),
    "stablelm, parallel": ("StableLmConfig", dict(SIZE, use_parallel_residual=True, qk_layernorm=True)),
    "phi": ("PhiConfig", SIZE),
    "phi, norms of heads": ("PhiConfig", dict(SIZE, qk_layernorm=True)),
    "gpt_neox": ("GPTNeoXConfig", HEADS),
    "gpt_neox, in turn": ("GPTNeoXConfig", dict(HEADS, use_parallel_residual=False)),
    "persimmon": ("PersimmonConfig", HEADS),
    "nemotron": ("NemotronConfig", SIZE),
    "falcon": ("FalconConfig", FALCON),
    "falcon, new": ("FalconConfig", dict(FALCON, new_decoder_architecture=True, num_kv_heads=2, bias=True)),
    "falcon, one norm": ("FalconConfig", dict(FALCON, new_decoder_architecture=True, num_kv_heads=2, num_ln_in_parallel_attn=1)),
    "gpt2": ("GPT2Config", GPT),
    "gpt_bigcode": ("GPTBigCodeConfig", dict(GPT, n_inner=48)),
    "gptj": ("GPTJConfig", dict(GPT, rotary_dim=4, tie_word_embeddings=False)),
    "opt": ("OPTConfig", dict({key: HEADS[key] for key in HEADS if key != "intermediate_size"}, ffn_dim=48, word_embed_proj_dim=32)),
}
ALSO_ON_THREE_RANKS = ("gemma3_text", "cohere2", "qwen3_vl", "gpt2", "apertus")
OMEGA = [{"filter": "vision", "value": 1}, {"filter": "visual", "value": 1}, {"value": 0.4}]  # no text goes through a tower of images
NOT_OF_TEXT = ("vision", "visual", "multi_modal_projector")


class Families(AimergeTest):
    """One family after another; each is measured once, and then compared."""

    def make(self, name, kind, values):
        torch.manual_seed(11)
        config = getattr(transformers, kind)(**values)
        isWrapper = hasattr(config, "text_config") or hasattr(config, "vision_config")
        loader = transformers.AutoModelForImageTextToText if isWrapper else transformers.AutoModelForCausalLM
        model = loader.from_config(config, attn_implementation="eager").float()
        generator = torch.Generator().manual_seed(12)
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.15)
        folder = self.folder / name.replace(", ", "-").replace(" ", "-")
        model.save_pretrained(folder)
        twin = self.folder / f"{folder.name}-twin"
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.01)
        model.save_pretrained(twin)
        return folder, twin, loader.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager").eval()

    def ids(self):
        return np.random.default_rng(13).integers(9, VOCABULARY, (SEQUENCES, LENGTH))

    def token_ids(self):
        path = self.folder / "ids.safetensors"
        save_file({"input_ids": self.ids()}, path)
        return str(path)

    def measure(self, folder, twin, ranks):
        """@return statistics {module: {name: values}}, sensitivity {parameter: values}"""
        aim = {"omega": OMEGA, "calibration": {"token_ids": self.token_ids(), "sequences": SEQUENCES, "dtype": "float32", "micro_batch": 1}}
        is_text = "vision_config" not in json.loads((folder / "config.json").read_text())  # gradients are those of all of a model
        config = {"merge_method": "task_arithmetic", "base_model": str(folder), "dtype": "float32",
                  "models": [{"model": str(twin), "parameters": {"weight": 1.0}}], "aim": aim | ({"statistic": "sensitivity"} if is_text else {})}
        cache, out = self.folder / f"cache-{folder.name}-{ranks}", self.folder / f"out-{folder.name}-{ranks}"
        self.aimerge("merge", self.config(config), "--out", out, "--threads", 1, ranks=ranks, AIMERGE_CACHE_DIR=str(cache))
        with h5py.File(out / "aimerge_statistics.h5") as file:
            statistics = {module: {name: values[:] for name, values in group.items()} for module, group in file["statistics"].items()}
        return statistics, measured_tensors(next(cache.rglob("sensitivity-*.safetensors")).parent) if is_text else {}

    def hooked_means(self, model, names):
        """Mean |x| of the first argument of every module of the text decoder that has a weight, by its name in the file."""
        def name_of(name, module):
            weight = getattr(module, "weight", None)
            is_watched = weight is not None and weight.dim() > 0 and not isinstance(module, torch.nn.Embedding) and not any(part in name for part in NOT_OF_TEXT)
            return names(name) if is_watched else None

        return {name: values["mean_abs"] for name, values in hook_statistics(model, self.ids(), name_of).items()}

    def sensitivities(self, model, names):
        """Mean |gradient| of the mean entropy of the next-token distributions, over sequences."""
        model = model.double()
        parameters = {names(key): value for key, value in model.named_parameters() if not any(part in key for part in NOT_OF_TEXT)}
        wanted = {key: torch.zeros_like(value) for key, value in parameters.items()}
        for sequence in torch.tensor(self.ids()):
            logarithms = model(input_ids=sequence[None]).logits[0].log_softmax(-1)
            model.zero_grad()
            (-(logarithms.exp() * logarithms).sum(-1).mean()).backward()
            for key, value in parameters.items():
                wanted[key] += value.grad.abs() / SEQUENCES
        return {key: value.numpy() for key, value in wanted.items()}

    def names_in_file(self, model, folder):
        """From a name in memory to that in the file, by what the tensors hold."""
        stored = load_file(folder / "model.safetensors")
        by_name = {}
        for key, value in model.state_dict().items():
            same = [name for name, values in stored.items() if values.shape == tuple(value.shape) and np.array_equal(values, value.numpy())]
            if same:
                by_name[key] = min(same, key=lambda name: name != key)

        def name(key):
            if key in by_name:
                return by_name[key]
            stored_name = by_name.get(key + ".weight", "")
            return key if not stored_name or (key == "lm_head" and "embed_out" not in stored_name) else stored_name.removesuffix(".weight")

        return name

    def logits(self, folders, ids):
        """Ours, of each model [length, vocabulary]: one process, for to start one takes longer than a tiny model."""
        printed = subprocess.run([PRINT_LOGITS, *folders, "--", *map(str, ids)], capture_output=True, check=True).stdout
        return np.frombuffer(printed, np.float32).reshape(len(folders), len(ids), VOCABULARY)

    def check(self, families):
        ids, made = self.ids()[0], {name: self.make(name, *family) for name, family in families.items()}
        logits = dict(zip(made, self.logits([folder for folder, _, _ in made.values()], ids)))
        for name, (folder, twin, model) in made.items():
            with self.subTest(model=name):
                values, names = families[name][1], self.names_in_file(model, folder)
                with torch.inference_mode():
                    want = model(input_ids=torch.tensor(ids)[None]).logits[0].numpy()
                self.assertGreater(np.abs(want).max(), 0.2)
                np.testing.assert_allclose(logits[name], want, atol=1e-4, rtol=1e-4)

                statistics, gradients = self.measure(folder, twin, 1)
                means = self.hooked_means(model, names)
                self.assertEqual(set(statistics), set(means))
                for module, want in means.items():
                    np.testing.assert_allclose(statistics[module]["mean_abs"], want, rtol=1e-4, atol=1e-6, err_msg=module)
                wanted = self.sensitivities(model, names) if gradients else {}
                self.assertEqual(set(gradients), set(wanted))
                self.assertEqual(bool(gradients), "vision_config" not in values)
                largest = max((np.abs(want).max() for want in wanted.values()), default=0)
                for key, want in wanted.items():
                    np.testing.assert_allclose(gradients[key], want, rtol=2e-3, atol=1e-4 * np.abs(want).max() + 1e-6 * largest, err_msg=key)

                for ranks in (2, 3) if name in ALSO_ON_THREE_RANKS else (2,):
                    others, other_gradients = self.measure(folder, twin, ranks)
                    for module, values in statistics.items():
                        for statistic, numbers in values.items():
                            self.assertEqual(numbers.tobytes(), others[module][statistic].tobytes(), f"{module} {statistic} on {ranks} ranks")
                    for key, values in gradients.items():
                        self.assertEqual(values.tobytes(), other_gradients[key].tobytes(), f"{key} on {ranks} ranks")


@needs_peers
class NamesAndWrappers(Families):
    def test_are_equal_to_transformers(self):
        self.check(NAMES_AND_WRAPPERS)


@needs_peers
class LocalAndGlobal(Families):
    def test_are_equal_to_transformers(self):
        self.check(LOCAL_AND_GLOBAL)

    def test_the_older_style_of_config(self):
        """rope_theta and rope_local_base_freq of transformers 4 say what rope_parameters does."""
        folder, _, model = self.make("old", "Gemma3TextConfig", GEMMA3)
        path = folder / "config.json"
        config = json.loads(path.read_text())
        parameters = config.pop("rope_parameters")
        config.pop("layer_types")
        config |= {"rope_theta": 5e4, "rope_local_base_freq": 50.0, "sliding_window_pattern": 2}
        path.write_text(json.dumps(config))
        ids = self.ids()[0]
        got = self.logits([folder], ids)[0]
        model = type(model).from_pretrained(folder, dtype=torch.float32, attn_implementation="eager").eval()
        self.assertNotEqual(parameters, model.config.rope_parameters)
        with torch.inference_mode():
            want = model(input_ids=torch.tensor(ids)[None]).logits[0].numpy()
        np.testing.assert_allclose(got, want, atol=1e-4, rtol=1e-4)


@needs_peers
class PlainMlps(Families):
    def test_are_equal_to_transformers(self):
        self.check(PLAIN_MLP)


@needs_peers
class OlderBlocks(Families):
    def test_are_equal_to_transformers(self):
        self.check(OLDER_BLOCKS)

    def test_what_is_not_run_is_named(self):
        for kind, values, key in (("GPT2Config", dict(GPT, scale_attn_by_inverse_layer_idx=True), "scale_attn_by_inverse_layer_idx"),
                                  ("GraniteConfig", dict(SIZE, hidden_act="relu"), "hidden_act")):
            with self.subTest(key=key):
                folder, twin, _ = self.make(key, kind, values)
                config = {"base_model": str(folder), "aim": {"omega": 0.4, "calibration": {"token_ids": self.token_ids(), "dtype": "float32"}}}
                failed = self.aimerge("calibrate", self.config(config), "--out", self.folder / "x.h5", expect=3)
                self.assertIn(f"config.json: {key} is ", failed.stderr)
                merge = {"merge_method": "linear", "models": [{"model": str(path), "parameters": {"weight": 1.0}} for path in (folder, twin)]}
                self.aimerge("merge", self.config(merge), "--out", self.folder / f"merged-{key}")  # all else goes on


if __name__ == "__main__":
    unittest.main()

"""Statistics that src/tools/record_statistics.py takes, on tiny random models of many kinds: against forward hooks, and of experts against the tokens
that their router chose."""
import contextlib
import importlib.util
import io
import json
import pathlib
import subprocess
import sys
import unittest
from unittest import mock

import h5py
import numpy as np
from safetensors import safe_open
from safetensors.numpy import load_file, save_file

from aimerge_command import AimergeTest
from peers import needs_peers, torch, transformers

RECORDER = pathlib.Path(__file__).resolve().parents[2] / "src/tools/record_statistics.py"
if torch:
    sys.path.insert(0, str(RECORDER.parent))
    import record_statistics

SIZE = dict(hidden_size=48, intermediate_size=96, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2, vocab_size=160,
            max_position_embeddings=128, pad_token_id=0, bos_token_id=1, eos_token_id=2)
ENCODER_SIZE = {key: value for key, value in SIZE.items() if key != "num_key_value_heads"}
GPT2_SIZE = dict(n_embd=48, n_layer=2, n_head=4, vocab_size=160, n_positions=128, bos_token_id=1, eos_token_id=2)
VISION_SIZE = dict(model_type="siglip_vision_model", hidden_size=32, intermediate_size=64, num_hidden_layers=1, num_attention_heads=2, image_size=28,
                   patch_size=14)
EXPERTS = 24  # enough for some to stay without a token
IDS = np.random.default_rng(3).integers(10, 160, (4, 24))
TOKENS = IDS.size


class Recorded:
    """A log that the tool wrote, and what it said."""

    def __init__(self, path, output):
        self.output = output
        with h5py.File(path) as file:
            self.attributes = dict(file.attrs)
            self.config = file["base_config"][()].decode()
            self.values = {name: {key: values[()] for key, values in group.items()} for name, group in file["statistics"].items()}
            self.tokens = {name: group.attrs["tokens"] for name, group in file["statistics"].items()}
            self.input_axes = {name: group.attrs.get("input_axis", -1) for name, group in file["statistics"].items()}


def statistics_of(rows):
    """The mean over the rows of [rows, channels]; zeros without rows."""
    x = rows.detach().double().abs().numpy()
    if len(x) == 0:
        x = np.zeros((1, x.shape[1]))
    return {"mean_abs": x.mean(0), "rms": np.sqrt((x ** 2).mean(0)), "max_abs": x.max(0)}


@needs_peers
class RecorderTest(AimergeTest):
    def save(self, model, name="model", noise=0.1):
        generator = torch.Generator().manual_seed(12)
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(torch.randn(parameter.shape, generator=generator) * noise)
        folder = self.folder / name
        model.save_pretrained(folder)
        return folder

    def make(self, kind, noise=0.1, auto_class="AutoModelForCausalLM", **size):
        torch.manual_seed(11)
        config = getattr(transformers, kind + "Config")(**size)
        return self.save(getattr(transformers, auto_class).from_config(config).float(), noise=noise)

    def command(self, folder, *options, dtype="float32"):
        ids = self.folder / "ids.safetensors"
        save_file({"input_ids": IDS}, ids)
        return [str(part) for part in (RECORDER, folder, "--token-ids", ids, "--dtype", dtype, "--out", self.folder / "log.h5", *options)]

    def run_here(self, command):
        """In this process, as importing torch and transformers takes longer than all the rest."""
        said = io.StringIO()
        with mock.patch.object(sys, "argv", command), contextlib.redirect_stderr(said), contextlib.redirect_stdout(io.StringIO()):
            record_statistics.main()
        return Recorded(self.folder / "log.h5", said.getvalue())

    def record(self, folder, *options, **more):
        return self.run_here(self.command(folder, *options, **more))

    def refusal(self, folder, *options):
        with self.assertRaises(SystemExit) as refused:
            self.record(folder, *options)
        return str(refused.exception)

    def load(self, folder):
        kind = getattr(transformers, json.loads((folder / "config.json").read_text())["architectures"][0])
        return kind.from_pretrained(folder, dtype=torch.float32).eval()

    def run_model(self, model):
        with torch.no_grad():
            for sequence in torch.tensor(IDS):
                decoder = {"decoder_input_ids": sequence[None]} if model.config.is_encoder_decoder else {}
                model(input_ids=sequence[None], use_cache=False, **decoder)

    def hooked_inputs(self, folder, is_wanted):
        """{module: its input [rows, channels]}"""
        model, inputs = self.load(folder), {}
        for name, module in model.named_modules():
            if is_wanted(module):
                module.register_forward_pre_hook(lambda _, given, name=name: inputs.setdefault(name, []).append(given[0].flatten(0, -2)))
        self.run_model(model)
        return {name: torch.cat(rows) for name, rows in inputs.items()}

    def hooked_calls(self, folder, kind):
        """{module: the arguments of its calls}"""
        model, calls = self.load(folder), {}
        for name, module in model.named_modules():
            if type(module).__name__ == kind:
                module.register_forward_pre_hook(lambda _, given, name=name: calls.setdefault(name, []).append(given))
        self.run_model(model)
        return {name: [torch.cat(values) for values in zip(*arguments)] for name, arguments in calls.items()}

    def assert_values(self, got, rows, module):
        for statistic, want in statistics_of(rows).items():
            np.testing.assert_allclose(got[statistic], want, rtol=1e-5, atol=1e-7, err_msg=f"{module} {statistic}")

    def assert_module(self, recorded, module, rows, input_axis=-1):
        self.assertEqual(recorded.tokens[module], len(rows), module)
        self.assertEqual(recorded.input_axes[module], input_axis, module)
        self.assert_values(recorded.values[module], rows, module)

    def assert_expert(self, recorded, module, expert, rows):
        """The statistics of a fused tensor."""
        self.assertEqual(recorded.tokens[module][expert], len(rows), module)
        self.assert_values({key: values[expert] for key, values in recorded.values[module].items()}, rows, f"{module} {expert}")


def is_linear_or_norm(module):
    weight = getattr(module, "weight", None)
    return weight is not None and not isinstance(module, torch.nn.Embedding)


class PlainModels(RecorderTest):
    def assert_equals_hooks(self, folder, recorded):
        inputs = self.hooked_inputs(folder, is_linear_or_norm)
        self.assertEqual(set(recorded.values), set(inputs))
        for module, rows in inputs.items():
            self.assert_module(recorded, module, rows)

    def test_llama_and_what_the_log_says_of_the_run(self):
        folder = self.make("Llama", **SIZE)

        done = subprocess.run([sys.executable, *self.command(folder)], text=True, capture_output=True)

        self.assertEqual(done.returncode, 0, done.stderr)
        recorded = Recorded(self.folder / "log.h5", done.stderr)
        self.assert_equals_hooks(folder, recorded)
        self.assertEqual(json.loads(recorded.config), json.loads((folder / "config.json").read_text()))
        self.assertEqual(recorded.attributes["tokens"], TOKENS)
        status = (folder / "model.safetensors").stat()
        self.assertEqual(recorded.attributes["base_file_stamps"],
                         f"model.safetensors {status.st_size} {status.st_mtime_ns // 10**9}.{status.st_mtime_ns % 10**9:09}\n")
        self.assertIn("not measured (1): embeddings, which are looked up: model.embed_tokens.weight", recorded.output)

    def test_a_model_of_masked_language(self):
        folder = self.make("Bert", auto_class="AutoModelForMaskedLM", **ENCODER_SIZE)
        self.assert_equals_hooks(folder, self.record(folder))

    def test_encoder_and_decoder(self):
        folder = self.make("T5", auto_class="AutoModelForSeq2SeqLM", d_model=48, d_kv=12, d_ff=96, num_layers=2, num_heads=4, vocab_size=160,
                           decoder_start_token_id=0, feed_forward_proj="gated-gelu", tie_word_embeddings=False)
        self.assert_equals_hooks(folder, self.record(folder))

    def test_gpt2_whose_matrices_stand_the_other_way(self):
        folder = self.make("GPT2", **GPT2_SIZE)

        recorded = self.record(folder)

        inputs = self.hooked_inputs(folder, is_linear_or_norm)
        self.assertEqual(set(recorded.values), set(inputs))  # with the head, which is tied, as lm_head
        for module, rows in inputs.items():
            self.assert_module(recorded, module, rows, input_axis=-2 if ".c_" in module else -1)

    def test_a_head_that_is_called_embedding(self):
        folder = self.make("GPTNeoX", **SIZE)

        recorded = self.record(folder)

        head = self.hooked_inputs(folder, lambda module: isinstance(module, torch.nn.Linear) and module.out_features == SIZE["vocab_size"])
        self.assert_module(recorded, "embed_out", *head.values())

    def test_mamba_whose_dt_proj_is_multiplied_without_its_forward(self):
        folder = self.make("Mamba", hidden_size=48, num_hidden_layers=2, vocab_size=160, state_size=8, time_step_rank=4)

        recorded = self.record(folder)

        model, outputs = self.load(folder), []
        model.backbone.layers[1].mixer.x_proj.register_forward_hook(lambda _, given, output: outputs.append(output.flatten(0, -2)))
        self.run_model(model)
        self.assert_module(recorded, "backbone.layers.1.mixer.dt_proj", torch.cat(outputs)[:, :4])
        self.assertIn("not measured (2): convolutions: backbone.layers.N.mixer.conv1d.weight", recorded.output)

    def test_a_shared_block_counts_with_all_its_uses(self):
        folder = self.make("Zamba2", **{**SIZE, "num_hidden_layers": 4}, layers_block_type=["mamba", "hybrid", "mamba", "hybrid"], n_mamba_heads=8,
                           mamba_headdim=12, mamba_d_state=8, mamba_ngroups=1, num_mem_blocks=1, use_mem_rope=True, adapter_rank=8)

        recorded = self.record(folder)

        first = "model.layers.1.shared_transformer.self_attn.q_proj"
        inputs = self.hooked_inputs(folder, lambda module: isinstance(module, torch.nn.Linear))
        self.assert_module(recorded, first, torch.cat([inputs[first], inputs[first.replace("1", "3", 1)]]))

    def test_norms_of_heads_have_a_value_per_element(self):
        folder = self.make("Cohere", **SIZE, use_qk_norm=True)

        recorded = self.record(folder)

        module = "model.layers.0.self_attn.q_norm"
        model, inputs = self.load(folder), []
        model.model.layers[0].self_attn.q_norm.register_forward_pre_hook(lambda _, given: inputs.append(given[0].flatten(0, -3).flatten(1)))
        self.run_model(model)
        self.assertEqual(recorded.values[module]["rms"].shape, (4 * 12,))
        self.assert_module(recorded, module, torch.cat(inputs))


class OtherNames(RecorderTest):
    def test_gemma3_with_a_vision_tower(self):
        """New norms are all of one number: only their names tell them apart."""
        folder = self.make("Gemma3", noise=0, auto_class="AutoModelForImageTextToText", text_config={**SIZE, "head_dim": 12},
                           vision_config=VISION_SIZE, mm_tokens_per_image=4, image_token_index=5)

        recorded = self.record(folder)

        with safe_open(folder / "model.safetensors", "np") as file:
            names = {name.removesuffix(".weight") for name in file.keys()}
        inputs = {name.replace("model.language_model.", "language_model.model."): rows
                  for name, rows in self.hooked_inputs(folder, is_linear_or_norm).items()}
        self.assertEqual(set(recorded.values) - {"lm_head"}, {name for name in names if name in inputs})
        self.assertEqual(set(recorded.values), set(inputs))
        self.assertIn("language_model.model.layers.1.input_layernorm", inputs)
        for module, rows in inputs.items():
            self.assert_module(recorded, module, rows)
        self.assertRegex(recorded.output, r"took part in nothing that was run: .*vision_tower")
        self.assertIn("--images", recorded.output)

    def test_weights_of_another_type_in_the_file(self):
        """And routers that compute in float32 all the same."""
        folder = self.make("DeepseekV3", **{**SIZE, "num_key_value_heads": 4}, moe_intermediate_size=24, n_routed_experts=4, num_experts_per_tok=2,
                           first_k_dense_replace=1, n_group=1, topk_group=1, q_lora_rank=16, kv_lora_rank=16, qk_nope_head_dim=8, qk_rope_head_dim=8,
                           v_head_dim=12)

        exact, rounded = self.record(folder), self.record(folder, dtype="bfloat16")

        self.assertEqual(set(exact.values), set(rounded.values))
        self.assertIn("model.layers.1.mlp.gate", exact.values)
        self.assertIn("model.layers.1.mlp.experts.3.up_proj", exact.values)
        for module, values in exact.values.items():
            self.assertEqual(values["rms"].shape, rounded.values[module]["rms"].shape)


@unittest.skipUnless(importlib.util.find_spec("PIL"), "no pillow; launch/setup.sh installs it")
class Images(RecorderTest):
    def test_both_towers_of_clip(self):
        towers = dict(hidden_size=32, intermediate_size=64, num_hidden_layers=1, num_attention_heads=2)
        folder = self.make("CLIP", auto_class="AutoModel", vision_config={**towers, "image_size": 28, "patch_size": 14}, projection_dim=16,
                           text_config={**towers, "vocab_size": 40, "max_position_embeddings": 32, "bos_token_id": 1, "eos_token_id": 2})
        self.save_processor(folder)
        images = self.save_images(3)
        corpus = self.folder / "corpus.txt"
        corpus.write_text(" ".join(f"w{i % 30}" for i in range(100)))

        recorded = self.run_here([str(part) for part in (RECORDER, folder, "--corpus", corpus, "--images", images, "--sequences", 4,
                                                         "--sequence-length", 16, "--dtype", "float32", "--out", self.folder / "log.h5")])

        self.assertEqual(recorded.tokens["vision_model.encoder.layers.0.mlp.fc1"], 4 * (2 * 2 + 1))
        self.assertEqual(recorded.tokens["text_model.encoder.layers.0.mlp.fc1"], 4 * 16)
        self.assertEqual(recorded.tokens["visual_projection"], 4)
        self.assertNotIn("took part in nothing", recorded.output)

    def save_processor(self, folder):
        from tokenizers import Tokenizer, models, pre_tokenizers
        words = ["<pad>", "<s>", "</s>", "<unk>", *(f"w{i}" for i in range(36))]
        tokenizer = Tokenizer(models.WordLevel({word: number for number, word in enumerate(words)}, unk_token="<unk>"))
        tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
        fast = transformers.PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="<pad>", eos_token="</s>", unk_token="<unk>")
        sizes = dict(size={"shortest_edge": 28}, crop_size={"height": 28, "width": 28})
        transformers.CLIPProcessor(transformers.CLIPImageProcessor(**sizes), fast).save_pretrained(folder)

    def save_images(self, count):
        from PIL import Image
        folder = self.folder / "images"
        folder.mkdir()
        for number in range(count):
            pixels = np.random.default_rng(number).integers(0, 256, (40, 50, 3)).astype(np.uint8)
            Image.fromarray(pixels).save(folder / f"{number}.png")
        return folder


class Experts(RecorderTest):
    def chosen(self, calls, expert):
        """The rows that went to one expert, from the calls of an experts' module with (hidden [tokens, channels], indices [tokens, chosen], ...)."""
        hidden, indices = calls[:2]
        return hidden[(indices == expert).any(-1)]

    def assert_separate(self, folder, recorded, kind, block_of, gate, up, down):
        """@return tokens of the experts"""
        weights = {name: torch.tensor(values) for name, values in load_file(folder / "model.safetensors").items()}
        tokens = []
        for module, calls in self.hooked_calls(folder, kind).items():
            block = block_of(module)
            for expert in range(EXPERTS):
                rows = self.chosen(calls, expert)
                names = [f"{block}.{expert}.{part}" for part in (gate, up, down)]
                gate_weight, up_weight = (weights[f"{name}.weight"] for name in names[:2])
                inner = torch.nn.functional.silu(rows @ gate_weight.T) * (rows @ up_weight.T)
                for name, entering in zip(names, (rows, rows, inner)):
                    self.assert_module(recorded, name, entering)
                tokens.append(len(rows))
        return tokens

    def test_separate_in_the_file(self):
        folder = self.make("Qwen3Moe", **SIZE, head_dim=12, num_experts=EXPERTS, num_experts_per_tok=2, moe_intermediate_size=24)

        recorded = self.record(folder)

        tokens = self.assert_separate(folder, recorded, "Qwen3MoeExperts", lambda module: module, "gate_proj", "up_proj", "down_proj")
        self.assertIn(0, tokens)
        self.assertEqual(sum(tokens), 2 * 2 * TOKENS)
        self.assertIn(f"of {2 * EXPERTS} experts {tokens.count(0)} saw no token", recorded.output)
        self.assertEqual(recorded.tokens["model.layers.0.mlp.gate"], TOKENS)

    def test_separate_under_other_names(self):
        folder = self.make("Mixtral", **SIZE, num_local_experts=EXPERTS)

        recorded = self.record(folder)

        self.assert_separate(folder, recorded, "MixtralExperts", lambda module: module.replace("mlp", "block_sparse_moe"), "w1", "w3", "w2")
        self.assertIn("model.layers.0.block_sparse_moe.gate", recorded.values)

    def test_gpt_oss(self):
        folder = self.make("GptOss", **SIZE, head_dim=12, num_local_experts=EXPERTS, num_experts_per_tok=2)

        recorded = self.record(folder)

        weights = {name: torch.tensor(values) for name, values in load_file(folder / "model.safetensors").items()}
        for module, calls in self.hooked_calls(folder, "GptOssExperts").items():
            for expert in range(EXPERTS):
                rows = self.chosen(calls, expert)
                both = rows @ weights[f"{module}.gate_up_proj"][expert] + weights[f"{module}.gate_up_proj_bias"][expert]
                gate, up = both[:, ::2].clamp(max=7.0), both[:, 1::2].clamp(-7.0, 7.0)
                self.assert_expert(recorded, f"{module}.gate_up_proj", expert, rows)
                self.assert_expert(recorded, f"{module}.down_proj", expert, (up + 1) * gate * torch.sigmoid(gate * 1.702))
        self.assertEqual(recorded.input_axes["model.layers.0.mlp.experts.down_proj"], -2)
        self.assertEqual(recorded.input_axes["model.layers.0.mlp.experts.gate_up_proj"], -2)

    def test_llama4(self):
        folder = self.make("Llama4Text", **SIZE, head_dim=12, intermediate_size_mlp=96, num_local_experts=EXPERTS, num_experts_per_tok=1,
                           interleave_moe_layer_step=1)

        recorded = self.record(folder)

        weights = {name: torch.tensor(values) for name, values in load_file(folder / "model.safetensors").items()}
        for module, (hidden,) in self.hooked_calls(folder, "Llama4TextMoe").items():
            hidden = hidden.flatten(0, -2)
            scores = hidden @ weights[f"{module}.router.weight"].T
            for expert in range(EXPERTS):
                is_own = scores.argmax(1) == expert
                rows = hidden[is_own] * torch.sigmoid(scores[is_own, expert, None])
                gate, up = (rows @ weights[f"{module}.experts.gate_up_proj"][expert]).chunk(2, dim=-1)
                self.assert_expert(recorded, f"{module}.experts.gate_up_proj", expert, rows)
                self.assert_expert(recorded, f"{module}.experts.down_proj", expert, up * torch.nn.functional.silu(gate))
            self.assertEqual(recorded.input_axes[f"{module}.experts.gate_up_proj"], -2)
            self.assertEqual(recorded.input_axes[f"{module}.experts.down_proj"], -2)

    def test_fused_with_the_input_behind(self):
        folder = self.make("GraniteMoe", **SIZE, num_local_experts=EXPERTS)

        recorded = self.record(folder)

        for module, calls in self.hooked_calls(folder, "GraniteMoeExperts").items():
            name = module.replace("experts", "input_linear")
            for expert in range(EXPERTS):
                self.assert_expert(recorded, name, expert, self.chosen(calls, expert))
            self.assertEqual(recorded.input_axes[name], -1)


    def test_turned_round_when_transformers_loads_them(self):
        """Qwen3-VL-MoE's files on the hub have [experts, in, out], transformers computes with and saves [experts, out, in]."""
        rope = {"rope_parameters": {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [2, 2, 2]}}
        vision = dict(depth=1, hidden_size=32, intermediate_size=64, num_heads=2, out_hidden_size=48, deepstack_visual_indexes=[0],
                      num_position_embeddings=16)
        folder = self.make("Qwen3VLMoe", auto_class="AutoModelForImageTextToText", vision_config=vision, image_token_id=5, video_token_id=6,
                           vision_start_token_id=7, vision_end_token_id=8,
                           text_config={**SIZE, **rope, "head_dim": 12, "num_experts": 8, "num_experts_per_tok": 2, "moe_intermediate_size": 20})
        saved = self.record(folder)
        path = folder / "model.safetensors"
        tensors = load_file(path)
        fused = {name for name, values in tensors.items() if "mlp.experts" in name}
        save_file({name: np.ascontiguousarray(values.swapaxes(1, 2)) if name in fused else values for name, values in tensors.items()}, path,
                  metadata={"format": "pt"})

        turned = self.record(folder)

        self.assertEqual(len(fused), 4)
        self.assertEqual(set(turned.values), set(saved.values))
        for name in fused:
            self.assertEqual((saved.input_axes[name], turned.input_axes[name]), (-1, -2))
            np.testing.assert_array_equal(saved.values[name]["rms"], turned.values[name]["rms"])
            np.testing.assert_array_equal(saved.tokens[name], turned.tokens[name])


class Refusals(RecorderTest):
    def test_an_activation_that_is_no_number_names_the_first_module(self):
        model = transformers.LlamaForCausalLM(transformers.LlamaConfig(**SIZE))
        with torch.no_grad():
            model.model.layers[1].self_attn.v_proj.weight[0, 0] = float("nan")
        self.assertIn("input of model.layers.1.self_attn.o_proj.weight: an activation is NaN or infinite",
                      self.refusal(self.save(model)))

    def test_a_class_that_does_not_exist(self):
        folder = self.make("Llama", **SIZE)
        self.assertIn("--auto-class Llama5ForNothing", self.refusal(folder, "--auto-class", "Llama5ForNothing"))

    def test_images_for_a_model_that_takes_none(self):
        folder = self.make("Llama", **SIZE)
        self.assertIn("takes no images", self.refusal(folder, "--images", self.folder))


if __name__ == "__main__":
    unittest.main()

"""Llama checkpoints with TinyLlama's shapes (1.1 billion parameters, untied) and random weights: a base and three experts whose
changes are as small as those of a fine-tune, 1 % of the weights, a part of which bfloat16 does not even see."""
import hashlib
import json
import pathlib
import subprocess
import sys

import numpy as np

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2] / "src" / "tools"))
from bfloat16 import round_to_bfloat16, widen  # noqa: E402

HIDDEN, INTERMEDIATE, HEADS, KV_HEADS, VOCABULARY = 2048, 5632, 32, 4, 32000
WEIGHT_SCALE, DELTA_SCALE = 0.02, 0.0002
EXPERTS = ("expert_a", "expert_b", "expert_c")


def shapes(layers):
    kv = HIDDEN // HEADS * KV_HEADS
    per_layer = {
        "input_layernorm": [HIDDEN], "post_attention_layernorm": [HIDDEN],
        "self_attn.q_proj": [HIDDEN, HIDDEN], "self_attn.k_proj": [kv, HIDDEN], "self_attn.v_proj": [kv, HIDDEN],
        "self_attn.o_proj": [HIDDEN, HIDDEN], "mlp.gate_proj": [INTERMEDIATE, HIDDEN], "mlp.up_proj": [INTERMEDIATE, HIDDEN],
        "mlp.down_proj": [HIDDEN, INTERMEDIATE],
    }
    named = {"model.embed_tokens.weight": [VOCABULARY, HIDDEN], "lm_head.weight": [VOCABULARY, HIDDEN],
             "model.norm.weight": [HIDDEN]}
    for layer in range(layers):
        named.update({f"model.layers.{layer}.{module}.weight": shape for module, shape in per_layer.items()})
    return dict(sorted(named.items()))


def random_values(model, name, shape):
    seed = int.from_bytes(hashlib.sha256(f"{model}/{name}".encode()).digest()[:8], "little")
    return np.random.Generator(np.random.SFC64(seed)).standard_normal(shape, dtype=np.float32)


def base_weight(name, shape):
    values = random_values("base", name, shape)
    values *= WEIGHT_SCALE
    if len(shape) == 1:
        values += 1
    return round_to_bfloat16(values)


def expert_weight(model, name, shape):
    values = random_values(model, name, shape)
    values *= DELTA_SCALE
    values += widen(base_weight(name, shape))
    return round_to_bfloat16(values)


def write_model(folder, model, layers):
    """Tensor by tensor, so that no more than one is in memory."""
    partial = folder.with_name(folder.name + ".partial")
    partial.mkdir(parents=True, exist_ok=True)
    header, offset = {"__metadata__": {"format": "pt"}}, 0
    for name, shape in shapes(layers).items():
        end = offset + 2 * int(np.prod(shape))
        header[name] = {"dtype": "BF16", "shape": shape, "data_offsets": [offset, end]}
        offset = end
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with open(partial / "model.safetensors", "wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for name, shape in shapes(layers).items():
            file.write((base_weight(name, shape) if model == "base" else expert_weight(model, name, shape)).data)
    config = {
        "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": HIDDEN, "intermediate_size": INTERMEDIATE,
        "num_hidden_layers": layers, "num_attention_heads": HEADS, "num_key_value_heads": KV_HEADS, "vocab_size": VOCABULARY,
        "hidden_act": "silu", "rms_norm_eps": 1e-05, "rope_theta": 10000.0, "max_position_embeddings": 2048,
        "tie_word_embeddings": False, "torch_dtype": "bfloat16", "bos_token_id": 1, "eos_token_id": 2,
    }
    (partial / "config.json").write_text(json.dumps(config, indent=2) + "\n")
    partial.rename(folder)


def make_models(folder, layers):
    """{name: folder} of the base and the experts, written when they are not there yet. By a process of its own: a command's peak
    memory, as the kernel counts it, starts from that of the process that starts it."""
    models = {model: folder / f"{layers}-layers" / model for model in ("base", *EXPERTS)}
    for model, path in models.items():
        if not path.is_dir():
            print(f"writing {path}", file=sys.stderr, flush=True)
            subprocess.run([sys.executable, __file__, path, model, str(layers)], check=True)
    return models


if __name__ == "__main__":
    write_model(pathlib.Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]))

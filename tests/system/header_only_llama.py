"""Checkpoints of Llama-2-70B's shapes whose weights are holes in their files: as large as the real ones for whoever reads headers, and a few MB on
disk."""
import json

HIDDEN, INTERMEDIATE, LAYERS, HEADS, KV_HEADS, VOCABULARY = 8192, 28672, 80, 64, 8, 32000
SHARDS = 15
PARAMETERS = 68_976_648_192


def shapes():
    kv = HIDDEN // HEADS * KV_HEADS
    per_layer = {
        "input_layernorm": [HIDDEN], "post_attention_layernorm": [HIDDEN],
        "self_attn.q_proj": [HIDDEN, HIDDEN], "self_attn.k_proj": [kv, HIDDEN], "self_attn.v_proj": [kv, HIDDEN],
        "self_attn.o_proj": [HIDDEN, HIDDEN], "mlp.gate_proj": [INTERMEDIATE, HIDDEN], "mlp.up_proj": [INTERMEDIATE, HIDDEN],
        "mlp.down_proj": [HIDDEN, INTERMEDIATE],
    }
    named = {"model.embed_tokens.weight": [VOCABULARY, HIDDEN]}
    for layer in range(LAYERS):
        named.update({f"model.layers.{layer}.{module}.weight": shape for module, shape in per_layer.items()})
    return {**named, "model.norm.weight": [HIDDEN], "lm_head.weight": [VOCABULARY, HIDDEN]}


def byte_count(shape):
    return 2 * shape[0] * (shape[1] if len(shape) > 1 else 1)


def write_shard(path, tensors):
    header, offset = {"__metadata__": {"format": "pt"}}, 0
    for name, shape in tensors.items():
        header[name] = {"dtype": "BF16", "shape": shape, "data_offsets": [offset, offset + byte_count(shape)]}
        offset += byte_count(shape)
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        file.truncate(file.tell() + offset)


def write_model(folder):
    folder.mkdir(parents=True)
    named = shapes()
    names = list(named)
    per_shard = -(-len(names) // SHARDS)
    weight_map = {}
    for shard in range(SHARDS):
        file = f"model-{shard + 1:05}-of-{SHARDS:05}.safetensors"
        own = {name: named[name] for name in names[shard * per_shard:(shard + 1) * per_shard]}
        write_shard(folder / file, own)
        weight_map.update(dict.fromkeys(own, file))
    total = sum(map(byte_count, named.values()))
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {"total_size": total}, "weight_map": weight_map}))
    (folder / "config.json").write_text(json.dumps({
        "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": HIDDEN, "intermediate_size": INTERMEDIATE,
        "num_hidden_layers": LAYERS, "num_attention_heads": HEADS, "num_key_value_heads": KV_HEADS, "vocab_size": VOCABULARY,
        "hidden_act": "silu", "rms_norm_eps": 1e-05, "rope_theta": 10000.0, "max_position_embeddings": 4096,
        "tie_word_embeddings": False, "torch_dtype": "bfloat16", "bos_token_id": 1, "eos_token_id": 2}))
    return folder


def merge_config(folder):
    """A base and three experts below the folder, and the config that merges them with AIM by the paper's preset."""
    models = [write_model(folder / name) for name in ("base", "code", "instruct", "math")]
    return {"merge_method": "ties", "base_model": str(models[0]), "dtype": "bfloat16",
            "models": [{"model": str(model), "parameters": {"weight": 1.0, "density": 0.5}} for model in models[1:]],
            "aim": {"omega": 0.4, "preset": "paper", "calibration": {"corpus": "pile.jsonl"}}}

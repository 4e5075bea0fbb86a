"""What a Llama checkpoint of any size consists of."""


def llama_shapes(hidden, intermediate, heads, kv_heads, vocabulary, layers):
    """{parameter: shape}, in model order, with a head of its own."""
    kv = hidden // heads * kv_heads
    per_layer = {
        "input_layernorm": [hidden], "post_attention_layernorm": [hidden],
        "self_attn.q_proj": [hidden, hidden], "self_attn.k_proj": [kv, hidden], "self_attn.v_proj": [kv, hidden],
        "self_attn.o_proj": [hidden, hidden], "mlp.gate_proj": [intermediate, hidden], "mlp.up_proj": [intermediate, hidden],
        "mlp.down_proj": [hidden, intermediate],
    }
    named = {"model.embed_tokens.weight": [vocabulary, hidden]}
    for layer in range(layers):
        named.update({f"model.layers.{layer}.{module}.weight": shape for module, shape in per_layer.items()})
    return {**named, "model.norm.weight": [hidden], "lm_head.weight": [vocabulary, hidden]}


def llama_config(hidden, intermediate, heads, kv_heads, vocabulary, layers, positions):
    """Its config.json."""
    return {
        "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": hidden, "intermediate_size": intermediate,
        "num_hidden_layers": layers, "num_attention_heads": heads, "num_key_value_heads": kv_heads, "vocab_size": vocabulary,
        "hidden_act": "silu", "rms_norm_eps": 1e-05, "rope_theta": 10000.0, "max_position_embeddings": positions,
        "tie_word_embeddings": False, "torch_dtype": "bfloat16", "bos_token_id": 1, "eos_token_id": 2,
    }

"""Feature calibration (include/aimerge/calibration/featcal.h) once more, dense, in numpy and float64, with forward passes of its own; and tiny
random models of the families that aimerge runs."""
import dataclasses
import json

import numpy as np
from safetensors.numpy import load_file, save_file

SIZE = dict(hidden_size=48, intermediate_size=80, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2, vocab_size=101,
            max_position_embeddings=256, rms_norm_eps=1e-5, pad_token_id=0, bos_token_id=1, eos_token_id=2, tie_word_embeddings=False,
            rope_parameters=dict(rope_type="default", rope_theta=10000.0), dtype="float32")
FAMILIES = {
    "llama": dict(model_type="llama", architectures=["LlamaForCausalLM"], hidden_act="silu"),
    "llama, biases": dict(model_type="llama", architectures=["LlamaForCausalLM"], hidden_act="silu", attention_bias=True, mlp_bias=True),
    "mistral": dict(model_type="mistral", architectures=["MistralForCausalLM"], hidden_act="silu", head_dim=16, sliding_window=12),
    "qwen2": dict(model_type="qwen2", architectures=["Qwen2ForCausalLM"], hidden_act="silu", use_sliding_window=False),
    "qwen3": dict(model_type="qwen3", architectures=["Qwen3ForCausalLM"], hidden_act="silu", head_dim=16, use_sliding_window=False),
    "gemma2": dict(model_type="gemma2", architectures=["Gemma2ForCausalLM"], hidden_activation="gelu_pytorch_tanh", head_dim=16,
                   sliding_window=12, layer_types=["sliding_attention", "full_attention"], query_pre_attn_scalar=24,
                   attn_logit_softcapping=5.0, final_logit_softcapping=3.0, tie_word_embeddings=True),
    "phi3": dict(model_type="phi3", architectures=["Phi3ForCausalLM"], hidden_act="silu", sliding_window=None),
}


@dataclasses.dataclass
class Model:
    config: dict
    weights: dict  # {tensor: float64 array}

    @classmethod
    def read(cls, folder):
        weights = {name: values.astype(np.float64) for path in sorted(folder.glob("*.safetensors")) for name, values in load_file(path).items()}
        return cls(json.loads((folder / "config.json").read_text()), weights)

    def is_a(self, kind):
        return self.config["model_type"] == kind


# Forward passes.

def rotated(x, theta):
    """x: [sequences, heads, length, channels of a head]"""
    half = x.shape[-1] // 2
    angles = np.arange(x.shape[2])[:, None] * theta ** (-np.arange(half) / half)
    cosines, sines = np.cos(angles), np.sin(angles)
    return np.concatenate([x[..., :half] * cosines - x[..., half:] * sines, x[..., half:] * cosines + x[..., :half] * sines], -1)


def attention(model, layer, query, key, value):
    """[sequences, length, heads, channels] each. @return the input of the output projection"""
    config = model.config
    theta = config["rope_parameters"]["rope_theta"]
    groups = query.shape[2] // key.shape[2]
    query, key, value = (x.transpose(0, 2, 1, 3) for x in (query, np.repeat(key, groups, 2), np.repeat(value, groups, 2)))
    scores = rotated(query, theta) @ rotated(key, theta).swapaxes(2, 3) / np.sqrt(config.get("query_pre_attn_scalar", query.shape[3]))
    if cap := config.get("attn_logit_softcapping"):
        scores = cap * np.tanh(scores / cap)
    back = np.arange(query.shape[2])[:, None] - np.arange(query.shape[2])
    kinds = config.get("layer_types")
    window = config.get("sliding_window") if kinds is None or kinds[layer] == "sliding_attention" else None
    seen = (back >= 0) & (back < (window or len(back)))
    weights = np.where(seen, np.exp(scores - scores.max(-1, keepdims=True)), 0)
    mixed = weights / weights.sum(-1, keepdims=True) @ value
    return mixed.transpose(0, 2, 1, 3).reshape(*mixed.shape[0:1], mixed.shape[2], -1)


def activation(model, x):
    if model.is_a("gemma2"):
        return 0.5 * x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)))
    return x / (1 + np.exp(-x))


def forward(model, ids):
    """@return ({module: what enters it}, in forward order, of the layers' modules; logits)"""
    config, weights, inputs = model.config, model.weights, {}
    shift = 1 if model.is_a("gemma2") else 0

    def linear(name, x):
        inputs[name] = x
        return x @ weights[f"{name}.weight"].T + weights.get(f"{name}.bias", 0)

    def norm(name, x):
        inputs[name] = x
        return normalised(model, x) * (weights[f"{name}.weight"] + shift)

    def heads(x, size):
        return x.reshape(*x.shape[:2], -1, size)

    hidden = weights["model.embed_tokens.weight"][ids] * (np.sqrt(config["hidden_size"]) if shift else 1)
    size = config.get("head_dim") or config["hidden_size"] // config["num_attention_heads"]
    for layer in range(config["num_hidden_layers"]):
        prefix = f"model.layers.{layer}"
        attended, fed = f"{prefix}.self_attn", f"{prefix}.mlp"
        x = norm(f"{prefix}.input_layernorm", hidden)
        if model.is_a("phi3"):
            queries, keys = config["num_attention_heads"] * size, config["num_key_value_heads"] * size
            query, key, value = np.split(linear(f"{attended}.qkv_proj", x), [queries, queries + keys], -1)
        else:
            query, key, value = (linear(f"{attended}.{part}_proj", x) for part in "qkv")
        query, key, value = (heads(part, size) for part in (query, key, value))
        if model.is_a("qwen3"):
            query, key = norm(f"{attended}.q_norm", query), norm(f"{attended}.k_norm", key)
        branch = linear(f"{attended}.o_proj", attention(model, layer, query, key, value))
        if shift:
            hidden = hidden + norm(f"{prefix}.post_attention_layernorm", branch)
            x = norm(f"{prefix}.pre_feedforward_layernorm", hidden)
        else:
            hidden = hidden + branch
            x = norm(f"{prefix}.post_attention_layernorm", hidden)
        if model.is_a("phi3"):
            gate, up = np.split(linear(f"{fed}.gate_up_proj", x), 2, -1)
        else:
            gate, up = linear(f"{fed}.gate_proj", x), linear(f"{fed}.up_proj", x)
        branch = linear(f"{fed}.down_proj", activation(model, gate) * up)
        hidden = hidden + (norm(f"{prefix}.post_feedforward_layernorm", branch) if shift else branch)
    last = normalised(model, hidden) * (weights["model.norm.weight"] + shift)
    logits = last @ weights.get("lm_head.weight", weights["model.embed_tokens.weight"]).T
    if cap := config.get("final_logit_softcapping"):
        logits = cap * np.tanh(logits / cap)
    return inputs, logits


def normalised(model, x):
    return x / np.sqrt(np.mean(x**2, -1, keepdims=True) + model.config["rms_norm_eps"])


# The formulas.

@dataclasses.dataclass
class Teacher:
    model: Model
    ids: np.ndarray
    weight: float = 1.0


def is_norm(module):
    return module.endswith("norm")


def rows(x):
    return x.reshape(-1, x.shape[-1])


def to_float32(values):
    return values.astype(np.float32)


def calibrated(merged, teachers, base=None, strength=0.01, rho=1.0, alpha=1.0, fits=lambda module: True, stored=to_float32):
    """{tensor: fitted values}. @param merged the weights that hold with `strength`, exact
    @param stored rounds as the output does, of which the fitted model goes on; gives a float array"""
    student = Model(merged.config, {name: stored(values).astype(np.float64) for name, values in merged.weights.items()})
    taught = [forward(teacher.model, teacher.ids)[0] for teacher in teachers]

    def towards(name):
        return rho * merged.weights[name] + ((1 - rho) * base.weights[name] if rho != 1 else 0)

    def store(name, values):
        fitted[name] = stored(values)
        student.weights[name] = fitted[name].astype(np.float64)

    fitted, entered = {}, None
    for module in filter(fits, taught[0]):
        if entered is not taught[0][module]:  # else fitting the module before it has changed nothing that enters this one
            entered = taught[0][module]
            passes = [forward(student, teacher.ids)[0] for teacher in teachers]
        seen = [inputs[module] for inputs in passes]
        name, bias = f"{module}.weight", f"{module}.bias"
        if is_norm(module):
            energies = [teacher.weight * np.mean(rows(normalised(student, x)) ** 2, 0) for teacher, x in zip(teachers, seen)]
            wanted = sum(energy * teacher.model.weights[name] for energy, teacher in zip(energies, teachers))
            store(name, (wanted + strength * towards(name)) / (sum(energies) + strength))
            continue
        left, right = strength * np.eye(seen[0].shape[-1]), strength * towards(name).T
        means, scales = 0, 0
        for teacher, inputs, x in zip(teachers, taught, seen):
            own, x = teacher.model.weights, rows(x)
            mixed = alpha * rows(inputs[module]) + (1 - alpha) * x
            square, product = x.T @ x / len(x), x.T @ (mixed @ own[name].T) / len(x)
            scale = teacher.weight / np.linalg.norm(square)
            left, right = left + scale * square, right + scale * product
            if bias in own:
                means = means + scale * np.concatenate([own[bias] + own[name] @ mixed.mean(0), x.mean(0)])
                scales += scale
        fit = np.linalg.solve(left, right).T
        store(name, fit)
        if bias in merged.weights:
            outputs, entering = np.split(means, [len(fit)])
            store(bias, (outputs - fit @ entering + strength * towards(bias)) / (scales + strength))
    return fitted


# Models.

def shapes(config):
    """{tensor: shape}"""
    hidden, inner, heads, keys = (config[key] for key in ("hidden_size", "intermediate_size", "num_attention_heads", "num_key_value_heads"))
    size = config.get("head_dim") or hidden // heads
    linear = {"self_attn.q_proj": (heads * size, hidden), "self_attn.k_proj": (keys * size, hidden), "self_attn.v_proj": (keys * size, hidden),
              "self_attn.o_proj": (hidden, heads * size), "mlp.gate_proj": (inner, hidden), "mlp.up_proj": (inner, hidden),
              "mlp.down_proj": (hidden, inner)}
    norms = {"input_layernorm": hidden, "post_attention_layernorm": hidden}
    biased = []
    if config["model_type"] == "phi3":
        linear = {"self_attn.qkv_proj": ((heads + 2 * keys) * size, hidden), "mlp.gate_up_proj": (2 * inner, hidden),
                  **{name: linear[name] for name in ("self_attn.o_proj", "mlp.down_proj")}}
    if config["model_type"] == "gemma2":
        norms |= {"pre_feedforward_layernorm": hidden, "post_feedforward_layernorm": hidden}
    if config["model_type"] == "qwen3":
        norms |= {"self_attn.q_norm": size, "self_attn.k_norm": size}
    if config["model_type"] == "qwen2":
        biased = ["self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"]
    if config.get("attention_bias"):
        biased = list(linear)
    found = {"model.embed_tokens.weight": (config["vocab_size"], hidden), "model.norm.weight": (hidden,)}
    if not config["tie_word_embeddings"]:
        found["lm_head.weight"] = (config["vocab_size"], hidden)
    for layer in range(config["num_hidden_layers"]):
        prefix = f"model.layers.{layer}."
        found |= {f"{prefix}{name}.weight": shape for name, shape in linear.items()}
        found |= {f"{prefix}{name}.weight": (channels,) for name, channels in norms.items()}
        found |= {f"{prefix}{name}.bias": linear[name][:1] for name in biased}
    return found


def random_weights(config, draws):
    weights = {}
    for name, shape in shapes(config).items():
        values = draws.standard_normal(shape)
        if name.endswith("norm.weight"):
            values = 0.2 * values + (config["model_type"] != "gemma2")
        elif name.endswith("bias"):
            values *= 0.3
        elif not name.startswith("model.embed"):
            values /= np.sqrt(shape[1])
        weights[name] = values.astype(np.float32)
    return weights


def write(folder, config, weights):
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(config, indent=1))
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


def make_models(folder, family="llama", experts=("one", "two"), seed=1, change=0.1, changes_norms=True, **differences):
    """A random base and experts, which differ from it in every parameter: {name: folder}"""
    config = {**SIZE, **FAMILIES[family], **differences}
    draws = np.random.default_rng([seed, sum(map(ord, family))])
    base = random_weights(config, draws)
    folders = {"base": write(folder / "base", config, base)}
    for name in experts:
        weights = {}
        for key, values in base.items():
            moves = changes_norms or not is_norm(key.removesuffix(".weight"))
            noise = draws.standard_normal(values.shape) * change * np.std(values) * moves
            weights[key] = (values + noise).astype(np.float32)
        folders[name] = write(folder / name, config, weights)
    return folders


def make_texts(path, blocks, length, seed, vocabulary=SIZE["vocab_size"]):
    """Random token ids [blocks, length], written to a .safetensors file."""
    ids = np.random.default_rng([seed, blocks, length]).integers(3, vocabulary, (blocks, length))
    save_file({"input_ids": ids}, path)
    return ids

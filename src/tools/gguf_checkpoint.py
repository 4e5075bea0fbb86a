"""Reads a Llama model from a GGUF file as the parts of a Hugging Face checkpoint: weights in bfloat16, config, tokenizer."""
import gguf
import numpy as np
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

from bfloat16 import round_to_bfloat16

OUTER_NAMES = {"token_embd": "model.embed_tokens", "output_norm": "model.norm"}
LAYER_NAMES = {
    "attn_norm": "input_layernorm", "attn_q": "self_attn.q_proj", "attn_k": "self_attn.k_proj", "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj", "ffn_norm": "post_attention_layernorm", "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj", "ffn_down": "mlp.down_proj",
}
CONTROL_TOKEN = 3  # GGUF's token type of <|im_start|> and its like


class GgufCheckpoint:
    def __init__(self, path):
        self._reader = gguf.GGUFReader(path)

    def _field(self, name):
        return self._reader.fields[name].contents()

    def _size(self, name):
        return int(self._field("llama." + name))

    def config(self):
        heads = self._size("attention.head_count")
        hidden = self._size("embedding_length")
        return {
            "architectures": ["LlamaForCausalLM"], "model_type": "llama", "attention_bias": False, "attention_dropout": 0.0,
            **self.special_token_ids(), "head_dim": hidden // heads, "hidden_act": "silu", "hidden_size": hidden,
            "initializer_range": 0.02, "intermediate_size": self._size("feed_forward_length"),
            "max_position_embeddings": self._size("context_length"), "mlp_bias": False, "num_attention_heads": heads,
            "num_hidden_layers": self._size("block_count"), "num_key_value_heads": self._size("attention.head_count_kv"),
            "pretraining_tp": 1, "rms_norm_eps": 1e-05, "rope_scaling": None,
            "rope_theta": float(self._field("llama.rope.freq_base")), "tie_word_embeddings": True, "torch_dtype": "bfloat16",
            "use_cache": True, "vocab_size": self._size("vocab_size"),
        }

    def special_token_ids(self):
        return {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 2}

    def weights(self):
        """{Hugging Face name: bfloat16 bit patterns}, in name order."""
        config = self.config()
        heads = {"attn_q": config["num_attention_heads"], "attn_k": config["num_key_value_heads"]}
        weights = {}
        for tensor in self._reader.tensors:
            shape = [int(size) for size in reversed(tensor.shape)]
            values = gguf.quants.dequantize(tensor.data, tensor.tensor_type).astype(np.float32).reshape(shape)
            parts = tensor.name.removesuffix(".weight").split(".")
            if parts[0] == "blk":
                _, layer, kind = parts
                if kind in heads:
                    values = split_rotary_halves(values, heads[kind])
                name = f"model.layers.{layer}.{LAYER_NAMES[kind]}.weight"
            else:
                name = OUTER_NAMES[parts[0]] + ".weight"
            weights[name] = round_to_bfloat16(values)
        return dict(sorted(weights.items()))

    def tokenizer(self):
        tokens = self._field("tokenizer.ggml.tokens")
        kinds = self._field("tokenizer.ggml.token_type")
        merges = [tuple(merge.split(" ")) for merge in self._field("tokenizer.ggml.merges")]
        tokenizer = Tokenizer(models.BPE({token: index for index, token in enumerate(tokens)}, merges))
        tokenizer.add_special_tokens([AddedToken(token, normalized=False, special=True)
                                      for token, kind in zip(tokens, kinds) if kind == CONTROL_TOKEN])
        # GGUF's pre-tokenizer "smollm": every digit on its own, then GPT-2's byte-level split.
        tokenizer.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True),
                                                           pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)])
        tokenizer.decoder = decoders.ByteLevel()
        return tokenizer

    def tokenizer_config(self):
        tokens = self._field("tokenizer.ggml.tokens")
        return {
            "tokenizer_class": "PreTrainedTokenizerFast", "bos_token": tokens[1], "eos_token": tokens[2], "pad_token": tokens[2],
            "unk_token": tokens[0], "add_bos_token": False, "model_max_length": 8192, "clean_up_tokenization_spaces": False,
            "chat_template": self._field("tokenizer.chat_template"),
        }


def split_rotary_halves(weight, heads):
    """GGUF interleaves the rows of a q or k projection that rotate together; Hugging Face keeps them in two halves of a head."""
    rows, columns = weight.shape
    return weight.reshape(heads, rows // heads // 2, 2, columns).swapaxes(1, 2).reshape(rows, columns)

"""A tokenizer of the `tokenizers` library from vocab.json and merges.txt, for folders without tokenizer.json.

It is the one that transformers makes of such a folder: how text is cut into words depends on the tokenizer's class, and
what else is a token stands in tokenizer_config.json or, in older folders, in special_tokens_map.json and added_tokens.json.
"""

import json
import os

SPECIAL_KEYS = ("bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token")
GPT2_DEFAULTS = dict.fromkeys(("unk_token", "bos_token", "eos_token"), "<|endoftext|>")
QWEN2_DEFAULTS = dict.fromkeys(("unk_token", "eos_token", "pad_token"), "<|endoftext|>")
QWEN2_WORDS = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+"
               r"|\s+(?!\S)|\s+")

# By model_type, for folders that do not name their class.
CLASS_OF_MODEL = {
    **dict.fromkeys(("gpt2", "gpt_bigcode", "starcoder2", "gpt_neo", "gptj", "opt", "phi", "codegen"), "GPT2Tokenizer"),
    **dict.fromkeys(("qwen2", "qwen2_moe", "qwen3", "qwen3_moe"), "Qwen2Tokenizer"),
}


class UnknownTokenizer(Exception):
    """The class is not one of those that this file knows."""


def load_json(folder, name):
    path = os.path.join(folder, name)
    if not os.path.exists(path):
        return {}
    with open(path, encoding="utf-8") as file:
        return json.load(file)


def class_of(folder, config):
    model = load_json(folder, "config.json")
    name = config.get("tokenizer_class") or model.get("tokenizer_class") or CLASS_OF_MODEL.get(model.get("model_type"))
    known = {"GPT2Tokenizer": "GPT2Tokenizer", "CodeGenTokenizer": "GPT2Tokenizer", "Qwen2Tokenizer": "Qwen2Tokenizer"}
    if not name or name.removesuffix("Fast") not in known:
        raise UnknownTokenizer(
            f"{folder}: has vocab.json and merges.txt, but no tokenizer.json, and a tokenizer of the class {name}, expected "
            f"{', '.join(known)}. `python -c 'import transformers as t; "
            f"t.AutoTokenizer.from_pretrained(\"{folder}\").save_pretrained(\"{folder}\")'` writes tokenizer.json")
    return known[name.removesuffix("Fast")]


def token_text(token):
    return token.get("content") if isinstance(token, dict) else token


def named_tokens(settings):
    """The tokens that have a purpose, in the order in which those that the vocabulary lacks get ids."""
    keys = list(SPECIAL_KEYS) + [key for key in settings if key.endswith("_token") and key not in SPECIAL_KEYS]
    tokens = [settings.get(key) for key in keys]
    for key in ("additional_special_tokens", "extra_special_tokens"):
        tokens += settings[key] if isinstance(settings.get(key), list) else []
    return [token for token in tokens if isinstance(token_text(token), str)]


def flags_of(entry):
    return {key: entry[key] for key in ("single_word", "lstrip", "rstrip", "normalized") if key in entry}


def added_tokens(folder, config, settings, library):
    """AddedTokens by ascending id, then those that are only named."""
    decoder = config.get("added_tokens_decoder")
    if decoder is None:
        special = {token_text(token) for token in named_tokens(settings)}
        entries = {id: {"content": text, "normalized": text not in special, "special": text in special}
                   for text, id in load_json(folder, "added_tokens.json").items()}
    else:
        entries = {int(id): entry for id, entry in decoder.items()}
    added = {entry["content"]: library.AddedToken(entry["content"], special=entry.get("special", False), **flags_of(entry))
             for _, entry in sorted(entries.items())}
    for token in named_tokens(settings):
        flags = flags_of(token) if isinstance(token, dict) else {}
        added.setdefault(token_text(token), library.AddedToken(token_text(token), special=True, **flags))
        added[token_text(token)].special = True
    return list(added.values())


def tokenizer_from(folder, config, library):
    """The tokenizer, and its settings: tokenizer_config.json with what other files and the class say.

    library is the module `tokenizers`. Raises UnknownTokenizer, OSError, ValueError or what the library raises.
    """
    kind = class_of(folder, config)
    model = library.models.BPE.from_file(os.path.join(folder, "vocab.json"), os.path.join(folder, "merges.txt"),
                                         continuing_subword_prefix="", end_of_word_suffix="")
    tokenizer = library.Tokenizer(model)
    prefix = bool(config.get("add_prefix_space"))
    bytes_of_words = library.pre_tokenizers.ByteLevel(add_prefix_space=prefix, use_regex=kind == "GPT2Tokenizer")
    if kind == "GPT2Tokenizer":
        defaults = GPT2_DEFAULTS
        tokenizer.pre_tokenizer = bytes_of_words
    else:
        defaults = QWEN2_DEFAULTS
        tokenizer.normalizer = library.normalizers.NFC()
        words = library.pre_tokenizers.Split(library.Regex(QWEN2_WORDS), behavior="isolated")
        tokenizer.pre_tokenizer = library.pre_tokenizers.Sequence([words, bytes_of_words])
    tokenizer.decoder = library.decoders.ByteLevel()
    older = load_json(folder, "special_tokens_map.json") if "added_tokens_decoder" not in config else {}
    settings = {**defaults, **config, **older}
    tokenizer.add_tokens(added_tokens(folder, config, settings, library))
    return tokenizer, settings

"""The tiny models that tests/data/mergekit_styles names: families whose members differ by noise, with tokenizers, adapters and files as people
publish them."""
import copy
import json
import shutil

from safetensors.torch import load_file, save_file

from peers import peft, torch, transformers

NOISE = 0.01
VOCABULARY = 303
TOKENS = dict(bos_token_id=1, eos_token_id=2, pad_token_id=None)
SIZES = dict(TOKENS, hidden_size=16, intermediate_size=24, num_attention_heads=2, num_hidden_layers=2, max_position_embeddings=64)
GROUPED = dict(SIZES, num_key_value_heads=1)
ENGLISH = ["The weights of two models are added, and their sum is one model.", "Who merges the merger? A layer, a slice, a mean.",
           "It costs 12 or 345 steps, not 6789.", "def merge(models): return sum(models) / len(models)"]
GERMAN = ["Die Gewichte zweier Modelle werden addiert.", "Wer mischt den Mischer? Eine Schicht, ein Mittel.", "Das kostet 12 oder 345 Schritte."]
SPECIAL = ["<unk>", "<s>", "</s>"]
TEMPLATES = {"plain": "{% for m in messages %}{{ m['role'] }}: {{ m['content'] }}\n{% endfor %}",
             "marked": "\n{% for m in messages %}[{{ m['role'] }}] {{ m['content'] }}{{ eos_token }}{% endfor %}\n\n"}


def trained_tokenizer(texts, size, added=(), template=None):
    """A byte-level BPE tokenizer of at most `size` tokens, and behind them the added ones."""
    import tokenizers

    tokenizer = tokenizers.Tokenizer(tokenizers.models.BPE(unk_token="<unk>"))
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = tokenizers.decoders.ByteLevel()
    alphabet = tokenizers.pre_tokenizers.ByteLevel.alphabet()
    trainer = tokenizers.trainers.BpeTrainer(vocab_size=size, special_tokens=SPECIAL, initial_alphabet=alphabet, show_progress=False)
    tokenizer.train_from_iterator(texts, trainer)
    result = transformers.PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="<unk>", bos_token="<s>", eos_token="</s>")
    result.add_tokens(list(added))
    result.chat_template = template
    return result


def add_noise(model, scale, seed):
    torch.manual_seed(seed)
    with torch.no_grad():
        for values in model.parameters():
            values.add_(torch.randn_like(values) * scale)
    return model


def members(make, names, seed):
    """{name: model}: the first is what the others differ from by noise. Its own noise is larger, so that no norm is 1."""
    torch.manual_seed(seed)
    first = add_noise(make(), 10 * NOISE, seed)
    return {name: add_noise(copy.deepcopy(first), NOISE, seed + number) if number else first for number, name in enumerate(names)}


def llama(rows=VOCABULARY, layers=8, **changes):
    return lambda: transformers.LlamaForCausalLM(transformers.LlamaConfig(**{**GROUPED, "vocab_size": rows, "num_hidden_layers": layers, **changes}))


def causal(kind, **values):
    """A maker of the causal model whose configuration is of the class transformers.<kind>Config."""
    configuration = getattr(transformers, f"{kind}Config")
    return lambda: transformers.AutoModelForCausalLM.from_config(configuration(**{"vocab_size": VOCABULARY, **values}))


def llava():
    vision = transformers.CLIPVisionConfig(image_size=32, patch_size=8, num_hidden_layers=2, num_attention_heads=2, hidden_size=16,
                                           intermediate_size=24)
    text = transformers.LlamaConfig(**GROUPED, vocab_size=VOCABULARY)
    return transformers.LlavaForConditionalGeneration(transformers.LlavaConfig(vision_config=vision, text_config=text, image_seq_length=16))


OTHER_FAMILIES = {
    "qwen": (causal("Qwen2", **GROUPED, tie_word_embeddings=True, use_sliding_window=False), 3),
    "granite": (causal("Granite", **GROUPED), 2),
    "gpt2": (causal("GPT2", n_embd=16, n_head=2, n_layer=2, n_positions=64, bos_token_id=1, eos_token_id=2), 3),
    "gemma": (causal("Gemma2", **GROUPED, head_dim=8), 3),
    "phi": (causal("Phi3", **GROUPED), 3),
    "mixtral": (causal("Mixtral", **GROUPED, num_local_experts=2), 3),
    "starcoder": (causal("Starcoder2", **GROUPED), 3),
    "llava": (llava, 3),
}


def make_all(folder):
    """Every model, in folders of `folder`."""
    tokenizer = trained_tokenizer(ENGLISH, VOCABULARY)
    make_family(folder, llama(), ["base", "math", "code", "chat"], tokenizer, seed=1)
    make_vocabularies(folder / "words")
    make_variants(folder)
    make_adapters(folder)
    for name, (make, count) in OTHER_FAMILIES.items():
        make_family(folder / name, make, ["base", "math", "code"][:count], tokenizer, seed=7)


def make_family(folder, make, names, tokenizer, seed):
    for name, model in members(make, names, seed).items():
        model.save_pretrained(folder / name)
        tokenizer.save_pretrained(folder / name)


def make_vocabularies(folder):
    """Models of two layers whose tokenizers differ: added tokens, rows for no token, tokens for no row, other texts, chat templates."""
    kinds = {"base": ([], 0, None), "chatml": (["<|im_start|>", "<|im_end|>"], 0, "marked"),
             "llama3": (["<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"], 0, "marked"),
             "unused": (["<UNUSED_0>", "<UNUSED_1>"], -2, "plain"), "padded": ([], 16, None),
             "german": (["<|im_end|>", "<rolle>"], 0, None)}
    made = {name: (trained_tokenizer(GERMAN if name == "german" else ENGLISH, 300, added, TEMPLATES.get(template)), rows)
            for name, (added, rows, template) in kinds.items()}
    size = max(len(tokenizer) + rows for tokenizer, rows in made.values())
    for name, model in members(llama(size, layers=2), list(kinds), seed=3).items():
        tokenizer, rows = made[name]
        model.resize_token_embeddings(len(tokenizer) + rows)
        model.save_pretrained(folder / name)
        tokenizer.save_pretrained(folder / name)


def save_changed(folder, source, target, change=lambda tensors: tensors, **config):
    """A copy of a model with other tensors, and keys of config.json."""
    shutil.copytree(folder / source, folder / target)
    path = folder / target / "model.safetensors"
    save_file(change(load_file(path)), path, metadata={"format": "pt"})
    path = folder / target / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **config}, indent=2))


def make_variants(folder):
    for name in ("base", "math", "code"):
        save_changed(folder, name, f"half/{name}", lambda tensors: {key: values.bfloat16() for key, values in tensors.items()}, dtype="bfloat16")
    save_changed(folder, "math", "reward", lambda tensors: {**tensors, "v_head.summary.weight": torch.ones(1, 16)})
    save_changed(folder, "math", "mistral", architectures=["MistralForCausalLM"], model_type="mistral")
    shutil.copytree(folder / "code", folder / "with space/code")
    shutil.copytree(folder / "code", folder / "pickled")
    torch.save(load_file(folder / "code/model.safetensors"), folder / "pickled/pytorch_model.bin")
    (folder / "pickled/model.safetensors").unlink()


def make_adapters(folder):
    for seed, name in enumerate(["adapter", "adapter2"]):
        torch.manual_seed(seed)
        model = transformers.AutoModelForCausalLM.from_pretrained(folder / "base")
        matrices = ["q_proj", "v_proj", "down_proj"]
        adapted = peft.get_peft_model(model, peft.LoraConfig(r=2, lora_alpha=4, target_modules=matrices, init_lora_weights=False))
        adapted.save_pretrained(folder / name)

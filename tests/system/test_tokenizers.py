"""Tokenizers of merged models as transformers loads them: chat templates, unions of vocabularies, vocab.json with merges.txt."""
import importlib.resources
import json
import os
import shutil
import sys

import numpy as np
from safetensors.numpy import load_file, save_file
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

from aimerge_command import DATA, GOLDENS, AimergeTest
from peers import needs_peers, transformers

sys.path.insert(0, str(DATA.parent.parent / "src/tools"))
import encode_documents  # noqa: E402

BASE = GOLDENS / "family_f32/base"
PROMPTS = json.loads((DATA / "chat_prompts.json").read_text())
os.environ["HF_HUB_OFFLINE"] = "1"


def load_tokenizer(folder):
    return transformers.AutoTokenizer.from_pretrained(folder)


def rendered(chat_template, conversation, add_generation_prompt):
    """The prompt, or None where the template raises."""
    from transformers.utils.chat_template_utils import render_jinja_template
    try:
        prompts, _ = render_jinja_template([conversation], chat_template=chat_template,
                                           add_generation_prompt=add_generation_prompt, **PROMPTS["tokens"])
        return prompts[0]
    except Exception:  # jinja2's and what its expressions raise
        return None


def rendered_all(chat_template):
    return [[rendered(chat_template, conversation, end) for end in (False, True)] for conversation in PROMPTS["conversations"]]


def linear(*folders, **keys):
    return {"merge_method": "linear", "dtype": "float32", "models": [{"model": str(folder)} for folder in folders],
            "parameters": {"weight": 1}, **keys}


class TokenizerTest(AimergeTest):
    def model(self, name, rows=None, tokenizer=None):
        """The golden base with a vocabulary of its own: `tokenizer(folder)` writes its files."""
        folder = self.folder / name
        shutil.copytree(BASE, folder)
        if tokenizer:
            for path in folder.glob("tokenizer*"):
                path.unlink()
            tokenizer(folder)
        if rows:
            tensors = load_file(folder / "model.safetensors")
            random = np.random.default_rng(len(name))
            for key in ("model.embed_tokens.weight", "lm_head.weight"):
                tensors[key] = random.standard_normal((rows, 64), dtype=np.float32)
            save_file(tensors, folder / "model.safetensors", {"format": "pt"})
            config = json.loads((folder / "config.json").read_text()) | {"vocab_size": rows}
            (folder / "config.json").write_text(json.dumps(config))
        return folder

    def merged(self, config):
        out = self.folder / f"out-{len(list(self.folder.iterdir()))}"
        self.aimerge("merge", self.config(config), "--out", out)
        self.aimerge("verify", out)
        return out


@needs_peers
class ChatTemplates(TokenizerTest):
    def test_of_a_name_render_the_prompts_of_mergekits(self):
        for name, prompts in PROMPTS["prompts"].items():
            with self.subTest(name):
                out = self.merged(linear(BASE, chat_template=name))
                self.assertEqual(rendered_all(load_tokenizer(out).chat_template), prompts)

    def test_of_mergekit_are_all_known_and_recorded_as_they_are(self):
        try:
            folder = importlib.resources.files("mergekit._data.chat_templates")
        except ImportError as error:
            raise self.skipTest(str(error))
        theirs = {path.name.removesuffix(".jinja"): path.read_text() for path in folder.iterdir() if path.name.endswith(".jinja")}
        self.assertEqual({name: rendered_all(text) for name, text in theirs.items()}, PROMPTS["prompts"])

    PLACES = {
        "none": {},
        "text": {"tokenizer_config.json": {"chat_template": "{{ 'text' }}"}},
        "list": {"tokenizer_config.json": {"chat_template": [{"name": "default", "template": "{{ 'first' }}"},
                                                             {"name": "tool_use", "template": "{{ 'tools' }}"}]}},
        "jinja": {"tokenizer_config.json": {"chat_template": "{{ 'hidden' }}"}, "chat_template.jinja": "{{ 'file' }}\n"},
        "processor": {"tokenizer_config.json": {"chat_template": "{{ 'text' }}"},
                      "chat_template.json": {"chat_template": "{{ 'processor' }}"}},
        "named": {"chat_template.jinja": "{{ 'file' }}", "additional_chat_templates/rag.jinja": "{{ 'rag' }}",
                  "additional_chat_templates/tool_use.jinja": "{{ 'tools' }}"},
        "named alone": {"tokenizer_config.json": {"chat_template": "{{ 'hidden' }}"},
                        "additional_chat_templates/rag.jinja": "{{ 'rag' }}"},
    }

    def place(self, name, files):
        folder = self.model(name)
        for path, content in files.items():
            (folder / path).parent.mkdir(exist_ok=True)
            if path == "tokenizer_config.json":
                content = json.loads((folder / path).read_text()) | content
            (folder / path).write_text(content if isinstance(content, str) else json.dumps(content))
        return folder

    def loaded(self, folder):
        """What tokenizer and processor get."""
        processor, _ = transformers.ProcessorMixin.get_processor_dict(str(folder))
        return load_tokenizer(folder).chat_template, processor.get("chat_template")

    def test_come_along_from_wherever_they_stand_and_are_replaced_there(self):
        chatml = load_tokenizer(self.merged(linear(BASE, chat_template="chatml"))).chat_template
        for name, files in self.PLACES.items():
            with self.subTest(name):
                folder = self.place(name, files)
                self.assertEqual(self.loaded(self.merged(linear(folder))), self.loaded(folder))
                self.assertEqual(self.loaded(self.merged(linear(folder, tokenizer_source="base"))), self.loaded(folder))
                replaced = self.merged(linear(folder, chat_template="chatml"))
                self.assertEqual(self.loaded(replaced), (chatml, chatml))
                self.assertFalse((replaced / "additional_chat_templates").exists())

    def test_by_auto_are_what_most_tokenizers_have(self):
        folders = {name: self.place(name, files) for name, files in self.PLACES.items()}
        for names, expected in [(("text", "jinja", "named"), "{{ 'file' }}"), (("text", "jinja"), "{{ 'text' }}"),
                                (("none", "list"), "{{ 'first' }}"), (("named alone", "processor"), "{{ 'text' }}")]:
            with self.subTest(names):
                out = self.merged(linear(*(folders[name] for name in names), chat_template="auto"))
                self.assertEqual(load_tokenizer(out).chat_template, expected)


def bpe(words, merges=(), alphabet=()):
    """A byte-level tokenizer by hand: letters, then what the merges make."""
    tokens = list(dict.fromkeys([*alphabet, *sorted(set("".join(words))), *("".join(pair) for pair in merges)]))
    tokenizer = Tokenizer(models.BPE({token: id for id, token in enumerate(tokens)}, list(merges)))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer


@needs_peers
class Unions(TokenizerTest):
    LETTERS = "abcdefghijklmnopqrstuvwxyzĠ<>()|_"

    def test_keep_every_models_own_added_tokens_within_reach(self):
        base = bpe([self.LETTERS], [("a", "n"), ("an", "d")])
        base.add_special_tokens(["<eos>"])
        base.add_tokens([AddedToken("<tool>", normalized=True)])
        other = bpe([self.LETTERS], [("(", "<"), ("<", "t"), ("<t", "o"), (">", "_"), ("t", "h"), ("th", "e"), ("<", "|")])
        other.add_special_tokens(["<|user|>"])
        other.add_tokens([AddedToken("<think>", normalized=True), AddedToken("and", normalized=True)])
        third = bpe([self.LETTERS], [("o", "<"), ("k", ">")])
        third.add_tokens([AddedToken("<turn>", normalized=True, single_word=False)])
        experts = {"base": base, "other": other, "third": third}
        folders = [self.model(name, tokenizer.get_vocab_size(), lambda folder, tokenizer=tokenizer: tokenizer.save(
            str(folder / "tokenizer.json"))) for name, tokenizer in experts.items()]

        out = self.merged(linear(*folders, tokenizer_source="union"))

        union = load_tokenizer(out)
        plain = Tokenizer.from_file(str(out / "tokenizer.json"))
        own = {token.content for tokenizer in experts.values() for token in tokenizer.get_added_tokens_decoder().values()}
        self.assertEqual(own, {"<eos>", "<tool>", "<|user|>", "<think>", "and", "<turn>"})
        for token in own:
            for text in (token, f"a {token} b", f"({token})", f"no{token}_x", f"<{token}>", f"the{token}{token}"):
                with self.subTest(text):
                    ids = union(text, add_special_tokens=False)["input_ids"]
                    self.assertEqual(ids, plain.encode(text, add_special_tokens=False).ids)
                    self.assertEqual(ids.count(union.convert_tokens_to_ids(token)), text.count(token), union.convert_ids_to_tokens(ids))

        reference = bpe([self.LETTERS], [("a", "n"), ("an", "d")])
        ordinary = [token for tokenizer in (other, third) for token in sorted(tokenizer.get_vocab(), key=tokenizer.token_to_id)
                    if token not in own and token not in base.get_vocab()]
        reference.add_special_tokens(["<eos>"])
        reference.add_tokens(["<tool>", *ordinary])
        for text in ("the cat (on the mat) <b>_", "the<the>_ <tooth (<t k>o<", "<|a", "  x  "):
            self.assertEqual(union.tokenize(text), reference.encode(text).tokens, text)

    def test_leave_the_flags_of_added_tokens_where_only_added_ones_are_new(self):
        base, other = bpe([self.LETTERS]), bpe([self.LETTERS])
        other.add_tokens([AddedToken("<tool>", normalized=True)])
        folders = [self.model(name, tokenizer.get_vocab_size(), lambda folder, tokenizer=tokenizer: tokenizer.save(
            str(folder / "tokenizer.json"))) for name, tokenizer in (("base", base), ("other", other))]

        out = self.merged(linear(*folders, tokenizer_source="union"))

        added = json.loads((out / "tokenizer.json").read_text())["added_tokens"]
        self.assertEqual([(token["content"], token["normalized"]) for token in added], [("<tool>", True)])


BYTES = sorted(pre_tokenizers.ByteLevel.alphabet())
MERGES = [("t", "h"), ("th", "e"), ("Ġ", "the"), ("Ġ", "a"), ("1", "2"), ("'", "t")]
COUNT = len(BYTES) + len(MERGES) + 1  # with <|endoftext|>


def in_pieces(folder, class_name=None, special=None, added=None, model_type=None, **config):
    """vocab.json and merges.txt, and which files are given beside them."""
    vocabulary = bpe([], MERGES, ["<|endoftext|>", *BYTES])
    vocabulary.model.save(str(folder))
    files = {"tokenizer_config.json": config | ({"tokenizer_class": class_name} if class_name else {}),
             "special_tokens_map.json": special, "added_tokens.json": added}
    if model_type:
        files["config.json"] = json.loads((folder / "config.json").read_text()) | {"model_type": model_type}
    for name, content in files.items():
        if content:
            (folder / name).write_text(json.dumps(content))


def flags(text, special=False, **others):
    return {"content": text, "special": special, "lstrip": False, "rstrip": False, "single_word": False,
            "normalized": not special, **others}


@needs_peers
class VocabularyAndMerges(TokenizerTest):
    DECODER = {str(COUNT): flags("<tool>"), str(COUNT + 1): flags("<|user|>", special=True)}
    KINDS = {
        "nothing else": {"model_type": "gpt2"},
        "decoder": {"class_name": "GPT2Tokenizer", "added_tokens_decoder": DECODER, "pad_token": "<|user|>"},
        "blank before": {"class_name": "GPT2TokenizerFast", "add_prefix_space": True},
        "opt": {"model_type": "opt", "class_name": "GPT2Tokenizer", "add_bos_token": True,
                "special": {"bos_token": "<|endoftext|>", "pad_token": {"content": "<pad>", "lstrip": True}}},
        "bos by default": {"model_type": "opt", "add_bos_token": True},
        "added": {"class_name": "GPT2Tokenizer", "special": {"eos_token": "<|endoftext|>", "additional_special_tokens": ["<|user|>"]},
                  "added": {"<tool>": COUNT, "<|user|>": COUNT + 1}},
        "phi": {"model_type": "phi", "class_name": "CodeGenTokenizer", "added": {"<tool>": COUNT, "    ": COUNT + 1}},
        "qwen": {"model_type": "qwen2", "class_name": "Qwen2Tokenizer", "added_tokens_decoder": DECODER,
                 "eos_token": "<|endoftext|>", "additional_special_tokens": ["<|user|>"], "bos_token": None},
        "qwen without config": {"model_type": "qwen2"},
        "new special tokens": {"class_name": "GPT2Tokenizer", "pad_token": "<pad>", "mask_token": "<mask>", "image_token": "<image>",
                               "extra_special_tokens": ["<e>"]},
    }
    TEXTS = ["the cat", " the  the", "don't I'LL 12345 12 x\n\n\ny \t z", "café e\u0301 漢字 🎉", "a<|endoftext|>b", "a <tool> b",
             "x<|user|> y  <|user|>", "<pad>a <mask><e> <image>", "", "       the", "\r\nthe\r\n"]

    def test_are_read_as_transformers_does(self):
        for kind, files in self.KINDS.items():
            with self.subTest(kind):
                folder = self.model(kind, tokenizer=lambda folder, files=files: in_pieces(folder, **files))
                tokenizer, right = encode_documents.load_tokenizer(str(folder)), load_tokenizer(folder)
                self.assertEqual(tokenizer.get_vocab(with_added_tokens=True), right.get_vocab())
                for text in self.TEXTS:
                    self.assertEqual(tokenizer.encode(text).ids, right(text)["input_ids"], text)

    def test_of_an_unknown_class_are_refused_with_what_to_do(self):
        base = self.model("base", COUNT, lambda folder: in_pieces(folder, "BartTokenizer"))
        (self.folder / "text.txt").write_text("the cat\n")
        aim = {"omega": 0.5, "calibration": {"corpus": str(self.folder / "text.txt"), "sequences": 1, "sequence_length": 4}}
        config = {"merge_method": "linear", "base_model": str(base), "models": [{"model": str(base)}], "aim": aim, "dtype": "float32",
                  "parameters": {"weight": 1}}
        result = self.aimerge("merge", self.config(config), "--out", "out", expect=3)
        self.assertIn("a tokenizer of the class BartTokenizer, expected GPT2Tokenizer, CodeGenTokenizer, Qwen2Tokenizer", result.stderr)
        self.assertIn("save_pretrained", result.stderr)

    def test_encode_what_a_model_is_calibrated_on(self):
        (self.folder / "text.txt").write_text("the cat sat on the mat; the 12 don't <tool> care, <|user|> the cat. " * 40)
        base = self.model("base", COUNT + 2, lambda folder: in_pieces(folder, **self.KINDS["added"]))
        whole = self.folder / "whole"
        shutil.copytree(base, whole)
        load_tokenizer(base).save_pretrained(whole)
        for name in ("vocab.json", "merges.txt", "added_tokens.json", "special_tokens_map.json"):
            (whole / name).unlink(missing_ok=True)
        self.assertTrue((whole / "tokenizer.json").exists())
        logs = []
        for folder in (base, whole):
            config = {"base_model": str(folder), "aim": {"calibration": {
                "corpus": str(self.folder / "text.txt"), "sequences": 4, "sequence_length": 16, "dtype": "float32"}}}
            log = self.folder / f"{folder.name}.h5"
            self.aimerge("calibrate", self.config(config), "--out", log, AIMERGE_CACHE_DIR=str(self.folder / f"cache of {folder.name}"))
            logs.append(json.loads(self.aimerge("inspect", log, "--json").stdout)["statistics"])
        self.assertNotEqual(logs[0]["origin"]["base_model"], logs[1]["origin"]["base_model"], "measured, not taken from a cache")
        self.assertEqual(logs[0]["origin"]["tokens_digest"], logs[1]["origin"]["tokens_digest"])
        self.assertEqual(logs[0]["modules"], logs[1]["modules"])

    def test_take_part_in_unions_with_the_ids_that_transformers_gives_them(self):
        base = self.model("base", COUNT + 2, lambda folder: in_pieces(folder, **self.KINDS["added"]))
        qwen = self.model("qwen", COUNT + 2, lambda folder: in_pieces(folder, **self.KINDS["qwen"] | {"model_type": None}))
        special = {"pad_token": "<pad>", "eos_token": "<|endoftext|>"}
        expert = self.model("expert", COUNT + 3, lambda folder: in_pieces(
            folder, "GPT2Tokenizer", special, {"<|extra|>": COUNT, "<|user|>": COUNT + 1, "<pad>": COUNT + 2}))
        for owner, other in ((base, expert), (qwen, expert), (expert, base)):
            with self.subTest(owner=owner.name):
                out = self.merged(linear(owner, other, base_model=str(owner), tokenizer_source="union"))
                union, before = load_tokenizer(out), load_tokenizer(owner)
                rows = {folder: load_file(folder / "model.safetensors")["model.embed_tokens.weight"] for folder in (owner, other, out)}
                vocabularies = {folder: load_tokenizer(folder).get_vocab() for folder in (owner, other)}
                self.assertEqual(set(union.get_vocab()), set().union(*vocabularies.values()))
                self.assertEqual(sorted(union.get_vocab().values()), list(range(len(rows[out]))))
                for token, row in union.get_vocab().items():
                    holders = [folder for folder in (owner, other) if token in vocabularies[folder]]
                    right = np.mean([rows[folder][vocabularies[folder][token]] for folder in holders], axis=0)
                    np.testing.assert_allclose(rows[out][row], right, rtol=1e-6, atol=1e-6, err_msg=token)
                for text in self.TEXTS:
                    if not any(token in text for token in set(union.get_vocab()) - set(before.get_vocab())):
                        self.assertEqual(union(text)["input_ids"], before(text)["input_ids"], text)
                self.assertEqual(union.tokenize("a<pad>b<|user|> <|extra|>"),
                                 ["a", "<pad>", "b", "<|user|>", "Ġ", "<|extra|>"])
                self.assertEqual(union.eos_token, "<|endoftext|>")

"""Runs a config by mergekit, in this process, and by aimerge, and says in what the two results differ."""
import concurrent.futures
import contextlib
import dataclasses
import io
import json
import logging
import re
import subprocess
import warnings

import numpy as np
import yaml
from safetensors.torch import load_file

from aimerge_command import BINARY, environment
from peers import transformers

TEXTS = ["The weights of two models: 345 steps.", "<s>Wer mischt die Gewichte?</s>", "<|im_start|>user\nHi<|im_end|>", "<rolle> tab\t<|eot_id|>\n\nx"]
TURNS = [("system", "Be brief."), ("user", "Hi"), ("assistant", "Hello"), ("user", "  More\n"), ("assistant", "No.\n\n"), ("user", "Why?")]
TALKS = [(TURNS, True), (TURNS[:2], True), (TURNS[1:3], False), (TURNS[1:], True), (TURNS[:5], False), (TURNS[2:4], True), ([], True)]
TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "chat_template.jinja")
FROM_PROGRAMS = {"transformers_version"}  # of config.json


@dataclasses.dataclass
class Result:
    """What a program made: a folder, or its last words."""
    folder: object = None
    words: str = ""


def by_mergekit(text, folder, out, options):
    """@param text one document, or several as mergekit-multi takes them"""
    from mergekit.config import MergeConfiguration
    from mergekit.merge import run_merge
    from mergekit.options import MergeOptions

    options = MergeOptions(quiet=True, write_model_card=False, random_seed=1, lora_merge_cache=f"{out}.adapted", **options)
    try:
        with silent(), contextlib.chdir(folder):
            documents = list(yaml.safe_load_all(text))
            if len(documents) > 1:
                return Result(run_documents(text, documents, out))
            run_merge(MergeConfiguration.model_validate(documents[0]), str(out), options, config_source=text)
    except Exception as error:  # whatever it makes of a config
        return Result(words=f"{type(error).__name__}: {error}")
    return Result(out)


def run_documents(text, documents, out):
    """The folder of the last document's model, which may have a name."""
    from mergekit.scripts.multimerge import main

    steps, config = out.with_suffix(".steps"), out.with_suffix(".yaml")
    config.write_text(text)
    options = ["--quiet", "--no-write-model-card", "--random-seed", "1"]
    main.main([str(config), "-I", str(steps), "--out-path", str(out), *options], standalone_mode=False)
    return out if out.is_dir() else steps / documents[-1]["name"]


@contextlib.contextmanager
def silent():
    logging.disable(logging.ERROR)
    try:
        with contextlib.redirect_stderr(io.StringIO()), contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(logging.NOTSET)


def by_aimerge(text, folder, out, options):
    config = folder / f"{out.name}.yaml"
    config.write_text(text)
    done = subprocess.run([BINARY, "merge", config, "--out", out, "--threads", "1", "--progress", "none", *options], cwd=folder, text=True,
                          capture_output=True, timeout=120, env=environment(out.with_suffix(".cache")))
    return Result(out if done.returncode == 0 else None, done.stderr)


def by_both(text, folder, out, mergekit_options, aimerge_options):
    """(mergekit's Result, aimerge's Result); `out` is a folder to work in"""
    out.mkdir()
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        other = pool.submit(by_aimerge, text, folder, out / "aimerge", aimerge_options)
        return by_mergekit(text, folder, out / "mergekit", mergekit_options), other.result()


# Comparing two folders. Each function gives a list of differences in words.

def compare(mergekit, aimerge, style, base=None):
    """@param style what the two may differ in, see Style
    @param base the folder of the model that random changes are measured from"""
    tokenizers = [load_tokenizer(folder) for folder in (mergekit, aimerge)] if differ_in_files(mergekit, aimerge) else [None, None]
    want, got = (load_tensors(folder, style.as_loaded) for folder in (mergekit, aimerge))
    if style.new_tokens_in_any_order and all(tokenizers):
        got = reordered(got, *tokenizers)
    return [*compare_configs(mergekit, aimerge, style.config_keys), *compare_tokenizers(*tokenizers, style.new_tokens_in_any_order),
            *compare_tensors(want, got, style, base and load_tensors(base))]


def load_tensors(folder, as_loaded=False):
    """{name: tensor}. @param as_loaded by the names that transformers has in memory"""
    if as_loaded:
        return transformers.AutoModelForCausalLM.from_pretrained(folder).state_dict()
    return {name: values for path in sorted(folder.glob("*.safetensors")) for name, values in load_file(path).items()}


def compare_configs(mergekit, aimerge, expected):
    """Values are compared as JSON writes them: 1 is not 1.0, and not true."""
    want, got = ({key: json.dumps(value, sort_keys=True) for key, value in json.loads((folder / "config.json").read_text()).items()}
                 for folder in (mergekit, aimerge))
    return [f"config.json: {key} is {got.get(key)}, mergekit's {want.get(key)}" for key in sorted({*want, *got} - FROM_PROGRAMS - set(expected))
            if want.get(key) != got.get(key)]


def differ_in_files(mergekit, aimerge):
    """Whether the tokenizers are worth loading."""
    read = lambda path: path.read_bytes() if path.exists() else None
    return any(read(mergekit / name) != read(aimerge / name) for name in TOKENIZER_FILES)


def load_tokenizer(folder):
    return transformers.AutoTokenizer.from_pretrained(folder) if (folder / "tokenizer_config.json").exists() else None


def compare_tokenizers(want, got, in_any_order):
    if want is None or got is None:
        return [] if want is got else [f"only {'aimerge' if want is None else 'mergekit'} wrote a tokenizer"]
    pairs = {"special tokens": [tokenizer.special_tokens_map for tokenizer in (want, got)],
             "vocabulary": [set(tokenizer.get_vocab()) if in_any_order else tokenizer.get_vocab() for tokenizer in (want, got)],
             "template": [bool(tokenizer.chat_template) for tokenizer in (want, got)]}
    for number, prompts in enumerate(zip(rendered(want), rendered(got))):
        pairs[f"prompt of talk {number}"] = prompts
    for text in TEXTS:
        pairs[f"tokens of {text!r}"] = [tokenizer.tokenize(text, add_special_tokens=True) for tokenizer in (want, got)]
    return [f"{what}: {b!s:.300}, mergekit's {a!s:.300}" for what, (a, b) in pairs.items() if a != b]


def rendered(tokenizer):
    """The prompts of every talk; of one that the template refuses, the kind of the error."""
    prompts = []
    for turns, is_prompt in TALKS if tokenizer.chat_template else []:
        talk = [{"role": role, "content": content} for role, content in turns]
        try:
            prompts.append(tokenizer.apply_chat_template(talk, tokenize=False, add_generation_prompt=is_prompt))
        except Exception as error:  # whatever a template raises
            prompts.append(type(error).__name__)
    return prompts


def reordered(tensors, want, got):
    """The rows of tokens as the first tokenizer numbers them; those behind them, for no token, stay where they are."""
    places, ids = got.get_vocab(), want.get_vocab()
    order = [places[token] for token in sorted(ids, key=ids.get) if token in places]
    return {name: values[order + list(range(len(order), len(values)))] if name.endswith(("embed_tokens.weight", "lm_head.weight")) else values
            for name, values in tensors.items()}


def compare_tensors(want, got, style, base):
    if style.mergekit_prefix:
        want = {name.removeprefix(style.mergekit_prefix): values for name, values in want.items()}
        got = {name: values for name, values in got.items() if name in want}
    if style.except_tensors:
        want, got = ({name: values for name, values in tensors.items() if not re.search(style.except_tensors, name)} for tensors in (want, got))
    found = [f"{name}: missing" for name in want.keys() - got.keys()] + [f"{name}: unexpected" for name in got.keys() - want.keys()]
    both = sorted(want.keys() & got.keys())
    found += [f"{name}: {got[name].dtype} {tuple(got[name].shape)}, mergekit's {want[name].dtype} {tuple(want[name].shape)}" for name in both
              if got[name].shape != want[name].shape or (got[name].dtype != want[name].dtype and not style.other_dtype)]
    if found:
        return found[:5]
    pairs = {name: (want[name].double().numpy(), got[name].double().numpy()) for name in both}
    if style.random:
        return compare_changes({name: (a - base[name].double().numpy(), b - base[name].double().numpy()) for name, (a, b) in pairs.items()})
    return compare_values(pairs, style)


def compare_values(pairs, style):
    worst, outside, count = {}, 0, 0
    for name, (want, got) in pairs.items():
        excess = np.abs(got - want) / max(np.abs(want).max(initial=0), np.finfo(np.float32).tiny)
        worst[name] = float(excess.max(initial=0)) if np.isfinite(got).all() else float("inf")
        outside += int(np.sum(~(excess <= style.close)))
        count += excess.size
    name = max(worst, key=worst.get)
    return [f"{outside} of {count} elements differ, most in {name}, by {worst[name]:.3g} of its largest"] if outside > style.few * count else []


def compare_changes(pairs):
    """Two results of random masks: as many elements changed, by as much in the sum and in the sum of squares, within five standard errors of the
    mean difference of paired elements."""
    want, got = (np.concatenate([pair[side].ravel() for pair in pairs.values()]) for side in (0, 1))
    measures = {"share of changed elements": lambda x: (np.abs(x) > 1e-7).astype(float), "mean change": np.abs, "mean square": np.square}
    found = []
    for what, measure in measures.items():
        difference = measure(got) - measure(want)
        error = difference.std() / np.sqrt(difference.size)
        if not abs(difference.mean()) <= 5 * error:
            found.append(f"{what}: {measure(got).mean():.5g}, mergekit's {measure(want).mean():.5g} (standard error {error:.2g})")
    return found if (got != want).any() else ["the masks are the same, which random ones are not"]

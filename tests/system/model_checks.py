"""What test_models.py checks of every family: each check merges its tiny models with aimerge and compares the result with numpy."""
import concurrent.futures
import dataclasses
import json
import multiprocessing
import pathlib
import re
import shutil
import subprocess
import tempfile
import traceback

import numpy as np

import model_families as families
import recorded_statistics as recorded
from aimerge_command import BINARY, environment
from model_families import FAMILIES
from peers import torch, transformers

OMEGA = 0.4
EPSILON = np.finfo(np.float32).eps
REFUSED = (2, 3)  # exit codes of a config and of an input that cannot be merged


@dataclasses.dataclass
class Outcome:
    """The outcome of one check of one family: `done`, `refused` or `failed`, and why; `none` where the check does not apply."""
    state: str
    why: str = ""


class Wrong(Exception):
    """A result that is not as it should be."""


# Merging a family.

class Models:
    """The folders of one family, and what merging them gives."""

    def __init__(self, name, folder):
        self.name, self.family, self.folder = name, FAMILIES[name], folder
        families.make(name, folder)
        self.base, self.first, self.second = (families.read(folder / place) for place in ("base", "expert_1", "expert_2"))
        self.counts = families.layer_counts(self.family, self.base)
        self.runs = 0

    def path(self, name):
        return str(self.folder / name)

    def layers(self):
        """The number of layers of the stack that slices take apart."""
        return self.counts[self.family.stacks[0]]

    def aimerge(self, *arguments):
        return subprocess.run([BINARY, *map(str, arguments)], cwd=self.folder, text=True, capture_output=True, timeout=120,
                              env=environment(self.folder / "cache"))

    def config(self, config):
        self.runs += 1
        path = self.folder / f"{self.runs}.yaml"
        path.write_text(json.dumps(config))  # JSON is YAML
        return path

    def merge(self, config):
        """(result of the command, folder of the model)"""
        path = self.config(config)
        out = path.with_suffix("")
        return self.aimerge("merge", path, "--out", out), out

    def merged(self, config):
        """{name: array} of a merge that is to succeed."""
        result, out = self.merge(config)
        if result.returncode:
            raise Wrong(f"exit code {result.returncode}: {last_words(result)}")
        return families.read(out)

    def deltas(self, name):
        return self.first[name] - self.base[name], self.second[name] - self.base[name]


def last_words(result):
    lines = [line for line in result.stderr.strip().splitlines() if line.startswith("aimerge:")] or result.stderr.strip().splitlines()
    return lines[-1][:400] if lines else "no message"


def of_experts(models, method, first, second, **keys):
    return {"merge_method": method, "base_model": models.path("base"), **keys,
            "models": [{"model": models.path("expert_1"), "parameters": first}, {"model": models.path("expert_2"), "parameters": second}]}


def of_first_expert(models, **keys):
    return {"merge_method": "task_arithmetic", "base_model": models.path("base"),
            "models": [{"model": models.path("expert_1"), "parameters": {"weight": 1.0}}], **keys}


def compare(got, want, allowed=None):
    """@param allowed {name: largest difference of each element}; equal where it says nothing"""
    if set(got) != set(want):
        raise Wrong(f"missing {sorted(set(want) - set(got))[:3]}, unexpected {sorted(set(got) - set(want))[:3]}")
    different = {}
    for name, values in want.items():
        if got[name].shape != values.shape or got[name].dtype != values.dtype:
            raise Wrong(f"{name} is {got[name].dtype} {got[name].shape}, not {values.dtype} {values.shape}")
        limit = 0 if allowed is None else allowed.get(name, 0)
        excess = np.abs(got[name].astype(np.float64) - values) - limit
        if values.size and not excess.max() <= 0:
            different[name] = float(excess.max())
    if different:
        worst = max(different, key=different.get)
        raise Wrong(f"{len(different)} of {len(want)} tensors differ, {worst} by {different[worst]:.3g}; others {sorted(different)[:4]}")


def is_merged(values):
    return values.dtype == np.float32


# What the checks are. Each returns an Outcome, or raises.

def check_gradients(models):
    """Weights 0 to 1 of one expert and 1 to 0 of the other, over the depth of each stack."""
    got = models.merged(of_experts(models, "task_arithmetic", {"weight": [0, 1]}, {"weight": [1, 0]}))
    want, allowed = {}, {}
    for name, base in models.base.items():
        if not is_merged(base):
            want[name] = base
            continue
        depth = families.depth_of(models.family, name, models.counts)
        first, second = models.deltas(name)
        want[name] = base.astype(np.float64) + depth * first.astype(np.float64) + (1 - depth) * second.astype(np.float64)
        want[name] = want[name].astype(np.float32)
        # Two products and two sums, each rounded once, and this rounding.
        allowed[name] = 2 * EPSILON * (np.abs(base) + np.abs(first) + np.abs(second))
    compare(got, want, allowed)
    return Outcome("done")


def trimmed(family, name, delta, density):
    result = np.zeros_like(delta)
    for part, kept in zip(families.trimmed_apart(family, name, delta), families.trimmed_apart(family, name, result)):
        flat = part.reshape(-1)
        count = max(1, int(density * flat.size))
        indices = np.argsort(-np.abs(flat), kind="stable")[:count]
        kept.reshape(-1)[indices] = flat[indices]  # parts are views of the whole
    return result


def check_ties(models):
    """Weights of 1 and halves: every number is exact in float32 but the sums, which are rounded in one way only."""
    got = models.merged(of_experts(models, "ties", {"weight": 1.0, "density": 0.5}, {"weight": 1.0, "density": 0.5}))
    want = {}
    for name, base in models.base.items():
        if not is_merged(base):
            want[name] = base
            continue
        first, second = (trimmed(models.family, name, delta, 0.5) for delta in models.deltas(name))
        positive = first + second >= 0
        agrees = [((delta > 0) & positive) | ((delta < 0) & ~positive) for delta in (first, second)]
        total = np.where(agrees[0], first, np.float32(0)) + np.where(agrees[1], second, np.float32(0))
        want[name] = base + total / np.maximum(1, agrees[0].astype(np.float32) + agrees[1].astype(np.float32))
    compare(got, want)
    return Outcome("done")


def two_slices(models):
    n = models.layers()
    return [{"sources": [{"model": models.path("expert_1"), "layer_range": [0, n - 1]}]},
            {"sources": [{"model": models.path("expert_2"), "layer_range": [1, n]}]}]


def stacked(models):
    """The tensors of two_slices: what stands before the layers is the first expert's, what stands behind them the second's. Of a multimodal model
    the other modules are the base's."""
    stack, n = models.family.stacks[0], models.layers()
    sources = [(models.first, layer) for layer in range(n - 1)] + [(models.second, layer) for layer in range(1, n)]
    want = {}
    for name in models.base:
        own, layer = families.place_of(models.family, name)
        if models.family.is_multimodal and re.search(models.family.other_modules, name):
            want[name] = models.base[name]
        elif own is None:
            want[name] = (models.second if re.search(models.family.behind, name) else models.first)[name]
        rest = name.removeprefix(f"{stack}{layer}.") if own == stack else None
        if rest is not None:
            for place, (source, number) in enumerate(sources):
                if number == layer:
                    want[f"{stack}{place}.{rest}"] = source[name]
    return want


def loading_problems(models, folder):
    """What transformers says of tensors that are missing, not expected, of another shape or made anew."""
    with recorded.quiet():
        _, info = getattr(transformers, models.family.loader).from_pretrained(folder, output_loading_info=True)
    return {key: sorted(map(str, values))[:2] for key, values in info.items() if values}


def lists_by_layer(folder):
    """{path: list} of the lists in config.json that have one value per layer, of those that the families have."""
    config = json.loads((folder / "config.json").read_text())
    return {(section, key): values[key] for section, values in (("", config), ("text_config", config.get("text_config", {})))
            for key in ("layer_types", "no_rope_layers", "mlp_layer_types", "layers_block_type") if isinstance(values.get(key), list)}


def check_stack(models, config):
    """A stack of two slices: made, and right; or refused, with the words."""
    result, out = models.merge(config)
    if result.returncode in REFUSED:
        return Outcome("refused", result.stderr)
    if result.returncode:
        raise Wrong(f"exit code {result.returncode}: {last_words(result)}")
    try:
        problems = loading_problems(models, out)
    except Exception as error:  # whatever transformers makes of a wrong model
        raise Wrong(f"transformers does not load the result: {type(error).__name__}: {str(error)[:200]}") from None
    if problems:
        raise Wrong(f"transformers loads the result with {problems}")
    compare(families.read(out), stacked(models))
    n = models.layers()
    wanted = {key: values[:n - 1] + values[1:n] for key, values in lists_by_layer(models.folder / "base").items()}
    if (found := lists_by_layer(out)) != wanted:
        raise Wrong(f"config.json has {found}, not {wanted}")
    return Outcome("done")


def check_slices(models):
    """Layers [0, n - 1) of one expert and [1, n) of the other."""
    expected = models.family.slices
    outcome = check_stack(models, {"merge_method": "passthrough", "slices": two_slices(models)})
    if outcome.state == "done" and expected.outcome == "refused":
        raise Wrong("a stack was made that should have been refused")
    if outcome.state == "refused":
        if expected.outcome == "done":
            raise Wrong(f"refused: {outcome.why.strip().splitlines()[-1][:300]}")
        if not re.search(expected.message, outcome.why):
            raise Wrong(f"the refusal does not say {expected.message!r}: {outcome.why.strip().splitlines()[-1][:300]}")
    return outcome


def check_modules(models):
    """That stack as a multimodal model's text decoder."""
    if not models.family.is_multimodal:
        return Outcome("none")
    outcome = check_stack(models, {"merge_method": "passthrough", "base_model": models.path("base"),
                                   "modules": {"text_decoder": {"slices": two_slices(models)}}})
    if outcome.state == "refused":
        can_be = models.family.slices == families.MODULES
        if can_be or not re.search(models.family.slices.message, outcome.why):
            raise Wrong(f"refused: {outcome.why.strip().splitlines()[-1][:300]}")
    elif models.family.slices != families.MODULES:
        raise Wrong("a stack was made that should have been refused")
    return outcome


def permuted(models, order):
    """The first expert's tensors, with the row of token i at order[i]."""
    result = dict(models.first)
    for name, values in models.first.items():
        for axis in families.vocabulary_axes(values.shape):
            result[name] = np.take(result[name], np.argsort(order), axis)
    return result


def check_tokenizers(models):
    """An expert that has the same tokens in another order: rows are matched by token."""
    tables = [name for name, values in models.base.items() if families.vocabulary_axes(values.shape)]
    if not tables:
        return Outcome("none")
    order = np.random.default_rng(7).permutation(families.VOCABULARY)
    base = families.with_tokenizer(models.folder / "base", models.folder / "base-tokens", np.arange(families.VOCABULARY))
    expert = families.with_tokenizer(models.folder / "expert_1", models.folder / "expert-tokens", order, permuted(models, order))
    config = {"merge_method": "task_arithmetic", "base_model": str(base), "tokenizer_source": "base",
              "models": [{"model": str(expert), "parameters": {"weight": 1.0}}]}
    want = {name: values + (models.first[name] - values) if is_merged(values) else values for name, values in models.base.items()}
    result, out = models.merge(config)
    if result.returncode:
        raise Wrong(f"exit code {result.returncode}: {last_words(result)}")
    compare(families.read(out), want)
    ids = [json.loads((folder / "tokenizer.json").read_text())["model"]["vocab"] for folder in (out, base)]
    if ids[0] != ids[1]:
        raise Wrong("the result's tokenizer.json has other ids than the base's")
    return Outcome("done")


# AIM by statistics that were recorded with transformers.

def says(text, family, name):
    """Whether a message names a matrix: itself, its kind (with any number, or N or *, for a number), its stack, or what of the model it is part of."""
    kind = re.sub(r"\d+", lambda _: r"(\d+|N|\*)", re.escape(name.removesuffix(".weight")))
    if re.search(kind, text):
        return True
    stack, _ = families.place_of(family, name)
    module = re.search(family.other_modules, name)
    words = [stack.rstrip(".")] if stack and stack != family.stacks[0] else []
    if module:
        words.append(module[0].strip(".").removeprefix("model."))
    return any(word in text for word in words)


def relaxed(models, log):
    """(expected tensors, matrices that were multiplied by and have no statistic)"""
    want, allowed, unmeasured = {}, {}, []
    for name, base in models.base.items():
        if not is_merged(base):
            want[name] = base
            continue
        change = (models.first[name] - base).astype(np.float64)
        importance = recorded.importance(log, models.base, name)
        if importance is not None:
            change = (1 - importance * (1 - OMEGA)) * change
        elif families.is_multiplied(models.family, name, base.shape):
            unmeasured.append(name)
        want[name] = (base + change).astype(np.float32)
        # A is float32 and a quotient; the change is a difference of float32 numbers; the sum is rounded.
        allowed[name] = 4 * EPSILON * (np.abs(base) + np.abs(models.first[name])) + 8 * EPSILON * np.abs(change).max(initial=0)
    return want, allowed, unmeasured


def check_axes(models, log):
    for name, values in models.base.items():
        module = log.module_of(name)
        if module is None or values.ndim < 2 or not families.is_multiplied(models.family, name, values.shape):
            continue
        axis = -2 if re.search(models.family.input_first, name) else -1
        wanted = (values.shape[0], values.shape[axis]) if families.is_fused(name, values.shape) else (values.shape[axis],)
        if log.axis[module] != axis or log.values[module].shape != wanted:
            raise Wrong(f"the log has {module} with input_axis {log.axis[module]} and shape {log.values[module].shape}, not {axis} and {wanted}")


def check_recorded(models):
    """AIM by a log of record_statistics.py: everything that was multiplied by is relaxed as the formula says, or named."""
    try:
        with recorded.quiet():
            log_path = recorded.record(models.folder / "base", models.folder / "recorded.h5", models.family.loader)
    except recorded.Refusal as refusal:
        if models.family.recordable:
            raise Wrong(f"the recorder refuses: {str(refusal).strip()[-300:]}") from None
        return Outcome("refused", str(refusal))
    log = recorded.Log(log_path)
    check_axes(models, log)
    aim = {"omega": OMEGA, "statistics": str(log_path)}
    result, out = models.merge(of_first_expert(models, aim=aim))
    refused = []  # prefixes of stacks that no text goes through: the merge asks for omega 1 there
    if result.returncode in REFUSED and "none of the matrices of the" in result.stderr:
        refused = list(models.family.stacks[1:])
        aim["omega"] = [{"filter": prefix, "value": 1} for prefix in refused] + [{"value": OMEGA}]
        result, out = models.merge(of_first_expert(models, aim=aim))
    if result.returncode:
        raise Wrong(f"exit code {result.returncode}: {last_words(result)}")
    want, allowed, unmeasured = relaxed(models, log)
    unmeasured = [name for name in unmeasured if not name.startswith(tuple(refused))]
    unexpected = [name for name in unmeasured if models.family.recordable and not re.search(models.family.other_modules, name)]
    if unexpected:
        raise Wrong(f"the log has no statistic of {len(unexpected)} matrices, such as {unexpected[:3]}")
    compare(families.read(out), want, allowed)
    if silent := [name for name in unmeasured if not says(result.stderr, models.family, name)]:
        raise Wrong(f"not relaxed and not named: {len(silent)} matrices, such as {silent[:3]}")
    return Outcome("done")


def check_native(models):
    """AIM by aimerge's own decoder where it has one for the model type; elsewhere a plan already says that there is none."""
    ids = recorded.token_ids(models.folder)
    # No text goes through other stacks: the merge asks for omega 1 there.
    others = [{"filter": prefix, "value": 1} for prefix in models.family.stacks[1:]] if models.family.native else []
    calibration = {"token_ids": str(ids), "sequences": 4, "dtype": "float32"}
    config = of_first_expert(models, aim={"omega": [*others, {"value": OMEGA}] if others else OMEGA, "calibration": calibration})
    planned = models.aimerge("plan", models.config(config))
    if models.family.native:
        models.merged(config)
        return Outcome("done")
    if planned.returncode not in REFUSED:
        raise Wrong(f"plan ends with exit code {planned.returncode}: {last_words(planned)}")
    model_type = json.loads((models.folder / "base/config.json").read_text())["model_type"]
    if not re.search(rf"\b{re.escape(model_type)}\b", planned.stderr) or "record_statistics.py" not in planned.stderr:
        raise Wrong(f"plan's refusal does not name {model_type} and record_statistics.py: {last_words(planned)}")
    return Outcome("refused", planned.stderr)


CHECKS = {"gradients": check_gradients, "ties": check_ties, "slices": check_slices, "modules": check_modules, "tokenizers": check_tokenizers,
          "recorded": check_recorded, "native": check_native}


# Running them.

def outcome_of(check, models):
    try:
        return check(models)
    except Wrong as wrong:
        return Outcome("failed", str(wrong))
    except Exception:  # of one family and check: the others are still to run
        return Outcome("failed", traceback.format_exc(limit=-4))


def run_family(name):
    """{check: Outcome}, model type and class as config.json has them"""
    torch.set_num_threads(1)
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    folder = pathlib.Path(tempfile.mkdtemp(prefix="aimerge-models-"))
    try:
        with recorded.quiet():
            models = Models(name, folder)
        config = json.loads((folder / "base/config.json").read_text())
        return {"model_type": config["model_type"], "class": config["architectures"][0],
                "outcomes": {check: outcome_of(function, models) for check, function in CHECKS.items()}}
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def run_all(names):
    """{family: what run_family returns}, two at a time."""
    with concurrent.futures.ProcessPoolExecutor(2, multiprocessing.get_context("fork")) as pool:
        return dict(zip(names, pool.map(run_family, names)))

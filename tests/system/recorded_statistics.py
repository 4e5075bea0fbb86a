"""Statistics that src/tools/record_statistics.py takes with transformers, and what AIM makes of them, in numpy."""
import contextlib
import io
import os
import pathlib
import runpy
import sys
from unittest import mock

import h5py
import numpy as np
from safetensors.numpy import save_file

import model_families as families

RECORDER = pathlib.Path(os.environ.get("AIMERGE_RECORDER", pathlib.Path(__file__).resolve().parents[2] / "src/tools/record_statistics.py"))
BLEND_TOKENS = 100  # so many tokens of an expert weigh as much as the statistic of its block's input


class Refusal(Exception):
    """The recorder's words."""


@contextlib.contextmanager
def quiet():
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        yield


def token_ids(folder, length=10):
    """A file of few tokens: some experts see none of them."""
    path = folder / "ids.safetensors"
    save_file({"input_ids": np.random.default_rng(13).integers(9, families.VOCABULARY, (4, length))}, path)
    return path


def record(base, log, loader=families.CAUSAL):
    """Runs the tool as a user does, but in this process, where torch is loaded already."""
    said = io.StringIO()
    arguments = [str(RECORDER), str(base), "--token-ids", str(token_ids(log.parent)), "--dtype", "float32", "--out", str(log)]
    if loader != families.CAUSAL:
        arguments += ["--auto-class", loader]
    with mock.patch.object(sys, "argv", arguments), mock.patch.object(sys, "path", [str(RECORDER.parent), *sys.path]), \
            contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
        try:
            runpy.run_path(str(RECORDER), run_name="__main__")
        except SystemExit as end:
            if end.code not in (None, 0):
                raise Refusal(f"{said.getvalue()} {end.code}") from None
    return log


class Log:
    """What a log has of every module: mean |x| per input channel, for fused experts [experts, in]; tokens; the axis of the tensor that is the input."""

    def __init__(self, path):
        self.values, self.tokens, self.axis = {}, {}, {}
        with h5py.File(path) as file:
            file["statistics"].visititems(self.take)

    def take(self, module, group):
        if isinstance(group, h5py.Group) and "mean_abs" in group:
            self.values[module] = group["mean_abs"][:].astype(np.float64)
            self.tokens[module] = group.attrs["tokens"]
            self.axis[module] = int(group.attrs.get("input_axis", -1))

    def module_of(self, name):
        """The module that a tensor has its statistic in, or None."""
        if name.endswith("bias"):
            return None
        return next((module for module in (name, name.removesuffix(".weight")) if module in self.values), None)

    def router_of(self, block):
        """The statistic of the router of a block of experts, which is that of the block's input."""
        return next((self.values[block + router] for router in families.ROUTERS if block + router in self.values), None)


def divided(values):
    """A of Eq. 4: each row by its largest value."""
    largest = values.max(-1, keepdims=True)
    return np.divide(values, largest, out=np.zeros_like(values), where=largest > 0)


def importance_of_experts(own, tokens, part, block_input):
    """A [experts, in] of the experts of one block. Few tokens say little, and the largest of few values is small: so gate and up, whose input is the
    block's, are blended with what all tokens say. The inner channels, down's input, are every expert's own; of one that has seen no tokens they count
    as those of the others do on average.

    @param own     [experts, in], mean |x| of the tokens of each
    @param tokens  [experts]
    """
    seen = np.asarray(tokens, np.float64)
    own = np.where(seen[:, None] > 0, own, 0)
    if part in families.DOWN_PARTS:
        importance = divided(own)
        if seen.any():
            importance[seen == 0] = importance[seen > 0].mean(0)
        return importance
    if block_input is None:
        block_input = seen @ own / max(seen.sum(), 1)
    return divided((seen[:, None] * own + BLEND_TOKENS * block_input) / (seen[:, None] + BLEND_TOKENS))


def importance_of_separate_expert(log, tensors, name):
    """The importance of an expert that has tensors of its own: [in], or None where nothing is known of its block."""
    match = families.EXPERT.match(name)
    of_the_block = {int(other["number"]): key for key in tensors
                    if (other := families.EXPERT.match(key)) and (other["block"], other["part"]) == (match["block"], match["part"])}
    modules = [log.module_of(of_the_block[number]) for number in sorted(of_the_block)]
    if not any(modules):
        return None
    own = np.stack([log.values[module] if module else np.zeros(tensors[name].shape[-1]) for module in modules])
    tokens = [log.tokens[module] if module else 0 for module in modules]
    return importance_of_experts(own, tokens, match["part"], log.router_of(match["block"]))[sorted(of_the_block).index(int(match["number"]))]


def importance(log, tensors, name):
    """A of a tensor, in a shape that goes with its own; None where it is not relaxed: embeddings, biases, convolutions, what was not measured."""
    values = tensors[name]
    if families.EXPERT.match(name):
        channels = importance_of_separate_expert(log, tensors, name)
        return None if channels is None else channels[None]
    module = log.module_of(name)
    if module is None or (families.vocabulary_axes(values.shape) and not families.HEAD.search(name)):
        return None
    if families.is_fused(name, values.shape):
        match = families.FUSED_EXPERTS.match(name)
        channels = importance_of_experts(log.values[module], log.tokens[module], match["part"], log.router_of(match["block"]))
        return channels[:, :, None] if log.axis[module] == -2 else channels[:, None, :]
    if values.ndim > 2 or families.CONVOLUTION.search(name):
        return None
    channels = divided(log.values[module])
    return channels[:, None] if values.ndim == 2 and log.axis[module] == -2 else channels

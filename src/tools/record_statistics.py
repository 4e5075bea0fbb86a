#!/usr/bin/env python3
"""Takes the activation statistics of any transformers model, as a log that `aim.statistics` of a merge config reads: for architectures that
aimerge's own decoder does not run.

    build/venv/bin/python src/tools/record_statistics.py MODEL --corpus text.txt --out statistics.h5
    aimerge merge merge.yaml --out merged/ --set aim.statistics=statistics.h5

Measured is what every weight matrix is multiplied by, and the input of every norm, under the names of the model's files; of experts each by the
tokens that were sent to it. Embeddings and convolutions are not. A norm whose weight is a matrix has one value per element of it, row by row.

The corpus is a text file, or .jsonl with the text under `text`; its documents are joined with the end-of-text token between them and cut into
sequences. --token-ids takes a .safetensors file with `input_ids` [sequences, length] instead. The model is loaded as the class that it was saved
by (config.json: architectures), multimodal ones with all their towers; a vision tower is measured when there are --images.

Needs torch, transformers and h5py (launch/setup.sh --test); --images needs pillow, --device auto accelerate. See docs/methods.md.
"""
import argparse
import collections
import importlib.util
import os
import pathlib
import re
import sys
import time

os.environ["TORCHDYNAMO_DISABLE"] = "1"  # compiled parts of a model would hide their products

import torch
import transformers

from file_parameters import FileParameters, weight_files
from matrix_products import MatrixProducts, NormInputs
from model_inputs import ImageInputs, TextInputs, takes_images, token_blocks
from module_statistics import VECTORS, ModulesOfFile, tokens_of_experts
from statistics_log import attributes_of, compact_config, write_log

SECONDS_BETWEEN_LINES = 30
FEW_TOKENS = 100
NAMES_SHOWN = 6


def fail(message):
    sys.exit(f"record_statistics: {message}")


def model_class(config, wanted):
    """The class that the checkpoint was saved by, where transformers has it; else what the model's own code or transformers has for its config."""
    if wanted:
        return getattr(transformers, wanted, None) or fail(f"--auto-class {wanted}: transformers {transformers.__version__} has no such class")
    saved_by = (config.architectures or [None])[0]
    if saved_by and hasattr(transformers, saved_by):
        return getattr(transformers, saved_by)
    automatic = ("AutoModelForCausalLM", "AutoModelForImageTextToText", "AutoModelForSeq2SeqLM", "AutoModelForMaskedLM", "AutoModel")
    own_code = getattr(config, "auto_map", None) or {}
    for name in automatic:
        if name in own_code or type(config) in getattr(transformers, name)._model_mapping:
            return getattr(transformers, name)
    fail(f"transformers {transformers.__version__} has no class for {saved_by or config.model_type}; name one that it has with --auto-class")


def load_config(arguments):
    if not (arguments.model / "config.json").is_file():
        fail(f"{arguments.model} has no config.json; expected the folder of a model")
    if not all((arguments.model / name).is_file() for name in weight_files(arguments.model)):
        fail(f"{arguments.model} has not all of {', '.join(weight_files(arguments.model))}")
    try:
        return transformers.AutoConfig.from_pretrained(arguments.model, trust_remote_code=arguments.trust_remote_code)
    except (ImportError, KeyError, OSError, ValueError) as error:
        fail(f"transformers {transformers.__version__} cannot load the configuration of {arguments.model} ({first_line(error)}); a model with code "
             "of its own needs --trust-remote-code")


def placement_of(device):
    """What from_pretrained() is told of devices."""
    if device.startswith("cuda") and not torch.cuda.is_available():
        fail(f"--device {device}: torch {torch.__version__} sees no GPU")
    if device == "auto" and not importlib.util.find_spec("accelerate"):
        fail("--device auto spreads the model over the GPUs with accelerate, which is not installed: pip install accelerate, or name one device")
    return {"device_map": "auto"} if device == "auto" else {}


def load_model(arguments, config):
    kind, placement = model_class(config, arguments.auto_class), placement_of(arguments.device)
    try:
        model, loading = kind.from_pretrained(arguments.model, dtype=getattr(torch, arguments.dtype), output_loading_info=True,
                                              trust_remote_code=arguments.trust_remote_code, **placement)
    except (AttributeError, ImportError, KeyError, OSError, TypeError, ValueError) as error:
        fail(f"{kind.__name__} cannot load {arguments.model} ({first_line(error)}); another class can be named with --auto-class")
    if missing := sorted(loading["missing_keys"]):
        print(f"record_statistics: WARNING: {len(missing)} parameters of {kind.__name__} are not in the model's files and are random, e.g. "
              f"{missing[0]}; if that is not wanted, name another class with --auto-class", file=sys.stderr)
    if torch.cuda.is_available() and {"cpu", "disk"} & set(getattr(model, "hf_device_map", {}).values()):
        fail("the model does not fit on the GPUs, and weights that come and go cannot be watched; use more GPUs, or --device cpu")
    for module in model.modules():
        if hasattr(getattr(module, "config", None), "use_cache"):
            module.config.use_cache = False
    return (model if placement else model.to(arguments.device)).eval()


def first_line(error):
    return f"{type(error).__name__}: {str(error).strip()}".splitlines()[0]


class Progress:
    """On a terminal one line that changes, else a line now and then."""

    def __init__(self, total):
        self._total, self._begin, self._next_line = total, time.monotonic(), 0
        self._is_terminal = sys.stderr.isatty()

    def show(self, done):
        now = time.monotonic()
        if not self._is_terminal and done < self._total and now < self._next_line:
            return
        self._next_line = now + SECONDS_BETWEEN_LINES
        minutes, seconds = divmod(round((now - self._begin) / done * (self._total - done)), 60)
        line = f"record_statistics: {done}/{self._total} sequences  {100 * done // self._total:3}%  left {minutes}m{seconds:02}s"
        is_last = done == self._total
        print(f"\r{line:<70}" if self._is_terminal else line, end="" if self._is_terminal and not is_last else "\n", file=sys.stderr, flush=True)


def measure(model, inputs, blocks):
    """MatrixProducts, NormInputs, and the number of tokens that ran"""
    products, norms = MatrixProducts(model), NormInputs(model)
    names = {parameter: name for name, parameter in model.named_parameters()}
    progress, tokens = Progress(len(blocks)), 0
    for number, block in enumerate(blocks):
        own = {name: value.to(model.device) for name, value in inputs.of(number, block).items()}
        try:
            with torch.no_grad(), products:
                model(**own)
        except Exception as error:  # whatever a model's own code may say of inputs that it does not like
            needs_images = "; it may need --images" if takes_images(model) and "pixel_values" not in own else ""
            fail(f"{type(model).__name__} does not run on sequence {number} ({', '.join(own)}): {first_line(error)}{needs_images}")
        tokens += own.get("input_ids", block).numel()
        products.forget_dead_copies()
        require_finite(products, norms, names)
        progress.show(number + 1)
    return products, norms, tokens


def require_finite(products, norms, names):
    """NaN goes on from the first that has it to all behind, so the first in the order of use is named."""
    of_products = [(parameter, sums) for parameter, by_axis in products.sums.items() for sums in by_axis.values()]
    all_sums = sorted([*of_products, *norms.sums.items()], key=lambda pair: pair[1].order)
    flags = collections.defaultdict(list)  # one answer per device is waited for, not one per module
    for _, sums in all_sums:
        flags[sums.absolute.device].append(sums.is_finite())
    if not all(torch.stack(own).all() for own in flags.values()):
        parameter = next(parameter for parameter, sums in all_sums if not sums.is_finite())
        fail(f"input of {names[parameter]}: an activation is NaN or infinite")


def print_report(of_file, is_without_images):
    """To standard error: what was measured, what was not and why."""
    def say(line):
        print(f"record_statistics: {line}", file=sys.stderr)

    say(f"measured: {len(of_file.modules)} modules")
    if tokens := tokens_of_experts(of_file.modules):
        idle, rare = sum(count == 0 for count in tokens.values()), sum(count < FEW_TOKENS for count in tokens.values())
        say(f"of {len(tokens)} experts {idle} saw no token (their statistics are zeros), {rare} fewer than {FEW_TOKENS}")
    for kind, names in of_file.unmeasured.items():
        if names:
            say(f"not measured ({len(names)}): {kind}" + (f": {names_in_short(names)}" if kind != VECTORS else ""))
    if is_without_images:
        say("only text went through the model; with --images DIR it is shown images, too")


def names_in_short(names):
    """Layers and experts together: model.layers.N.conv.weight."""
    alike = collections.defaultdict(list)
    for name in names:
        alike[re.sub(r"(?<=\.)\d+(?=\.)", "N", name)].append(name)
    shown = [pattern if len(own) > 1 else own[0] for pattern, own in alike.items()]
    more = f" and {len(shown) - NAMES_SHOWN} more" if len(shown) > NAMES_SHOWN else ""
    return ", ".join(shown[:NAMES_SHOWN]) + more


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=pathlib.Path, help="the base model's folder")
    source = parser.add_mutually_exclusive_group()
    source.add_argument("--corpus", type=pathlib.Path)
    source.add_argument("--token-ids", type=pathlib.Path)
    parser.add_argument("--images", type=pathlib.Path, metavar="DIR", help="images, one of which goes in front of every sequence's text, in turn")
    parser.add_argument("--out", type=pathlib.Path, required=True)
    parser.add_argument("--sequences", type=int, default=256)
    parser.add_argument("--sequence-length", type=int, help="default: 2048, or what the model takes")
    parser.add_argument("--dtype", choices=("bfloat16", "float32"), default="bfloat16")
    parser.add_argument("--device", default="cpu", help="cpu, cuda, ...; auto: spread over the GPUs (accelerate)")
    parser.add_argument("--auto-class", metavar="CLASS", help="class of transformers, e.g. AutoModelForMaskedLM; default: the one of config.json")
    parser.add_argument("--trust-remote-code", action="store_true", help="run code that comes with the model")
    arguments = parser.parse_args()
    if not (arguments.corpus or arguments.token_ids or arguments.images):
        parser.error("one of --corpus, --token-ids and (of a model of images alone) --images is needed")
    return arguments


def main():
    arguments = parse_arguments()
    transformers.utils.logging.disable_progress_bar()
    config = load_config(arguments)
    blocks = token_blocks(arguments, config)
    model = load_model(arguments, config)
    inputs = ImageInputs(model, arguments) if arguments.images else TextInputs(model)
    file = FileParameters(model, arguments.model)  # before the run: some routers change their weight's type in it
    products, norms, tokens = measure(model, inputs, blocks)
    of_file = ModulesOfFile(model, file, products, norms)
    if not of_file.modules:
        fail(f"nothing was measured: no parameter of {type(model).__name__} is in the files of {arguments.model}")
    write_log(arguments.out, of_file.modules, attributes_of(arguments, blocks, tokens), compact_config(arguments.model))
    print_report(of_file, is_without_images=takes_images(model) and not arguments.images)
    print(f"{arguments.out}: {len(of_file.modules)} modules over {tokens} tokens")


if __name__ == "__main__":
    main()

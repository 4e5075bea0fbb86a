"""Has PEFT merge an adapter into the modules of a base model that it changes, a part of them at a time.

  python merge_adapter.py JOB.json     does the job and prints the folder that has the result
  python merge_adapter.py --answer     started by aimerge, which talks to it over a socket

aimerge writes the job: the adapter's folder, and of every module that it changes the name, the kind and where its weights lie
in the base's files. No code of the model is needed: what PEFT gets is a model of these modules alone. Their weights are in
float32, as is what comes out: the merged parameters, each under its name, and what the adapter stores in full, beside a copy of
the adapter's small files.

In memory are the weights of one part, 2 GiB in float32, and what it gives. Kinds whose modules share parameters that depend on
the sizes of all (VeRA) have all modules at once, but the weights of one at a time. Other kinds are refused: what they make of
a module may depend on modules that the adapter does not change, or on the order of all.

Messages of --answer are a length (8 bytes, little-endian) and that many bytes, of which the first says what follows: b"I" a
result, b"E" what is wrong with the adapter, b"S" what is wrong with this Python. The first message says which PEFT this is.
"""

import fcntl
import importlib.metadata
import json
import os
import shutil
import struct
import sys
import warnings

PART_BYTES = 2 << 30  # of float32 weights that PEFT has at a time
FILE_BYTES = 256 << 20  # of an output file, from which on it is closed
# Kinds of which a module's merged weights depend on its own weights and on the tensors under its name.
MODULE_BY_MODULE = {"LORA", "ADALORA", "LOHA", "LOKR", "IA3", "OFT", "BOFT", "HRA", "FOURIERFT", "WAVEFT", "MISS", "ROAD", "SHIRA", "C3A", "DELORA", "GRALORA",
                    "OSF", "PSOFT", "HIRA", "DEFT", "PEANUT", "GLORA", "BEFT"}
# Kinds with parameters for all modules, which do not look at weights before they are merged.
SHARING = {"VERA", "PVERA", "RANDLORA", "VBLORA"}
PREFIX = "base_model.model."
MERGED_BY, MERGED = "aimerge_merged_by", ".merged"  # by which aimerge knows the folder, and its tensors


class Failure(Exception):
    """A message for the user about the adapter."""


def peft_version():
    """(version, what is missing)"""
    for package in ("peft", "torch", "safetensors"):
        try:
            importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            return "", f"package {package}"
    return importlib.metadata.version("peft"), ""


def read_values(place):
    """A tensor of the base in float32."""
    import numpy
    import torch

    dtype = {"BF16": torch.bfloat16, "F16": torch.float16, "F32": torch.float32, "F64": torch.float64}[place["dtype"]]
    data = numpy.fromfile(place["file"], numpy.uint8, place["end"] - place["begin"], offset=place["begin"])
    return torch.from_numpy(data).view(dtype).reshape(place["shape"]).float()


def empty_module(entry):
    """A module as in the model, whose memory is taken when its weights are."""
    import torch

    rows, columns = entry["shape"]
    if entry["kind"] == "Embedding":
        module = torch.nn.Embedding(rows, columns, _weight=torch.empty(rows, columns))
    elif entry["kind"] == "Conv1D":
        from transformers.pytorch_utils import Conv1D

        module = Conv1D(0, 0)
        module.nf, module.nx = columns, rows
        module.weight = torch.nn.Parameter(torch.empty(rows, columns))
        module.bias = torch.nn.Parameter(torch.zeros(columns))
    else:
        module = torch.nn.Linear(columns, rows, bias="bias" in entry, device="meta").to_empty(device="cpu")
    return module


def model_of(entries):
    """A model that has these modules under their names and nothing else."""
    import torch

    model = torch.nn.Module()
    for entry in entries:
        *path, last = entry["name"].split(".")
        parent = model
        for part in path:
            if part not in parent._modules:
                parent.add_module(part, torch.nn.Module())
            parent = parent._modules[part]
        if last in parent._modules:
            raise Failure(f"{entry['name']}: the adapter changes it and modules within it")
        parent.add_module(last, empty_module(entry))
    return model


def fill(module, entry):
    module.weight.data = read_values(entry["weight"])
    if "bias" in entry:
        module.bias.data = read_values(entry["bias"])


def parts_of(entries, kind):
    """Modules that PEFT gets together."""
    if kind in SHARING:
        return [entries]
    if kind not in MODULE_BY_MODULE:
        raise Failure(f"adapters of kind {kind.value} may depend on more of the model than the modules that they change; merge this one "
                      "into its base with PEFT (merge_and_unload) and name the result")
    parts, size = [[]], 0
    for entry in entries:
        rows, columns = entry["shape"]
        if parts[-1] and size + 4 * rows * columns > PART_BYTES:
            parts.append([])
            size = 0
        parts[-1].append(entry)
        size += 4 * rows * columns
    return parts


def load_tensors(adapted, own):
    """Gives PEFT the adapter's tensors, all of which it must want, and which must be all that it wants."""
    from peft import set_peft_model_state_dict

    result = set_peft_model_state_dict(adapted, own)
    state = adapted.state_dict()
    prefix, missing = adapted.base_model.prefix, set(result.missing_keys)
    loaded = {values.data_ptr() for key, values in state.items() if key not in missing}  # modules may share parameters
    lacking = [key for key in result.missing_keys if prefix in key and state[key].data_ptr() not in loaded]
    if lacking or result.unexpected_keys:
        raise Failure(f"tensors and adapter_config.json do not belong together: PEFT misses {', '.join(lacking[:3]) or 'none'} and "
                      f"does not know {', '.join(result.unexpected_keys[:3]) or 'none'}")


def merged_parameters(entries, config, weights):
    """(name, values) of every parameter of these modules, after the merge."""
    import torch
    from peft import PeftModel
    from peft.tuners.tuners_utils import BaseTunerLayer

    model = model_of(entries)
    by_name = {entry["name"]: entry for entry in entries}
    filled_late = config.peft_type in SHARING
    if not filled_late:  # many kinds look at the weights when they begin
        for name, entry in by_name.items():
            fill(model.get_submodule(name), entry)
    adapted = PeftModel(model, config)
    names = tuple(PREFIX + name + "." for name in by_name)
    load_tensors(adapted, {key: values for key, values in weights.items() if key.startswith(names) or not key.startswith(PREFIX)})
    adapted.eval()
    layers = dict(adapted.base_model.model.named_modules())
    for name, entry in by_name.items():
        layer = layers[name]
        if not isinstance(layer, BaseTunerLayer):
            raise Failure(f"has tensors for {name}, which its config leaves as it is; PEFT would not apply them")
        if filled_late:
            fill(layer.get_base_layer(), entry)
        with torch.no_grad():
            layer.merge()
        base = layer.get_base_layer()
        yield f"{PREFIX}{name}.weight{MERGED}", base.weight.data
        if "bias" in entry:
            yield f"{PREFIX}{name}.bias{MERGED}", base.bias.data
        base.weight.data = torch.empty(0)


def write_files(folder, tensors):
    """Files merged-00001.safetensors, ... of about FILE_BYTES each."""
    from safetensors.torch import save_file

    held, size, count = {}, 0, 0
    for name, values in tensors:
        held[name] = values.detach().clone().contiguous()
        size += held[name].numel() * held[name].element_size()
        if size >= FILE_BYTES:
            count += 1
            save_file(held, os.path.join(folder, f"merged-{count:05d}.safetensors"))
            held, size = {}, 0
    if held:
        save_file(held, os.path.join(folder, f"merged-{count + 1:05d}.safetensors"))


def all_tensors(job, config, weights):
    stored = set(job["stored"])
    tuned = {key: values for key, values in weights.items() if key not in stored}
    for part in parts_of(job["modules"], config.peft_type):
        yield from merged_parameters(part, config, tuned)
    for name in job["stored"]:
        yield name, weights[name]


def copy_small_files(adapter, folder, version):
    for name in os.listdir(adapter):
        path = os.path.join(adapter, name)
        if os.path.isfile(path) and not name.endswith((".safetensors", ".bin", ".pt", ".pth")):
            shutil.copyfile(path, os.path.join(folder, name))
    path = os.path.join(folder, "adapter_config.json")
    with open(path, encoding="utf-8") as file:
        config = json.load(file)
    with open(path, "w", encoding="utf-8") as file:
        json.dump({**config, MERGED_BY: f"peft {version}"}, file, indent=2)


def merge(job_path):
    """The folder with the result. Of several processes one makes it, and the others wait."""
    with open(job_path, encoding="utf-8") as file:
        job = json.load(file)
    version, lacking = peft_version()
    if lacking:
        raise Failure(f"{sys.executable} has no {lacking}")
    folder = job["out"] + version
    with open(job["out"] + version + ".lock", "w", encoding="utf-8") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if os.path.isdir(folder):
            return folder
        partial = folder + ".partial"
        shutil.rmtree(partial, ignore_errors=True)
        os.makedirs(partial)
        from peft import PeftConfig
        from safetensors.torch import load_file

        config = PeftConfig.from_pretrained(job["adapter"])
        for key in ("modules_to_save", "trainable_token_indices"):  # aimerge's own affair
            if getattr(config, key, None):
                setattr(config, key, None)
        config.task_type = None  # a model of modules alone makes no text
        config.inference_mode = True
        weights = load_file(os.path.join(job["adapter"], "adapter_model.safetensors"))
        write_files(partial, all_tensors(job, config, weights))
        copy_small_files(job["adapter"], partial, version)
        os.rename(partial, folder)
    return folder


def explained(job_path):
    """merge(), with whatever PEFT raises as a message about the adapter."""
    warnings.simplefilter("ignore")
    try:
        return merge(job_path)
    except Failure as failure:
        reason = str(failure)
    except Exception as error:  # PEFT raises what it likes
        reason = f"PEFT cannot merge it: {type(error).__name__}: {error}"
    with open(job_path, encoding="utf-8") as file:
        job = json.load(file)
    raise Failure(f"{job['adapter']}: {job['reason']}: {reason}")


def read_message(stream):
    head = stream.read(8)
    return stream.read(struct.unpack("<Q", head)[0]).decode() if len(head) == 8 else None


def answer(requests, answers):
    def send(kind, text):
        data = kind + text.encode()
        answers.write(struct.pack("<Q", len(data)) + data)
        answers.flush()

    version, lacking = peft_version()
    send(b"I", json.dumps({"peft": version, "lacking": lacking}))
    job_path = read_message(requests)
    if job_path is None:
        return
    try:
        send(b"I", explained(job_path))
    except Failure as failure:
        send(b"E", str(failure))


def main():
    if sys.argv[1:] == ["--answer"]:
        answers = sys.stdout.buffer
        sys.stdout = sys.stderr  # what libraries print is no answer
        answer(sys.stdin.buffer, answers)
        return 0
    if len(sys.argv) != 2:
        print(__doc__, file=sys.stderr)
        return 2
    try:
        print(explained(sys.argv[1]))
    except Failure as failure:
        print(failure, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""Writes statistics as the HDF5 log that aimerge reads (docs/file-formats.md).

    /statistics/<module>        <module>: the tensor's name in the model's files without ".weight"
        mean_abs, rms, max_abs  float32 [in]; of fused experts, a tensor with three axes, [experts, in]
        attribute tokens        int64, the rows that entered it; of fused experts int64 [experts]
        attribute input_axis    int64, which axis of the tensor is the input, from the end; left out where it is the last
    /base_config                the model's config.json
"""
import datetime
import hashlib
import json
import os
import sys

os.environ.setdefault("HDF5_USE_FILE_LOCKING", "FALSE")  # some file systems have no locks; h5py reads it when imported
import h5py
import numpy as np
import torch
import transformers

from file_parameters import weight_files

FORMAT_VERSION = 1
TIMING = [("rank", "<i8"), ("forward_seconds", "<f8"), ("wait_seconds", "<f8"), ("read_seconds", "<f8"), ("peak_memory_bytes", "<i8"),
          ("peak_device_memory_bytes", "<i8"), ("bytes_read", "<i8"), ("tokens", "<i8")]


def file_stamps(folder):
    """As aimerge knows the weights again: name, size and time of every file."""
    stamps = ""
    for name in weight_files(folder):
        status = (folder / name).stat()
        seconds, nanoseconds = divmod(status.st_mtime_ns, 10**9)
        stamps += f"{name} {status.st_size} {seconds}.{nanoseconds:09}\n"
    return stamps


def compact_config(folder):
    return json.dumps(json.loads((folder / "config.json").read_text(encoding="utf-8")), ensure_ascii=False, separators=(",", ":"))


def attributes_of(arguments, blocks, tokens):
    return {
        "format_version": np.int64(FORMAT_VERSION), "base_model": str(arguments.model), "base_digest": "",
        "base_file_stamps": file_stamps(arguments.model), "corpus": str(arguments.corpus or arguments.token_ids or arguments.images),
        "tokens_digest": hashlib.sha256(blocks.numpy().tobytes()).hexdigest(), "tokens": np.int64(tokens),
        "blocks": np.int64(blocks.shape[0]), "block_length": np.int64(blocks.shape[1]), "dtype": arguments.dtype, "micro_batch": np.int64(1),
        "vocabulary": "recorded with transformers", "device": arguments.device, "ranks": np.int64(1),
        "threads_per_rank": np.int64(torch.get_num_threads()), "command_line": " ".join(sys.argv),
        "created": datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "tool_version": "transformers " + transformers.__version__}


def write_log(path, modules, attributes, config_text):
    """modules  {module: module_statistics.ModuleStatistics}"""
    with h5py.File(path, "w") as file:
        for name, value in attributes.items():
            file.attrs[name] = value
        file.create_dataset("base_config", data=config_text, dtype=h5py.string_dtype("utf-8"))
        for module, statistics in modules.items():
            group = file.create_group(f"statistics/{module}")
            group.attrs["tokens"] = statistics.tokens
            if statistics.input_axis != -1:
                group.attrs["input_axis"] = np.int64(statistics.input_axis)
            for name, values in statistics.values.items():
                group[name] = values
        file["plan"] = np.zeros(1, [("rank", "<i8"), ("first_layer", "<i8"), ("last_layer", "<i8")])
        file["timing"] = np.zeros(1, TIMING)

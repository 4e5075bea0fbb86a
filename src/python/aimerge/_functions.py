"""The functions of the package: arguments to a request, a result to a value."""
from __future__ import annotations

import json
import os
import pathlib
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, Union, overload

from . import _engine
from ._engine import Failure, Json, plain
from .errors import UsageError
from .progress import ProgressArgument, listener
from .results import (Calibration, Evaluation, Finding, Merged, MergedCheckpoint, ModuleStatistics, Plan, Statistics, Sweep,
                      TaskScore, Verification)

if TYPE_CHECKING:
    from ._held import HeldMerge

PathArgument = Union[str, "os.PathLike[str]"]
ConfigArgument = Union[Mapping[str, Any], str, "os.PathLike[str]"]
"""A config as a mapping; or a path of a YAML file; or YAML text, which has a line break."""
SetArgument = Union[Mapping[str, Any], Sequence[str], None]
"""{"aim.omega": 0.2}, or ["aim.omega=0.2"]."""
Device = Literal["auto", "cpu", "cuda"]


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, default=plain)


def _config(config: ConfigArgument) -> Json:
    if isinstance(config, Mapping):
        return {"text": _json(dict(config))}
    if isinstance(config, str) and "\n" in config:
        return {"text": config}
    return {"file": os.fspath(config)}


def _overrides(values: SetArgument) -> list[str]:
    if values is None:
        return []
    if isinstance(values, str):
        raise UsageError(f"set='{values}': expected a mapping or a list of texts, such as ['aim.omega=0.2']")
    if isinstance(values, Mapping):
        return [f"{key}={value if isinstance(value, str) else _json(value)}" for key, value in values.items()]
    return list(values)


def _texts(values: str | Iterable[str] | None) -> list[str]:
    return [] if values is None else [values] if isinstance(values, str) else list(values)


def _path(value: PathArgument | None) -> str:
    return "" if value is None else os.fspath(value)


def _merged(result: Json) -> Merged:
    checkpoints = tuple(MergedCheckpoint(pathlib.Path(entry["folder"]), entry["omega"]) for entry in result["checkpoints"])
    return Merged(checkpoints, result["bytes"], result["seconds"], result["coverage"])


def _call(function: str, request: Json, progress: ProgressArgument = None) -> Json:
    try:
        return _engine.run(function, request, listener(progress))
    except Failure as failure:
        raise failure.error() from None


@overload
def merge(config: ConfigArgument, out: None, *, progress: ProgressArgument = None, set: SetArgument = None,
          threads: int | None = None, memory_limit: int | str | None = None, strict: bool = False, allow_crimes: bool = False,
          device: Device = "auto") -> HeldMerge: ...


@overload
def merge(config: ConfigArgument, out: PathArgument, *, progress: ProgressArgument = None, overwrite: bool = False,
          set: SetArgument = None, threads: int | None = None, memory_limit: int | str | None = None,
          max_shard_size: int | str | None = None, verify_after: bool = False, strict: bool = False,
          allow_crimes: bool = False, dry_run: bool = False, device: Device = "auto") -> Merged: ...


def merge(config: ConfigArgument, out: PathArgument | None, *, progress: ProgressArgument = None, overwrite: bool = False,
          set: SetArgument = None, threads: int | None = None, memory_limit: int | str | None = None,
          max_shard_size: int | str | None = None, verify_after: bool = False, strict: bool = False,
          allow_crimes: bool = False, dry_run: bool = False, device: Device = "auto") -> Merged | HeldMerge:
    """Merges models into a checkpoint folder, with AIM when the config has an `aim` section: `aimerge merge`.

    The folder is complete or absent. Ctrl-C stops the job where the same call goes on from, and raises KeyboardInterrupt.

    config: a mapping, a path, or YAML text (docs/file-formats.md has the keys). Relative paths in it are relative to here.
    out: folder to write; None for a `HeldMerge`, which keeps the merged model in memory; with several omegas, the folder of one folder each. overwrite: replace it when the new one is complete
    progress: a function of a `Progress`; True for bars of tqdm; "auto": where tqdm is there and somebody looks
    set: values in the place of the config's, {"aim.omega": 0.2}
    threads: default all CPUs that this process may use
    memory_limit, max_shard_size: bytes, or a text such as "24GB"
    verify_after: read the result back and check it
    strict: keys that nothing reads are errors; allow_crimes: merge models of other architectures where tensors fit
    dry_run: check everything, show the plan (in the log "aimerge", at INFO), write nothing

    @raises UsageError, InputError, RuntimeFault, DamageFound (verify_after)
    """
    if out is None:
        if overwrite or verify_after or dry_run or max_shard_size is not None:
            raise UsageError("overwrite, verify_after, dry_run and max_shard_size are about a folder: give out, or use HeldMerge.save")
        from ._held import HeldMerge
        return HeldMerge(config, set=set, threads=threads, memory_limit=memory_limit, strict=strict, allow_crimes=allow_crimes,
                         device=device, progress=progress)
    return _merged(_call("merge", {
        "config": _config(config), "out": _path(out), "overwrite": overwrite, "set": _overrides(set), "threads": threads,
        "memory_limit": memory_limit, "verify_after": verify_after, "strict": strict, "allow_crimes": allow_crimes,
        "dry_run": dry_run, "device": device, **_shard(max_shard_size)}, progress))


def _shard(size: int | str | None) -> Json:
    return {} if size is None else {"max_shard_size": size}


def relax(merged: PathArgument, base: PathArgument, out: PathArgument, *, omega: float | Sequence[float],
          corpus: PathArgument | None = None, text_key: str | Sequence[str] | None = None, preset: str | None = None,
          statistics: PathArgument | None = None, progress: ProgressArgument = None, overwrite: bool = False,
          set: SetArgument = None, threads: int | None = None, memory_limit: int | str | None = None,
          max_shard_size: int | str | None = None, verify_after: bool = False, dry_run: bool = False,
          device: Device = "auto") -> Merged:
    """AIM on a model that any program has merged: `aimerge relax`.

    merged, base: folders or hub names. omega: how much of the change the most active channels keep, in [0, 1]; several give a
    folder each. Activations are measured on `corpus` (default: a general text that comes with aimerge), or read from the log
    `statistics`. text_key: columns of the corpus whose texts are joined. preset: "paper" or "reference-code". Other arguments: as `merge`.

    @raises UsageError, InputError, RuntimeFault, DamageFound
    """
    return _merged(_call("relax", {
        "merged": _path(merged), "base": _path(base), "out": _path(out),
        "omega": list(omega) if isinstance(omega, Iterable) else [omega], "corpus": _path(corpus),
        "text_key": _texts(text_key), "preset": preset or "", "statistics": _path(statistics), "overwrite": overwrite,
        "set": _overrides(set), "threads": threads, "memory_limit": memory_limit, "verify_after": verify_after,
        "dry_run": dry_run, "device": device, **_shard(max_shard_size)}, progress))


def calibrate(config: ConfigArgument, out: PathArgument, *, progress: ProgressArgument = None, overwrite: bool = False,
              set: SetArgument = None, threads: int | None = None, memory_limit: int | str | None = None,
              strict: bool = False, dry_run: bool = False, device: Device = "auto") -> Calibration:
    """Measures the activation statistics of a config's base into a log (HDF5): `aimerge calibrate`.

    config: with base_model and aim.calibration. out: the log; overwrite: replace one that holds other statistics.
    Other arguments: as `merge`.

    @raises UsageError, InputError, RuntimeFault
    """
    result = _call("calibrate", {
        "config": _config(config), "out": _path(out), "overwrite": overwrite, "set": _overrides(set), "threads": threads,
        "memory_limit": memory_limit, "strict": strict, "dry_run": dry_run, "device": device}, progress)
    return Calibration(pathlib.Path(out), result["source"])


def evaluate(model: PathArgument, suites: PathArgument | Sequence[PathArgument], *, dtype: Literal["float32", "bfloat16"] = "float32",
             multiple_choice: Literal["acc", "acc_norm"] = "acc_norm", block_length: int = 256, samples: bool = False,
             progress: ProgressArgument = None, threads: int | None = None, memory_limit: int | str | None = None,
             device: Device = "auto") -> Evaluation:
    """Scores a checkpoint on suites of prompts and texts: `aimerge evaluate`.

    model: a folder, or org/name in the local hub cache. suites: files of items (docs/file-formats.md), .txt for perplexity.
    dtype: in which the model runs. multiple_choice: the score of tasks with choices. block_length: tokens of a block of text.
    samples: keep the result of every item. The result's `frame()` is a pandas DataFrame.

    @raises UsageError, InputError, RuntimeFault
    """
    result = _call("evaluate", {
        "model": _path(model), "threads": threads, "memory_limit": memory_limit, "device": device,
        **_scoring(suites, dtype, multiple_choice, block_length, samples)}, progress)
    return _evaluation(_path(model), dtype, result)


def _scoring(suites: PathArgument | Sequence[PathArgument], dtype: str, multiple_choice: str, block_length: int, samples: bool) -> Json:
    files = [suites] if isinstance(suites, (str, os.PathLike)) else list(suites)
    return {"suites": [os.fspath(file) for file in files], "dtype": dtype, "multiple_choice": multiple_choice,
            "block_length": block_length, "samples": samples}


def _evaluation(model: str, dtype: str, result: Json) -> Evaluation:
    return Evaluation(model, dtype, tuple(TaskScore(**task) for task in result["tasks"]), result["tokens"], result["seconds"],
                      tuple(result["samples"]))


def sweep(config: ConfigArgument, *, only: str | Sequence[str] | None = None, progress: ProgressArgument = None,
          set: SetArgument = None, threads: int | None = None, memory_limit: int | str | None = None,
          strict: bool = False, dry_run: bool = False, device: Device = "auto") -> Sweep:
    """Merges and scores methods x combinations of experts x omegas, into the folder that the config names: `aimerge sweep`.

    only: conditions on points, "method=ties,omega=0.4". Points that are done are not done again. The result's `frame()` is
    points.csv as a pandas DataFrame. Other arguments: as `merge`.

    @raises UsageError, InputError; RuntimeFault when points failed: its `result` is the Sweep, in whose frame the column `error`
        says why
    """
    request = {"config": _config(config), "only": _texts(only), "set": _overrides(set), "threads": threads,
               "memory_limit": memory_limit, "strict": strict, "dry_run": dry_run, "device": device}
    try:
        return _sweep(_engine.run("sweep", request, listener(progress)))
    except Failure as failure:
        raise failure.error(_sweep(failure.result) if failure.result else None) from None


def _sweep(result: Json) -> Sweep:
    return Sweep(pathlib.Path(result["folder"]), result["table"], result["tried"], result["failed"])


def plan(config: ConfigArgument, *, out: PathArgument | None = None, ranks: int | None = None, hardware: PathArgument = "",
         set: SetArgument = None, threads: int | None = None, memory_limit: int | str | None = None,
         max_shard_size: int | str | None = None, strict: bool = False, device: Device = "auto") -> Plan:
    """What a merge would read, write, hold and compute, from headers and config alone: `aimerge plan`.

    ranks: plan for so many. hardware: a machine's name or YAML file (configs/hardware), to simulate how long the job takes there.
    `print(plan(...))` shows the table; `documents` has the numbers. Other arguments: as `merge`.

    @raises UsageError, InputError
    """
    result = _call("plan", {
        "config": _config(config), "out": _path(out), "ranks": ranks, "hardware": _path(hardware), "set": _overrides(set),
        "threads": threads, "memory_limit": memory_limit, "strict": strict, "device": device, **_shard(max_shard_size)})
    return Plan(tuple(result["documents"]), result["table"])


def verify(folder: PathArgument, *, threads: int | None = None) -> Verification:
    """Checks that a checkpoint folder is whole and unchanged: `aimerge verify`.

    @raises DamageFound, whose `result` is the Verification with its findings; InputError when `folder` holds no checkpoint
    """
    try:
        return _verification(_engine.run("verify", {"folder": _path(folder), "threads": threads}))
    except Failure as failure:
        raise failure.error(_verification(failure.result) if failure.result else None) from None


def _verification(result: Json) -> Verification:
    findings = tuple(Finding(entry["file"], entry["tensor"], entry["text"], tuple(entry["bytes"]) if entry["bytes"] else None)
                     for entry in result["findings"])
    return Verification(result["files"], result["tensors"], result["bytes"], tuple(result["notices"]), findings)


def inspect(path: PathArgument) -> Json:
    """What a checkpoint (folder or hub name) or a statistics log holds, as `aimerge inspect --json` prints it.

    @raises InputError
    """
    return _call("inspect", {"path": _path(path)})


def statistics(path: PathArgument) -> Statistics:
    """Activation statistics as numpy arrays. path: a log of `calibrate`, or the folder of a checkpoint that was merged with AIM.

    @raises InputError: no log, or a damaged one
    """
    import numpy as np
    try:
        result, values = _engine.run_with_values("statistics", {"path": _path(path)})
    except Failure as failure:
        raise failure.error() from None
    modules = {}
    first = 0
    for entry in result["modules"]:
        shape = (entry["experts"], entry["channels"]) if entry["experts"] else (entry["channels"],)
        end = first + 3 * int(np.prod(shape))
        mean_abs, rms, max_abs = values[first:end].reshape(3, *shape)
        modules[entry["module"]] = ModuleStatistics(mean_abs, rms, max_abs, entry["tokens"],
                                                    np.array(entry["expert_tokens"], np.int64), entry["input_axis"])
        first = end
    return Statistics(result["origin"], modules)

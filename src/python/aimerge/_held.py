"""A merge in memory: asked for tensors, scored, changed, and written when it is good."""
from __future__ import annotations

import os
import weakref
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

from . import _engine
from ._engine import Failure, Json
from ._functions import (ConfigArgument, Device, PathArgument, SetArgument, _call, _config, _evaluation, _merged, _overrides,
                         _scoring)
from .progress import ProgressArgument
from .results import Evaluation, Merged

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

_BYTES = {"float32": 4, "float16": 2, "bfloat16": 2, "float64": 8, "int64": 8, "int32": 4, "int16": 2, "int8": 1, "uint8": 1, "bool": 1}


class HeldMerge(Mapping[str, "npt.NDArray[Any]"]):
    """A merge in memory: the tensors of the merged model by name, each merged when it is first asked for.

    Arguments: as `merge`. @raises UsageError, InputError; also for what needs a folder: several omegas or documents, featcal

    Its memory is freed by `close`, at the end of a `with`, or with the object; arrays that were given out keep theirs.
    """

    def __init__(self, config: ConfigArgument, *, set: SetArgument = None, threads: int | None = None,
                 memory_limit: int | str | None = None, strict: bool = False, allow_crimes: bool = False,
                 device: Device = "auto", progress: ProgressArgument = None) -> None:
        result = _call("hold", {
            "config": _config(config), "set": _overrides(set), "threads": threads, "memory_limit": memory_limit,
            "strict": strict, "allow_crimes": allow_crimes, "device": device}, progress)
        self._held: int = result["held"]
        self._take(result)
        self._release = weakref.finalize(self, _call, "release", {"held": self._held})

    def _take(self, result: Json) -> None:
        self._tensors: dict[str, Json] = {tensor["name"]: tensor for tensor in result["tensors"]}

    def _bytes(self, name: str) -> Any:
        """The memory of a tensor, which lives as long as what is made of it."""
        if name not in self._tensors:
            raise KeyError(name)
        try:
            return _engine.run_with_memory("held_tensor", {"held": self._held, "tensor": name}, self._size(name))
        except Failure as failure:
            raise failure.error() from None

    def _size(self, name: str) -> int:
        size = _BYTES[self.dtype(name)]
        for extent in self.shape(name):
            size *= extent
        return size

    def shape(self, name: str) -> tuple[int, ...]:
        """[out_features, in_features] of a linear module."""
        return tuple(self._tensors[name]["shape"])

    def dtype(self, name: str) -> str:
        """Of the merged model: "bfloat16", "float32", ..."""
        text: str = self._tensors[name]["dtype"]
        return text

    def __getitem__(self, name: str) -> npt.NDArray[Any]:
        """Read-only, without a copy; of bfloat16, which numpy lacks, a float32 copy. KeyError for an unknown name."""
        import numpy as np
        memory = self._bytes(name)
        if self.dtype(name) != "bfloat16":
            array = np.frombuffer(memory, dtype=self.dtype(name)).reshape(self.shape(name))
            array.flags.writeable = False
            return array
        wide = np.frombuffer(memory, dtype=np.uint16).astype(np.uint32) << 16
        return wide.view(np.float32).reshape(self.shape(name))

    def torch(self, name: str) -> Any:
        """A torch.Tensor in the model's dtype, without a copy: not to be written to. @raises ImportError without torch"""
        import torch
        return torch.frombuffer(self._bytes(name), dtype=getattr(torch, self.dtype(name))).reshape(self.shape(name))

    def __iter__(self) -> Iterator[str]:
        return iter(self._tensors)

    def __len__(self) -> int:
        return len(self._tensors)

    def set(self, values: SetArgument) -> HeldMerge:
        """Other values in the place of the config's and of an earlier `set`: {"models.0.parameters.weight": 0.4, "aim.omega": 0.2}.

        Tensors whose values stay are not merged again. When it raises, all is as before.
        """
        self._take(_call("held_set", {"held": self._held, "overrides": _overrides(values)}))
        return self

    def evaluate(self, suites: PathArgument | Sequence[PathArgument], *, dtype: Literal["float32", "bfloat16"] = "float32",
                 multiple_choice: Literal["acc", "acc_norm"] = "acc_norm", block_length: int = 256, samples: bool = False,
                 progress: ProgressArgument = None) -> Evaluation:
        """Merges what is not merged yet and scores the model: as `aimerge.evaluate` scores its folder."""
        request = {"held": self._held, **_scoring(suites, dtype, multiple_choice, block_length, samples)}
        return _evaluation("the merged model", dtype, _call("held_evaluate", request, progress))

    def save(self, out: PathArgument, *, overwrite: bool = False, progress: ProgressArgument = None) -> Merged:
        """Writes the folder that `merge` writes with the same config and values."""
        return _merged(_call("held_save", {"held": self._held, "out": os.fspath(out), "overwrite": overwrite}, progress))

    def close(self) -> None:
        """Frees the memory. A second call does nothing."""
        self._release()

    def __enter__(self) -> HeldMerge:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

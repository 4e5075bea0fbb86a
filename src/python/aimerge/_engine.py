"""The engine behind ctypes: a job runs on a thread of its own, and the calling thread waits without the interpreter's lock."""
from __future__ import annotations

import ctypes
import json
import logging
import os
import sys
import weakref
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from . import _libraries
from .errors import BY_EXIT_CODE, Error, RuntimeFault, UsageError
from .progress import Listener, Progress

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

Json = dict[str, Any]

LOG = logging.getLogger("aimerge")
_TURN = 50
"""Milliseconds that a call waits before the interpreter looks at its signals."""
_LEVELS = {"debug": logging.DEBUG, "info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR,
           "critical": logging.CRITICAL}

# The scripts that the engine starts (tokenizers, Parquet, chat templates) are run by this interpreter.
if sys.executable:
    os.environ.setdefault("AIMERGE_PYTHON", sys.executable)

_library = _libraries.load()
_library.aimerge_version.restype = ctypes.c_char_p
_library.aimerge_start.argtypes = [ctypes.c_char_p, ctypes.c_char_p]
_library.aimerge_start.restype = ctypes.c_void_p
_library.aimerge_wait.argtypes = [ctypes.c_void_p, ctypes.c_int]
_library.aimerge_wait.restype = ctypes.c_char_p
_library.aimerge_stop.argtypes = [ctypes.c_void_p]
_library.aimerge_values.argtypes = [ctypes.c_void_p, ctypes.POINTER(ctypes.c_uint64)]
_library.aimerge_values.restype = ctypes.POINTER(ctypes.c_float)
_library.aimerge_bytes.argtypes = [ctypes.c_void_p]
_library.aimerge_bytes.restype = ctypes.c_void_p
_library.aimerge_free.argtypes = [ctypes.c_void_p]


def plain(value: Any) -> Any:
    """What JSON does not know: paths, and numbers and arrays of numpy."""
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if isinstance(value, Mapping):
        return dict(value)
    if hasattr(value, "tolist"):
        return value.tolist()
    raise UsageError(f"a value of type {type(value).__name__} cannot be given to the engine: {value!r}")


def version() -> str:
    text: bytes = _library.aimerge_version()
    return text.decode()


class Failure(Exception):
    """An error as the engine gives it, for the function to raise by its kind."""

    def __init__(self, code: int, message: str, result: Json | None) -> None:
        super().__init__(message)
        self.code, self.message, self.result = code, message, result

    def error(self, result: object = None) -> Error:
        return BY_EXIT_CODE.get(self.code, RuntimeFault)(self.message, result)


def _require_private_torch() -> None:
    """The engine's libtorch would call functions of another version that were loaded for all libraries of the process."""
    if "torch" in sys.modules and hasattr(ctypes.CDLL(None), "aoti_torch_device_type_cpu"):
        raise UsageError("torch was imported with RTLD_GLOBAL (sys.setdlopenflags), so that its functions would take the place of "
                         "aimerge's; import it without, or run aimerge in a process of its own")


class _Job:
    def __init__(self, function: str, request: Json) -> None:
        _require_private_torch()
        text = json.dumps({**request, "log_level": _log_level()}, ensure_ascii=False, default=plain).encode()
        self._pointer: int | None = _library.aimerge_start(function.encode(), text)
        if self._pointer is None:
            raise RuntimeFault("no thread can be started")

    def wait(self) -> Json:
        news: Json = json.loads(_library.aimerge_wait(self._pointer, _TURN))
        for level, line in news["log"]:
            LOG.log(_LEVELS[level], "%s", line)
        return news

    def stop(self) -> None:
        """Returns when the job has ended, which it does at its next safe point. Ctrl-C does not end the wait."""
        while True:
            try:
                _library.aimerge_stop(self._pointer)
                while not self.wait()["ended"]:
                    pass
                return
            except KeyboardInterrupt:
                continue

    def values(self) -> npt.NDArray[np.float32]:
        import numpy as np
        count = ctypes.c_uint64()
        first = _library.aimerge_values(self._pointer, ctypes.byref(count))
        if count.value == 0:
            return np.empty(0, np.float32)
        return np.ctypeslib.as_array(first, (count.value,)).copy()

    def memory(self, size: int) -> ctypes.Array[ctypes.c_ubyte]:
        """The tensor's bytes, without a copy: what is made of this object keeps the job, and with it the bytes."""
        memory = (ctypes.c_ubyte * size).from_address(_library.aimerge_bytes(self._pointer))
        weakref.finalize(memory, self.free)
        return memory

    def free(self) -> None:
        pointer, self._pointer = self._pointer, None
        _library.aimerge_free(pointer)


def _log_level() -> str:
    level = LOG.getEffectiveLevel()
    return "debug" if level <= logging.DEBUG else "info" if level <= logging.INFO else "warning"


def _listen(job: _Job, listener: Listener | None) -> Json:
    while True:
        news = job.wait()
        if listener is not None:
            for state in news["progress"]:
                listener(Progress(**state))
        if news["ended"]:
            return news


def _outcome(job: _Job, listener: Listener | None) -> Json:
    """@raises Failure"""
    try:
        news = _listen(job, listener)
    except BaseException:
        job.stop()
        raise
    finally:
        close = getattr(listener, "close", None)
        if close is not None:
            close()
    if news["error"] is not None:
        raise Failure(news["error"]["code"], news["error"]["message"], news["result"])
    result: Json = news["result"]
    return result


def run(function: str, request: Json, listener: Listener | None = None) -> Json:
    """The result of a function of src/python/functions.cpp. @raises Failure; KeyboardInterrupt when the job has been stopped"""
    job = _Job(function, request)
    try:
        return _outcome(job, listener)
    finally:
        job.free()


def run_with_values(function: str, request: Json) -> tuple[Json, npt.NDArray[np.float32]]:
    """@raises Failure"""
    job = _Job(function, request)
    try:
        return _outcome(job, None), job.values()
    finally:
        job.free()


def run_with_memory(function: str, request: Json, size: int) -> ctypes.Array[ctypes.c_ubyte]:
    """@raises Failure"""
    job = _Job(function, request)
    try:
        _outcome(job, None)
        return job.memory(size)
    except BaseException:
        job.free()
        raise

"""Which of the libraries that come along are loaded: those of the machine go first, MPI's above all.

`engine/` beside this file is an installed tree of aimerge. `engine/lib/machine/NAME/NAME` are libraries that distributions have
and containers often lack (MPI, and what HDF5 wants). Each has a folder of its own, so that one which is missing can be named to
the loader without hiding any that the machine has.
"""
from __future__ import annotations

import ctypes
import pathlib

ENGINE = pathlib.Path(__file__).resolve().parent / "engine"
LIBRARY = ENGINE / "lib/aimerge/libaimerge_python.so"
PROGRAM = ENGINE / "bin/aimerge"
_MACHINE = ENGINE / "lib/machine"

missing: list[pathlib.Path] = []
"""Folders of the libraries that the machine lacks, once the engine is loaded."""


def _order() -> list[str]:
    """Each library comes after those that it needs."""
    listed = _MACHINE / "order.txt"
    return listed.read_text(encoding="ascii").split() if listed.is_file() else []


def load() -> ctypes.CDLL:
    """@raises ImportError: the engine cannot be loaded"""
    try:
        return ctypes.CDLL(str(LIBRARY))
    except OSError as problem:
        first = problem
    for name in _order():
        try:
            ctypes.CDLL(name)
        except OSError:
            try:
                ctypes.CDLL(str(_MACHINE / name / name))
            except OSError as problem:
                raise ImportError(f"aimerge needs {name}, and its own copy cannot be loaded: {problem}") from None
            missing.append(_MACHINE / name)
    try:
        return ctypes.CDLL(str(LIBRARY))
    except OSError as problem:
        raise ImportError(f"the engine of aimerge cannot be loaded: {problem} (at first: {first})") from None

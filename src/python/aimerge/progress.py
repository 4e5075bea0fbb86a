"""How far a job is, and bars that show it."""
from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, Union


@dataclass(frozen=True)
class Progress:
    """A phase of a job, at most ten times a second and at its end.

    phase: "merge", "calibrate", ...; items: what is counted ("tensors", "blocks"); seconds: since the phase began;
    last: the phase has ended. total_bytes is 0 where bytes are not counted.
    """

    phase: str
    items: str
    done: int
    total: int
    done_bytes: int
    total_bytes: int
    seconds: float
    last: bool


Listener = Callable[[Progress], object]
"""Called on the thread that called the function, between two turns of waiting. An exception that it raises ends the job."""

ProgressArgument = Union[Listener, bool, Literal["auto"], None]


class TqdmBars:
    """A bar for each phase, as text or in a notebook."""

    def __init__(self, tqdm: Any) -> None:
        self._tqdm = tqdm
        self._bar: Any = None
        self._phase = ""

    def __call__(self, state: Progress) -> None:
        if self._bar is None or self._phase != state.phase:
            self.close()
            self._bar, self._phase = self._tqdm(total=state.total, desc=state.phase, unit=" " + state.items), state.phase
        self._bar.update(state.done - self._bar.n)
        if state.last:
            self.close()

    def close(self) -> None:
        if self._bar is not None:
            self._bar.close()
        self._bar = None


def _bars(is_wanted: bool) -> TqdmBars | None:
    try:
        from tqdm.auto import tqdm
    except ImportError:
        if is_wanted:
            raise ImportError("progress=True shows bars of tqdm: pip install tqdm, or pass a function") from None
        return None
    return TqdmBars(tqdm)


def listener(argument: ProgressArgument) -> Listener | None:
    """@raises ImportError for True where tqdm is missing; "auto" then shows nothing, nor where nobody would see it"""
    if argument is None or argument is False:
        return None
    if argument is True:
        return _bars(True)
    if argument == "auto":
        in_notebook = "ipykernel" in sys.modules
        return _bars(False) if in_notebook or (sys.stderr is not None and sys.stderr.isatty()) else None
    return argument

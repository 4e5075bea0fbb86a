"""What the functions return. Results are values; nothing in them changes."""
from __future__ import annotations

import csv
import pathlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import pandas as pd


@dataclass(frozen=True)
class MergedCheckpoint:
    """folder: a checkpoint; omega: of AIM, None where there is not one for the whole model."""

    folder: pathlib.Path
    omega: float | None


@dataclass(frozen=True)
class Merged:
    """What `merge` and `relax` wrote.

    checkpoints: one, or one for each omega, in the order of the config; none after a dry run
    bytes: of each checkpoint; seconds: of the last document
    coverage: what AIM relaxed; None without AIM, or when an earlier call did the work
    """

    checkpoints: tuple[MergedCheckpoint, ...]
    bytes: int
    seconds: float
    coverage: Mapping[str, Any] | None


@dataclass(frozen=True)
class Plan:
    """documents: of each document of a config what `aimerge plan --json` prints; table: what it prints without --json (str(plan))."""

    documents: tuple[Mapping[str, Any], ...]
    table: str

    def __str__(self) -> str:
        return self.table


@dataclass(frozen=True)
class Calibration:
    """log: the statistics, for `statistics` and for `aim: {statistics: ...}` of a config.

    source: "measured" now; "cached": by an earlier job; "present": the log was there already; None after a dry run
    """

    log: pathlib.Path
    source: Literal["measured", "cached", "present"] | None


@dataclass(frozen=True)
class TaskScore:
    """metric: "exact_match", "acc" or "acc_norm" (0 to 1), or "perplexity" (from 1 on); stderr: standard error of the score."""

    task: str
    metric: str
    score: float
    stderr: float
    items: int


@dataclass(frozen=True)
class Evaluation:
    """tokens: run through the model; seconds: of that pass; samples: the result of each item, where asked for."""

    model: str
    dtype: str
    tasks: tuple[TaskScore, ...]
    tokens: int
    seconds: float
    samples: tuple[Mapping[str, Any], ...] = field(default=(), repr=False)

    def frame(self) -> pd.DataFrame:
        """A row per task: columns task, metric, score, stderr, items. @raises ImportError without pandas"""
        columns = ("task", "metric", "score", "stderr", "items")
        return _pandas().DataFrame([[getattr(task, name) for name in columns] for task in self.tasks], columns=columns)


@dataclass(frozen=True)
class Sweep:
    """folder: of points.csv, with a row per model; table: of scores, or of what a dry run would do.

    tried, failed: points of this call
    """

    folder: pathlib.Path
    table: str
    tried: int
    failed: int

    def rows(self) -> list[dict[str, str]]:
        """points.csv, as text. @raises FileNotFoundError when nothing has been done yet"""
        with open(self.folder / "points.csv", encoding="utf-8", newline="") as file:
            return list(csv.DictReader(file))

    def frame(self) -> pd.DataFrame:
        """points.csv: a row per model, a column per task. @raises ImportError without pandas"""
        frame: pd.DataFrame = _pandas().read_csv(self.folder / "points.csv")
        return frame


@dataclass(frozen=True)
class Finding:
    """file: relative to the folder; tensor: empty when it concerns the whole file; bytes: begin and end in it, where known."""

    file: str
    tensor: str
    text: str
    bytes: tuple[int, int] | None


@dataclass(frozen=True)
class Verification:
    """What was checked: numbers of files and tensors, and bytes. notices: worth knowing, no damage."""

    files: int
    tensors: int
    bytes: int
    notices: tuple[str, ...]
    findings: tuple[Finding, ...]


@dataclass(frozen=True, eq=False)
class ModuleStatistics:
    """The input x of one module, over the tokens that came to it.

    mean_abs, rms, max_abs: mean |x|, sqrt(mean x^2), max |x|; float32 [in_features], or [experts, in_features] of fused experts
    tokens: of fused experts the sum of expert_tokens; expert_tokens: int64 [experts], empty for a plain module
    input_axis: of the stored weight, counted from its end: -1 ([out, in]) or -2 ([in, out])
    """

    mean_abs: npt.NDArray[np.float32]
    rms: npt.NDArray[np.float32]
    max_abs: npt.NDArray[np.float32]
    tokens: int
    expert_tokens: npt.NDArray[np.int64]
    input_axis: int

    @property
    def importance(self) -> npt.NDArray[np.float32]:
        """AIM's A = mean |x| / max of it, in [0, 1]; shape of mean_abs; zeros where the maximum is 0."""
        import numpy as np
        largest = self.mean_abs.max(axis=-1, keepdims=True)
        a: npt.NDArray[np.float32] = np.divide(self.mean_abs, largest, out=np.zeros_like(self.mean_abs), where=largest > 0)
        return a


@dataclass(frozen=True, eq=False)
class Statistics:
    """origin: the model, the text and when; modules: by name, such as "model.layers.0.self_attn.q_proj"."""

    origin: Mapping[str, Any]
    modules: Mapping[str, ModuleStatistics]


def _pandas() -> Any:
    try:
        import pandas
    except ImportError:
        raise ImportError("frames need pandas: pip install pandas; without it there are .tasks and .rows()") from None
    return pandas

"""aimerge: merges fine-tuned language models, with Activation-Informed Merging.

The functions correspond to commands (`python -m aimerge --help`), with the same checks, messages and bytes, except `statistics`,
which reads a log. They run on threads of the engine; the calling thread waits without the interpreter's lock, so that several
threads can run several jobs. What the engine says goes to the logger "aimerge".
"""
from __future__ import annotations

from . import _engine
from ._functions import calibrate, evaluate, inspect, merge, plan, relax, statistics, sweep, verify
from ._held import HeldMerge
from .errors import DamageFound, Error, InputError, Interrupted, RuntimeFault, UsageError
from .progress import Progress
from .results import (Calibration, Evaluation, Finding, Merged, MergedCheckpoint, ModuleStatistics, Plan, Statistics, Sweep,
                      TaskScore, Verification)

__version__ = _engine.version()

__all__ = ["Calibration", "DamageFound", "Error", "Evaluation", "Finding", "HeldMerge", "InputError", "Interrupted", "Merged",
           "MergedCheckpoint", "ModuleStatistics", "Plan", "Progress", "RuntimeFault", "Statistics", "Sweep", "TaskScore",
           "UsageError", "Verification", "calibrate", "evaluate", "inspect", "merge", "plan", "relax", "statistics", "sweep",
           "verify"]

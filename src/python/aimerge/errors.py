"""Exceptions by kind. Each has the line that the command line prints for it."""
from __future__ import annotations


class Error(Exception):
    """What the engine says of a call that it could not carry out: file and key, expected and found, what to do.

    result: what was found all the same: a `Verification` of `verify`, a `Sweep` of `sweep`; else None.
    """

    def __init__(self, message: str, result: object = None) -> None:
        super().__init__(message)
        self.result = result


class UsageError(Error):
    """A config or arguments that cannot be used (exit code 2 of the command line)."""


class InputError(Error):
    """A checkpoint, corpus or statistics file that cannot be used (3)."""


class RuntimeFault(Error):
    """A fault while running: I/O, memory (4)."""


class DamageFound(Error):
    """A checkpoint is not whole or has changed (6)."""


class Interrupted(Error):
    """Stopped in a state that the same call continues from (75). Ctrl-C raises KeyboardInterrupt instead."""


BY_EXIT_CODE: dict[int, type[Error]] = {2: UsageError, 3: InputError, 4: RuntimeFault, 6: DamageFound, 75: Interrupted}

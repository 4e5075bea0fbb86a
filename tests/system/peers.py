"""What the tests compare with: torch, transformers, peft, mergekit. They have no wheel for Python 3.10 (Ubuntu 22.04); what needs them is skipped there.

Each takes seconds to import: `from peers import torch` imports that one alone, and none where the tests are skipped.
"""
import importlib
import importlib.util
import unittest

from aimerge_command import ON_GPU, why_no_gpu

PEERS = ("peft", "torch", "transformers")


def why_not(names):
    """Why tests that need these modules are skipped; None where they are not."""
    if reason := ON_GPU and why_no_gpu():
        return reason
    missing = next((name for name in names if importlib.util.find_spec(name) is None), None)
    return missing and f"there is no Python module {missing}; launch/setup.sh --test installs it where there is a wheel"


def needs(*names):
    reason = why_not(names)
    return unittest.skip(reason) if reason else lambda test: test


needs_peers = needs(*PEERS)
needs_mergekit = needs("mergekit", *PEERS)
_SKIPPED = why_not(PEERS) is not None


def __getattr__(name):
    if name not in PEERS:
        raise AttributeError(name)
    return None if _SKIPPED else importlib.import_module(name)

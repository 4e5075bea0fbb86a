"""What the tests compare with: torch, transformers, peft, mergekit. They have no wheel for Python 3.10 (Ubuntu 22.04); what needs them is skipped there."""
import unittest

try:
    import peft
    import torch
    import transformers
except ImportError as error:
    peft = torch = transformers = None
    needs_peers = unittest.skip(f"{error}; launch/setup.sh --test installs it where there is a wheel")
else:
    needs_peers = lambda test: test

try:
    import mergekit
except ImportError as error:
    needs_mergekit = unittest.skip(f"{error}; launch/setup.sh --test installs it where there is a wheel")
else:
    needs_mergekit = needs_peers

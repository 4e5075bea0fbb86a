"""The command line: python -m aimerge merge CONFIG OUT."""
from __future__ import annotations

import os
import sys

from . import _libraries

if __name__ == "__main__":
    if _libraries.missing:
        folders = [str(folder) for folder in _libraries.missing]
        os.environ["LD_LIBRARY_PATH"] = ":".join([*filter(None, [os.environ.get("LD_LIBRARY_PATH")]), *folders])
    os.execv(_libraries.PROGRAM, ["aimerge", *sys.argv[1:]])

"""README.md and docs/*.md name what is there: links, files, commands, options; and src/tools/check_docs.py finds what is not."""
import json
import os
import pathlib
import re
import subprocess
import sys
import tempfile
import unittest

ROOT = pathlib.Path(__file__).resolve().parents[2]
BINARY = os.environ["AIMERGE_BINARY"]

README = """# Small

[there](docs/page.md#a-heading-with-code) [nowhere](docs/none.md) [no heading](docs/page.md#none)

`configs/there.yaml` and `configs/none.yaml`, `configs/*.yaml` and `src/*.cpp`;
`configs/{there,neither}.yaml`

    build/aimerge merge configs/there.yaml --out merged/ --outt x    # --no-option of a comment
    mpirun -n 2 build/aimerge mergee configs/there.yaml
    diff a b

1. A list with `aimerge plan CONFIG --json` and `aimerge relax
   MERGED --json --no-relax`, and `--no-such` alone.

This line of prose has more than a hundred columns: it goes on and on and on and on, and on, until here.

| command | seconds | times |
| --- | ---: | ---: |
| same | 1.5 | 2 |
| other | 1.5 | 3 |

It has 7 merge methods, `aimerge methods` says another number; a message: `of aimerge than rank 0`.

`there_test`, `no_test`, `system.test_there`, `gpu.test_there`, `test_there`, `test_none`.
`aimerge_1.2.3_amd64.deb` and `aimerge-1.2.2-linux-x86_64.tar.gz`. It takes 90 seconds, 4.5 GB, half
a minute or four minutes.
"""
PAGE = """# Page

<!-- not in the repository: configs/example.yaml -->
`configs/example.yaml`

## A heading with `code`

| message | cause |
| --- | --- |
| `aimerge replaces a folder` | no command, a message |

| same | 1.5 | 2 |
"""
BENCHMARKS = """| same | 1.5 | 2 |
| four minutes |

## The demo

| what | figure |
| --- | --- |
| all | 90 seconds |
| some | half a minute |

## Others

| more | 4.5 GB |
"""
TESTS = """aimerge_test(there_test SOURCES there_test.cpp)
# aimerge_test(no_test SOURCES no_test.cpp)
aimerge_system_test(test_there KINDS system arm64 TIMEOUT 60)
"""
METHODS = [method["name"] for method in json.loads(subprocess.run([BINARY, "methods", "--json"], check=True, text=True, capture_output=True).stdout)]
METHODS_PAGE = "\n".join(["# Methods", "### " + ", ".join(set(METHODS) - {"slerp"}), *(f"| sums | `{name}` |" for name in METHODS if name != "ties")])
BROKEN = [
    "README.md:3: the link docs/none.md leads to no file",
    "README.md:3: the link docs/page.md#none leads to no heading",
    "README.md:5: there is no configs/none.yaml",
    "README.md:5: there is no src/*.cpp",
    "README.md:6: there is no configs/neither.yaml",
    "README.md:8: aimerge merge has no option --outt",
    "README.md:9: there is no command aimerge mergee",
    "README.md:12: aimerge relax has no option --no-relax",
    "README.md:13: no program has the option --no-such",
    "README.md:15: 104 columns, at most 100",
    "README.md:20: these figures are not in docs/benchmarks.md",
    f"README.md:22: 7 merge methods; aimerge methods lists {len(METHODS)}",
    "README.md:24: there is no test no_test",
    "README.md:24: there is no test gpu.test_there",
    "README.md:24: there is no test test_none",
    "README.md:25: version 1.2.2; CMakeLists.txt has 1.2.3",
    'README.md:25: 4.5 GB is not in the section "The demo" of docs/benchmarks.md',
    'README.md:26: four minutes is not in the section "The demo" of docs/benchmarks.md',
    "docs/methods.md:1: the method slerp is not in a heading",
    "docs/methods.md:1: the method ties is not in a table",
    "docs/CITATION.cff: version 1.2.4; CMakeLists.txt has 1.2.3",
]


def check(root):
    return subprocess.run([sys.executable, ROOT / "src/tools/check_docs.py", "--root", root, "--aimerge", BINARY],
                          capture_output=True, text=True, check=False)


class Docs(unittest.TestCase):
    def test_docs_agree_with_the_repository(self):
        checked = check(ROOT)

        self.assertEqual((checked.returncode, checked.stderr), (0, ""), checked.stdout)

    def test_the_example_method_of_contributing_is_the_one_that_is_built(self):
        page = (ROOT / "docs/contributing.md").read_text()
        built = (ROOT / "tests/merge/example_method_test.cpp").read_text()

        pieces = re.findall(r"^```cpp\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)

        self.assertEqual(len(pieces), 5)
        for piece in pieces:
            self.assertIn(piece, built)

    def test_what_is_not_there_is_found(self):
        with tempfile.TemporaryDirectory() as name:
            root = pathlib.Path(name)
            for folder in ("docs", "configs", "src", "tests/there"):
                (root / folder).mkdir(parents=True)
            (root / "README.md").write_text(README)
            (root / "docs/page.md").write_text(PAGE)
            (root / "docs/benchmarks.md").write_text(BENCHMARKS)
            (root / "docs/methods.md").write_text(METHODS_PAGE)
            (root / "docs/CITATION.cff").write_text("title: Small\nversion: 1.2.4\n")
            (root / "CMakeLists.txt").write_text("project(aimerge VERSION 1.2.3 LANGUAGES CXX)\n")
            (root / "tests/there/CMakeLists.txt").write_text(TESTS)
            (root / "configs/there.yaml").touch()

            checked = check(root)

        self.assertEqual(checked.returncode, 1, checked.stderr)
        self.assertEqual(sorted(checked.stdout.splitlines()), sorted(BROKEN))


if __name__ == "__main__":
    unittest.main()

"""docs/troubleshooting.md quotes messages as the program prints them."""
import pathlib
import re
import unittest

ROOT = pathlib.Path(__file__).resolve().parents[2]
FOREIGN = {"mpirun has detected an attempt to run as root", "There are not enough slots available", "No space left on device",
           "libcudart.so.13: cannot open shared object file", "ORTE has lost communication with a remote daemon",
           "mpirun: abort is already in progress", "Read -1, expected …, errno = 1", "Segmentation fault"}


def printed_texts():
    """All string literals of the sources, neighbours joined as the compiler joins them, with … where a value is put in."""
    texts = []
    for path in [*(ROOT / "src").rglob("*.cpp"), *(ROOT / "src").rglob("*.h"), *(ROOT / "include").rglob("*.h"),
                 *(ROOT / "src/tools").glob("*.py"), *(ROOT / "src/python/aimerge").glob("*.py"), ROOT / "src/tools/mergekit-yaml", *(ROOT / "launch").glob("*.sh")]:
        source = re.sub(r"//[^\"\n]*$", "", path.read_text(encoding="utf-8"), flags=re.MULTILINE)
        source = re.sub(r"(?<!\\)\"\s*\n\s*f?\"", "", source)
        texts.append(re.sub(r"\{[^{}\n]*\}|\$\{?\w+(\[\*\]\})?", "…", source.replace('\\"', '"')))
    return "\n".join(texts)


class Troubleshooting(unittest.TestCase):
    def test_every_quoted_message_is_one_of_the_program(self):
        printed, checked = printed_texts(), 0
        for line in (ROOT / "docs/troubleshooting.md").read_text(encoding="utf-8").splitlines():
            quoted = re.match(r"\| `([^`]+)` \|", line)
            if not quoted or quoted[1] in FOREIGN:
                continue
            for part in quoted[1].split("…"):
                self.assertIn(part.removeprefix("setup: ").strip(" '"), printed, line)
            checked += 1
        self.assertGreater(checked, 40)


if __name__ == "__main__":
    unittest.main()

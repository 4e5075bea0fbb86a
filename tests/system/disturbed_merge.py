"""What tests share that disturb a merge over and over: the merge, what it makes undisturbed, and what must be true afterwards.

AIMERGE_FAULT_TRIALS says how often each disturbs it (default 10).
"""
import os
import shutil

from aimerge_command import AimergeTest, file_bytes

TRIALS = int(os.environ.get("AIMERGE_FAULT_TRIALS", "10"))
LIBRARY = os.environ["AIMERGE_FAIL_IO"]


class DisturbedMerge(AimergeTest):
    """`self.work` holds nothing but the output `self.out` and what belongs to it. The config has omega 0.4 and 1.0."""

    def prepare(self, config):
        self.merge = self.config(config)
        self.work = self.folder / "work"
        self.work.mkdir()
        self.out = self.work / "out"
        self.aimerge("merge", self.merge, "--out", self.folder / "whole", "--threads", 1)
        self.whole = self.bytes_of(self.folder / "whole")

    def bytes_of(self, out):
        return {point: file_bytes(out / point, ("*.safetensors", "*.index.json", "tokenizer*", "config.json")) for point in ("omega-0.4", "omega-1.0")}

    def names(self):
        return {path.name for path in self.work.iterdir()}

    def clear(self):
        for left in self.work.iterdir():
            shutil.rmtree(left) if left.is_dir() else left.unlink()

    def check_afterwards(self, what):
        """Absent or whole; after the same command again whole."""
        self.assertLessEqual(self.names(), {"out", "out.partial", "out.partial.lock"}, what)
        if self.out.exists():  # what went wrong came after it was put in place
            self.aimerge("verify", self.out)
        else:
            self.aimerge("merge", self.merge, "--out", self.out, "--threads", 1)
            self.assertEqual(self.names(), {"out"}, what)
        self.assertEqual(self.bytes_of(self.out), self.whole, what)
        self.clear()

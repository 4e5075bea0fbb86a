"""A merge with its calibration, on a slow disk, is killed or told to end at moments spread over its whole run: the output is absent
or whole, nothing lies beside it, and a rerun has the same bytes."""
import itertools
import os
import pathlib
import random
import shutil
import signal
import subprocess
import time
import unittest

from aimerge_command import BINARY, environment, launcher, ranks_of
from disturbed_merge import LIBRARY, TRIALS, DisturbedMerge

SLOWNESS = 8_000  # microseconds of a write: the merge takes as long as the calibration


class Kills(DisturbedMerge):
    def setUp(self):
        super().setUp()
        self.prepare(self.merge_config("dare_ties", omega=[0.4, 1.0], parameters={"density": 0.5}))

    def start(self, ranks):
        # Its own session: what mpirun gets on its way out is not for the test.
        slow = environment(self.cache, LD_PRELOAD=LIBRARY, FAIL_IO_UNDER=str(self.work), FAIL_IO_SLOW=str(SLOWNESS))
        return subprocess.Popen([*launcher(ranks), BINARY, "merge", self.merge, "--out", self.out, "--threads", "1"], cwd=self.folder,
                                stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=slow, start_new_session=True)

    def duration(self, ranks):
        """Of an undisturbed run with nothing in the cache."""
        self.cache = self.folder / f"cache-{ranks}"
        began = time.monotonic()
        process = self.start(ranks)
        _, errors = process.communicate(timeout=60)
        self.assertEqual(process.returncode, 0, errors)
        shutil.rmtree(self.out)
        return time.monotonic() - began

    def hit(self, process, number, ranks):
        """One of the ranks, or all by way of mpirun."""
        children = ranks_of(process) if ranks else []
        if children and number == signal.SIGKILL:
            os.kill(children[-1], number)
        else:
            process.send_signal(number)

    def wait_for_all(self, process):
        """mpirun may end before the ranks that it was just starting."""
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            sessions = set()
            for status in pathlib.Path("/proc").glob("[0-9]*/stat"):
                try:
                    sessions.add(int(status.read_text().rsplit(")", 1)[1].split()[3]))
                except (FileNotFoundError, ProcessLookupError):
                    continue
            if process.pid not in sessions:
                return
            time.sleep(0.05)
        self.fail("a process of the job is still there")

    def state(self):
        if self.out.exists():
            return "published"
        if any(self.work.glob("out.partial/journal-*")):
            return "merging"
        return "opened" if (self.work / "out.partial").exists() else "before"

    def test_at_any_moment(self):
        durations = {ranks: self.duration(ranks) for ranks in (0, 2)}
        states = set()
        for trial, number in itertools.product(range(TRIALS), (signal.SIGKILL, signal.SIGTERM)):
            draws = random.Random(f"{trial} {number.name}")
            ranks = draws.choice((0, 2))
            moment = durations[ranks] * (trial + draws.random()) / TRIALS
            self.cache = self.folder / f"cache-of-{trial}-{number.name}"
            with self.subTest(trial=trial, ranks=ranks, signal=number.name, moment=round(moment, 3)):
                process = self.start(ranks)
                time.sleep(moment)
                if process.poll() is None:
                    self.hit(process, number, ranks)
                _, errors = process.communicate(timeout=60)
                self.wait_for_all(process)
                states.add(self.state())
                if not self.out.exists():
                    self.assertNotEqual(process.returncode, 0, errors)
                self.check_afterwards(errors)
            self.clear()
        self.assertLessEqual({"opened", "merging"}, states)


if __name__ == "__main__":
    unittest.main()

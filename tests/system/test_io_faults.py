"""Calls on files that fail at the n-th time: the output is absent or whole, nothing lies beside it, and a rerun has the same bytes.

A preloaded library (fail_io.c) lets one call fail; AIMERGE_FAULT_TRIALS calls of each kind are hit, spread over all.
"""
import errno
import os
import re
import shutil
import unittest
from pathlib import Path

import numpy as np

from aimerge_command import GOLDENS, read_folder
from disturbed_merge import LIBRARY, TRIALS, DisturbedMerge


class IoFaults(DisturbedMerge):
    def setUp(self):
        super().setUp()
        self.log = self.folder / "stats.h5"
        self.aimerge("calibrate", self.config(self.merge_config(omega=0.4)), "--out", self.log)
        config = self.merge_config("ties", parameters={"density": 0.5})
        config["aim"] = {"omega": [0.4, 1.0], "statistics": str(self.log)}
        self.prepare(config)

    def run_with(self, call, number, error, under, expect):
        return self.aimerge("merge", self.merge, "--out", self.out, "--threads", 2, expect=expect, LD_PRELOAD=LIBRARY,
                            FAIL_IO=f"{call}:{number}:{error}", FAIL_IO_UNDER=str(under), FAIL_IO_COUNT="1")

    def calls_of(self, call, under):
        """How many there are in an undisturbed run."""
        result = self.run_with(call, 0, 0, under, 0)
        shutil.rmtree(self.out)
        return int(re.search(r"FAIL_IO calls (\d+)", result.stderr)[1])

    def numbers(self, calls):
        self.assertGreater(calls, 0)
        return sorted({int(n) for n in np.linspace(1, calls, min(TRIALS, calls)).round()})

    def hit(self, call, error, under):
        for number in self.numbers(self.calls_of(call, under)):
            what = f"call {number} of {call} fails: {os.strerror(error)}"
            self.clear()  # of what a trial that failed has left
            with self.subTest(what):
                result = self.run_with(call, number, error, under, expect=None)
                if call == "open" and result.returncode == 0:  # HDF5 looks whether the file it makes is there
                    self.check_afterwards(what)
                    continue
                self.assertIn(result.returncode, (2, 3, 4), f"{what}\n{result.stderr}")
                said = [line for line in result.stderr.splitlines() if line.startswith("aimerge: ")]
                self.assertEqual(len(said), 1, result.stderr)
                # Of a file that it cannot open, HDF5 says that it is none of its own.
                self.assertRegex(said[0], f"(?i){os.strerror(error)}|aimerge_statistics.h5: ")
                self.check_afterwards(what)

    def test_the_disk_is_full(self):
        self.hit("pwrite", errno.ENOSPC, self.work)

    def test_the_disk_is_damaged(self):
        self.hit("pwrite", errno.EIO, self.work)
        self.hit("fsync", errno.EIO, self.work)
        self.hit("pread", errno.EIO, GOLDENS)

    def test_the_file_system_became_read_only(self):
        for call in ("rename", "ftruncate"):
            self.hit(call, errno.EROFS, self.work)

    def test_no_more_files_may_be_open(self):
        for under in (self.work, GOLDENS):
            self.hit("open", errno.EMFILE, under)

    def test_calls_that_move_a_part_go_on(self):
        for call, under in (("pwrite", self.work), ("pread", GOLDENS)):
            for number in self.numbers(self.calls_of(call, under)):
                self.run_with(call, number, "short", under, expect=0)
                self.assertEqual(self.bytes_of(self.out), self.whole, f"call {number} of {call}")
                shutil.rmtree(self.out)

    def test_every_way_of_reading_has_the_same_bytes_and_errors(self):
        ways = {"past the page cache": {"FAIL_IO_COLD": "1"}, "through the page cache": {"FAIL_IO_COLD": "1", "FAIL_IO_NO_DIRECT": "1"}}
        plain = self.merge_config("task_arithmetic")
        plain["aim"] = {"omega": [0.4, 1.0], "statistics": str(self.log)}
        for config in (self.merge, self.config(plain)):  # parameters that are read twice, and once
            self.aimerge("merge", config, "--out", self.out, "--threads", 1, "--read-ahead", 0)
            whole = self.bytes_of(self.out)
            self.clear()
            for way, environment in ways.items():
                for memory in ("1KB", "64MB"):
                    with self.subTest(f"{way}, {memory}"):
                        log = self.aimerge("merge", config, "--out", self.out, "--threads", 2, "--read-ahead", memory, "--log-level", "debug",
                                           LD_PRELOAD=LIBRARY, FAIL_IO_UNDER=str(GOLDENS), **environment).stderr
                        direct, cached = re.search(r"read ahead (.*) past the page cache, (.*) through it", log).groups()
                        self.assertNotEqual((direct, cached), ("0 B", "0 B"))
                        if way == "through the page cache":
                            self.assertEqual(direct, "0 B")
                        self.assertEqual(self.bytes_of(self.out), whole)
                        self.clear()
                with self.subTest(f"{way}, damaged"):
                    self.whole, self.merge = whole, config
                    result = self.aimerge("merge", config, "--out", self.out, "--threads", 2, expect=3, LD_PRELOAD=LIBRARY,
                                          FAIL_IO=f"pread:{self.headers(config)}:{errno.EIO}+", FAIL_IO_UNDER=str(GOLDENS), **environment)
                    said = [line for line in result.stderr.splitlines() if line.startswith("aimerge: ")]
                    self.assertEqual(len(said), 1, result.stderr)
                    self.assertRegex(said[0], r"model.*\.safetensors: reading \d+ bytes at offset \d+ failed: " + os.strerror(errno.EIO))
                    self.check_afterwards(f"{way}, damaged")

    def test_what_is_read_several_times_comes_from_the_disk_once(self):
        merge = self.merge_config("ties", parameters={"density": 0.5})
        models = [merge["base_model"], *(model["model"] for model in merge["models"])]
        stored = sum(len(content) for model in models for _, _, content in read_folder(model).values())
        cold = {"LD_PRELOAD": LIBRARY, "FAIL_IO_UNDER": str(GOLDENS), "FAIL_IO_COLD": "1"}
        sweep = {"base_model": models[0], "experts": {Path(model).name: model for model in models[1:]}, "omega": [1.0],
                 "methods": ["task_arithmetic", {"merge_method": "ties", "parameters": {"density": 0.5}}], "output": {"directory": str(self.out)}}
        for command, document, options in (("merge", merge, ("--out", self.out)), ("sweep", sweep, ())):
            with self.subTest(command):
                made = {}
                for environment in ({}, cold):
                    log = self.aimerge(command, self.config(document), *options, "--log-level", "debug", **environment).stderr
                    made[bool(environment)] = {path.relative_to(self.out): path.read_bytes() for path in self.out.rglob("*.safetensors")}
                    shutil.rmtree(self.out)
                self.assertTrue(made[True])
                self.assertEqual(made[True], made[False])
                read = re.findall(r"read ahead (\S+) (\S+) past the page cache, 0 B through it", log)
                self.assertEqual(len(read), 1, log)
                number, unit = read[0]
                self.assertAlmostEqual(float(number) * {"KB": 1e3, "kB": 1e3, "MB": 1e6}[unit] / stored, 1, delta=0.01)

    def headers(self, config):
        """A call of pread that comes after the headers have been read."""
        result = self.aimerge("merge", config, "--dry-run", "--out", self.out, LD_PRELOAD=LIBRARY, FAIL_IO="pread:0:0", FAIL_IO_COUNT="1",
                              FAIL_IO_UNDER=str(GOLDENS))
        return int(re.search(r"FAIL_IO calls (\d+)", result.stderr)[1]) + 1


if __name__ == "__main__":
    unittest.main()

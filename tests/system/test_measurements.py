"""What a job took: the table at its end, --json, the log files of the ranks."""
import json
import re
import unittest

from aimerge_command import AimergeTest


class Measurements(AimergeTest):
    def merge(self, *options, **keywords):
        return self.aimerge("merge", self.config(self.merge_config("ties", omega=0.4)), "--out", self.folder / "out", *options,
                            **keywords)

    def test_json_has_every_phase_and_rank(self):
        told = json.loads(self.merge("--json", ranks=2).stdout)
        phases = {phase["phase"]: phase for phase in told["phases"]}
        self.assertEqual(list(phases), ["prepare", "calibrate", "merge", "publish"])
        written = sum(path.stat().st_size for path in (self.folder / "out").glob("*.safetensors"))
        self.assertAlmostEqual(phases["merge"]["bytes_written"], written, delta=10_000)  # but for the headers
        self.assertEqual(phases["merge"]["bytes_read"], 3 * phases["merge"]["bytes_written"])  # float32 like the output
        self.assertEqual(phases["calibrate"]["tokens"], 8 * 64)
        for phase in phases.values():
            self.assertGreater(phase["seconds"], 0)
            self.assertTrue(0 <= phase["idle_share"] < 1, phase)
        self.assertEqual([rank["rank"] for rank in told["ranks"]], [0, 1])
        for rank in told["ranks"]:
            self.assertEqual(rank["device"], "CPU")
            self.assertGreater(rank["peak_memory_bytes"], 10_000_000)

    def test_the_table_is_on_standard_error(self):
        said = self.merge(ranks=2).stderr
        for line in (r"phase +time +read +written +rate +tokens/s +idle +slowest", r"calibrate .* rank [01]", r"merge .*B/s .*%",
                     r"rank 1: .*, CPU, at most .* of memory"):
            self.assertRegex(said, line)

    def test_nothing_is_said_of_a_dry_run_or_at_a_higher_level(self):
        self.assertNotIn("slowest", self.merge("--dry-run").stderr)
        self.assertNotIn("slowest", self.merge("--log-level", "warn").stderr)

    def test_every_rank_has_a_log_file_to_which_runs_append(self):
        logs = self.folder / "logs"
        self.merge("--log-dir", logs, ranks=2)
        self.merge("--log-dir", logs, ranks=2, expect=2)  # the output is there already
        self.assertEqual(sorted(path.name for path in logs.iterdir()), ["rank-0000.log", "rank-0001.log"])
        for rank, path in enumerate(sorted(logs.iterdir())):
            lines = path.read_text().splitlines()
            for line in lines:
                self.assertRegex(line, rf"^20\d\d-\d\d-\d\dT\d\d:\d\d:\d\d\.\d+[+-]\d\d:\d\d \[rank {rank} of 2, \S+, CPU\] (debug|info|warning): ")
            text = path.read_text()
            self.assertRegex(text, r"merge: ends after \d+\.\d+ s")
            ends = [line for line in lines if re.search(r"info: done$|already exists|exists", line)]
            self.assertTrue(ends[0].endswith("info: done"), text)
            self.assertIn("out", lines[-1])

    def test_a_log_folder_that_cannot_be_made(self):
        (self.folder / "file").write_text("")
        failed = self.merge("--log-dir", self.folder / "file/logs", expect=4)
        self.assertIn("--log-dir", failed.stderr)


if __name__ == "__main__":
    unittest.main()

"""What clusters do to a job beside breaking it: file systems without locks, logs that take nothing, another MPI's launcher, machines that do
not see the same."""
import os
import pathlib
import re
import shutil
import signal
import subprocess
import time
import unittest

from aimerge_command import BINARY, GOLDENS, AimergeTest, environment, file_bytes, launcher

NO_LOCKS = os.environ.get("AIMERGE_NO_LOCKS", "")
FAMILY = pathlib.Path(os.environ["AIMERGE_FAMILY"])


class ClusterTest(AimergeTest):
    def setUp(self):
        super().setUp()
        self.out = self.folder / "out"
        self.plain = self.config(self.merge_config())

    def expected(self):
        self.aimerge("merge", self.plain, "--out", self.folder / "expected", "--overwrite")
        return file_bytes(self.folder / "expected")

    def shell(self, script, expect=0, ranks=0, **variables):
        """The script has the binary as $1 and the config as $2."""
        result = subprocess.run([*launcher(ranks), "bash", "-c", "ulimit -c 0; " + script, "-", BINARY, self.plain], cwd=self.folder, text=True,
                                capture_output=True, timeout=120, env=environment(self.cache, **variables))
        self.assertEqual(result.returncode, expect, result.stderr)
        return result


class WithoutLocks(ClusterTest):
    def without_locks(self, *arguments, error=38, **keywords):
        return self.aimerge(*arguments, LD_PRELOAD=NO_LOCKS, NO_LOCKS=str(error), **keywords)

    def test_a_merge(self):
        want = self.expected()
        for error in (38, 37, 95, 524):  # ENOSYS, ENOLCK, EOPNOTSUPP, ENOTSUPP
            with self.subTest(error=error):
                said = self.without_locks("merge", self.plain, "--out", self.out, "--overwrite", error=error).stderr
                self.assertEqual(said.count("the file system has no locks"), 1, said)
                self.assertEqual(file_bytes(self.out), want)
                self.assertEqual(sorted(path.name for path in self.folder.glob("out*")), ["out"])

    def test_a_second_job_is_kept_out(self):
        slow = environment(self.cache, LD_PRELOAD=f"{NO_LOCKS}:{os.environ['AIMERGE_FAIL_IO']}", NO_LOCKS="38", FAIL_IO_SLOW="20000",
                           FAIL_IO_UNDER=str(self.out))
        first = subprocess.Popen([BINARY, "merge", self.plain, "--out", self.out], cwd=self.folder, stderr=subprocess.DEVNULL, env=slow)
        holder = self.folder / "out.partial.lock.holder"
        while not (holder.exists() and holder.read_text().endswith("\n")):
            self.assertIsNone(first.poll(), "ended too soon")
        second = self.without_locks("merge", self.plain, "--out", self.out, expect=2).stderr
        self.assertRegex(second, rf"another job is writing this output: host .*, pid {first.pid}, since .*aimerge merge")
        first.kill()
        first.wait()
        self.assertTrue(holder.exists())
        third = self.without_locks("merge", self.plain, "--out", self.out, expect=2).stderr
        self.assertIn("another job is writing this output", third)  # it may live on another machine
        long_ago = time.time() - 60
        os.utime(holder, (long_ago, long_ago))
        self.without_locks("merge", self.plain, "--out", self.out)
        self.assertEqual(file_bytes(self.out), self.expected())
        self.assertEqual(sorted(path.name for path in self.folder.glob("out*")), ["out"])

    def test_a_sweep_and_its_statistics_log(self):
        config = {"base_model": str(GOLDENS / "family_f32/base"), "dtype": "float32", "experts": {"a": str(GOLDENS / "family_f32/expert_a")},
                  "combinations": [["a"]], "methods": [{"merge_method": "task_arithmetic", "parameters": {"weight": 1.0}}], "omega": [0.4, 1.0],
                  "aim": {"calibration": {"token_ids": str(self.blocks()), "sequences": 8, "dtype": "float32"}},
                  "output": {"directory": "sweep", "keep": "checkpoints"}}
        self.without_locks("sweep", self.config(config, "sweep.yaml"))
        journal = (self.folder / "sweep" / "journal").read_text()
        self.assertEqual(len(re.findall(r'"status":"done"', journal)), 2, journal)
        self.assertFalse(list((self.folder / "sweep").rglob("*.holder")) + list((self.folder / "sweep").rglob("*.turn")))
        log = next((self.folder / "sweep").glob("*.h5"))
        for error in (37, 524):
            self.assertIn("max mean|x|", self.without_locks("inspect", log, error=error).stdout)


class WhatCannotBeSaid(ClusterTest):
    def test_standard_error_that_takes_nothing(self):
        want = self.expected()
        for where in ("2>/dev/full", "2>&-", "<&- >&- 2>&-"):
            for ranks in (0, 2):
                with self.subTest(where=where, ranks=ranks):
                    self.shell(f'exec "$1" merge "$2" --out {self.out} --overwrite --progress plain {where}', ranks=ranks)
                    self.assertEqual(file_bytes(self.out), want)
        self.shell('exec "$1" merge "$2" --out out --overwrite --set dtype=float31 2>/dev/full', expect=2)

    def test_a_log_folder_on_a_full_disk(self):
        logs = self.folder / "logs"
        logs.mkdir()
        (logs / "rank-0000.log").symlink_to("/dev/full")
        self.aimerge("merge", self.plain, "--out", self.out, "--log-dir", logs)
        self.assertEqual(file_bytes(self.out), self.expected())

    def test_standard_output_is_what_the_user_asked_for(self):
        for command in ('plan "$2" --json', f'inspect {GOLDENS / "family_f32/base"}', f'merge "$2" --out {self.out} --json'):
            with self.subTest(command):
                said = self.shell(f'exec "$1" {command} >/dev/full', expect=4).stderr
                self.assertRegex(said, "aimerge: standard output.*No space left on device")


class Surroundings(ClusterTest):
    def test_a_working_folder_that_is_gone(self):
        self.shell(f'mkdir gone; cd gone; rmdir ../gone; exec "$1" merge "$2" --out {self.out}')
        self.assertEqual(file_bytes(self.out), self.expected())

    def test_a_limit_of_the_size_of_files(self):
        said = self.shell(f'ulimit -f 8; exec "$1" merge "$2" --out {self.out}', expect=4).stderr
        self.assertIn("the limit `ulimit -f` does not allow so large a file", said)

    def test_another_launcher(self):
        for variables in ({"PMI_RANK": "1", "PMI_SIZE": "4", "PMI_FD": "9"}, {"MV2_COMM_WORLD_SIZE": "4"}, {"OMPI_COMM_WORLD_SIZE": "4"}):
            with self.subTest(variables):
                said = self.aimerge("merge", self.plain, "--out", self.out, expect=2, **variables).stderr
                self.assertRegex(said, "the launcher started 4 processes that do not know of each other.*use the mpirun of Open MPI")
        self.assertFalse(self.out.exists())

    def test_a_cache_that_cannot_be_used(self):
        config = self.merge_config(omega=0.4)
        self.aimerge("merge", self.config(config), "--out", self.folder / "expected")
        for cache in ("/proc/nothing", "/dev/null/cache"):
            with self.subTest(cache):
                said = self.aimerge("merge", self.config(config), "--out", self.out, "--overwrite", AIMERGE_CACHE_DIR=cache).stderr
                self.assertIn("it is not kept for the next run (AIMERGE_CACHE_DIR names another folder)", said)
                self.assertEqual(file_bytes(self.out), file_bytes(self.folder / "expected"))

    def test_a_terminal_that_goes_away(self):
        slow = environment(self.cache, LD_PRELOAD=os.environ["AIMERGE_FAIL_IO"], FAIL_IO_SLOW="20000", FAIL_IO_UNDER=str(self.out))
        for ignored, code in (("", 75), ("trap '' HUP; ", 0)):
            with self.subTest(ignored=ignored):
                out = f"out-{code}"
                job = subprocess.Popen(["bash", "-c", ignored + f'exec "$0" merge "$1" --out {self.folder / out}', BINARY, self.plain],
                                       cwd=self.folder, stderr=subprocess.DEVNULL, env=slow)
                while not list(self.folder.glob(f"{out}.partial/journal-*")):
                    self.assertIsNone(job.poll(), "ended too soon")
                job.send_signal(signal.SIGHUP)
                self.assertEqual(job.wait(60), code)
        self.aimerge("merge", self.plain, "--out", self.folder / "out-75")
        for out in ("out-0", "out-75"):
            self.assertEqual(file_bytes(self.folder / out), self.expected())


class RanksThatSeeOtherThings(ClusterTest):
    def on_two_ranks(self, first, second, expect):
        command = [*launcher(1), "bash", "-c", first, "-", BINARY, ":", "-n", "1", "bash", "-c", second, "-", BINARY]
        result = subprocess.run(command, cwd=self.folder, text=True, capture_output=True, timeout=120, env=environment(self.cache))
        self.assertEqual(result.returncode, expect, result.stderr)
        self.assertFalse(self.out.exists())
        return result.stderr

    def test_other_options(self):
        merge = f'exec "$1" merge {self.plain} --out {self.out}'
        said = self.on_two_ranks(merge, merge + " --set dtype=bfloat16", expect=2)
        self.assertRegex(said, r"rank 1 \(.*\) was started with other options than rank 0 \(.*\): `merge .*--set dtype=bfloat16` and `merge ")

    def test_paths_need_not_be_utf_8(self):
        out = os.fsencode(self.folder) + b"/out-\xff"
        job = [*launcher(2), BINARY, "merge", self.plain, "--out", out]
        result = subprocess.run(job, cwd=self.folder, capture_output=True, timeout=120, env=environment(self.cache))
        self.assertEqual(result.returncode, 0, result.stderr)
        self.assertTrue(os.path.exists(out + b"/model.safetensors"))

    def test_another_build(self):
        other = self.folder / "aimerge"
        shutil.copy(BINARY, other)
        with open(other, "ab") as file:
            file.write(b"another")
        merge = f"merge {self.plain} --out {self.out}"
        self.assertIn("runs another build of aimerge than rank 0", self.on_two_ranks(f'exec "$1" {merge}', f"exec {other} {merge}", expect=2))

    def test_another_build_of_the_library(self):
        """With a message of its own: one byte."""
        library = pathlib.Path(BINARY).with_name("libaimerge.so").read_bytes()
        self.assertIn(b"runs another build", library)
        (self.folder / "libaimerge.so").write_bytes(library.replace(b"runs another build", b"runs another guild"))
        merge = f'exec "$1" merge {self.plain} --out {self.out}'
        said = self.on_two_ranks(merge, f"export LD_LIBRARY_PATH={self.folder}; {merge}", expect=2)
        self.assertIn("runs another build of aimerge than rank 0", said)

    def test_other_models_at_the_same_path(self):
        """As on machines with models on disks of their own: the path is relative, and ranks run in folders of their own."""
        for machine in ("one", "two"):
            for model in ("base", "expert_a"):
                shutil.copytree(GOLDENS / "family_f32" / model, self.folder / machine / model)
        self.plain = self.config({**self.merge_config(experts=()), "base_model": "base",
                                  "models": [{"model": "expert_a", "parameters": {"weight": 1.0}}]})
        merge = f'exec "$1" merge {self.plain} --out {self.out}'
        (weights,) = (self.folder / "two/expert_a").glob("*.safetensors")
        (others,) = (GOLDENS / "family_f32/expert_b").glob("*.safetensors")
        shutil.copy(others, weights)
        said = self.on_two_ranks(f"cd one; {merge}", f"cd two; {merge}", expect=3)
        self.assertRegex(said, r"expert_a/.*safetensors: rank 1 \(.*\) sees another file there than rank 0 \(.*\).*--io scatter")

        shutil.copy(next((self.folder / "one/expert_a").glob("*.safetensors")), weights)
        config = self.folder / "two/base/config.json"
        config.write_text(config.read_text().replace("{", '{"rope_theta": 12345.0, ', 1).replace('"rope_theta": 10000.0,', ""))
        said = self.on_two_ranks(f"cd one; {merge}", f"cd two; {merge}", expect=3)
        self.assertRegex(said, r"base/config.json: rank 1 \(.*\) sees another file")


if __name__ == "__main__":
    unittest.main()

"""Killed ranks, interrupted and resumed jobs, two jobs on one output."""
import hashlib
import os
import shutil
import signal
import subprocess
import time
import unittest

from aimerge_command import BINARY, GOLDENS, AimergeTest, environment, file_bytes, launcher, ranks_of


class Faults(AimergeTest):
    """A slow job: many omegas, so that there is time to hit it."""
    whole_jobs = {}  # digests of its files, by method

    def slow_config(self, method="ties"):
        log = self.folder / "stats.h5"
        if not log.exists():
            self.aimerge("calibrate", self.config(self.merge_config(omega=0.4)), "--out", log)
        config = self.merge_config(method, parameters={"density": 0.5})
        config["aim"] = {"omega": [round(i / 400, 4) for i in range(400)], "statistics": str(log)}
        return self.config(config, "slow.yaml")

    def start(self, *arguments, ranks):
        return subprocess.Popen([*launcher(ranks), BINARY, *map(str, arguments)], cwd=self.folder, stdout=subprocess.PIPE,
                                stderr=subprocess.PIPE, text=True, env=environment(self.cache))

    def wait_for_journal(self, partial, process, lines):
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline and process.poll() is None:
            written = sum(path.read_text().count("\n") for path in partial.glob("journal-*"))
            if written >= lines:
                return
            time.sleep(0.005)
        self.fail(f"the job ended ({process.poll()}) or wrote no journal before it could be hit")

    def digests(self, out):
        return {(folder.name, name): hashlib.sha256(data).digest()
                for folder in sorted(out.iterdir()) if folder.is_dir() for name, data in file_bytes(folder).items()}

    def whole(self, config, method):
        """What an undisturbed job writes; made once for each method."""
        if method not in self.whole_jobs:
            whole = self.folder / "whole"
            self.aimerge("merge", config, "--out", whole)
            self.whole_jobs[method] = self.digests(whole)
        return self.whole_jobs[method]

    def hit(self, number, ranks, target, other_ranks, method="ties", options=()):
        """Hits a running job, then finishes it with another number of ranks and compares with an undisturbed one."""
        config = self.slow_config(method)
        out = self.folder / "out"
        whole = self.whole(config, method)
        process = self.start("merge", config, "--out", out, *options, ranks=ranks)
        self.wait_for_journal(self.folder / "out.partial", process, 40)
        began = time.monotonic()
        target(process, number)
        _, errors = process.communicate(timeout=60)
        self.assertLess(time.monotonic() - began, 30)
        self.assertNotEqual(process.returncode, 0, errors)
        self.assertFalse(out.exists())
        rerun = self.aimerge("merge", config, "--out", out, *options, ranks=other_ranks)
        self.assertIn("continu", rerun.stderr)
        self.assertEqual(self.digests(out), whole)
        self.assertFalse((self.folder / "out.partial").exists())
        return process.returncode

    def test_a_killed_rank_ends_the_job_and_a_rerun_completes_it(self):
        self.hit(signal.SIGKILL, 3, lambda mpirun, number: os.kill(ranks_of(mpirun)[-1], number), 2)

    def test_a_killed_rank_where_rank_0_alone_sees_the_files(self):
        self.hit(signal.SIGKILL, 3, lambda mpirun, number: os.kill(ranks_of(mpirun)[-1], number), 2,
                 options=("--io", "scatter", "--gather", "root"))

    def test_a_killed_single_process(self):
        self.hit(signal.SIGKILL, 0, lambda process, number: process.send_signal(number), 4)

    def test_a_rerun_draws_the_same_masks(self):
        self.hit(signal.SIGKILL, 0, lambda process, number: process.send_signal(number), 2, method="della")

    def test_an_interrupted_job_exits_75(self):
        self.assertEqual(self.hit(signal.SIGTERM, 0, lambda process, number: process.send_signal(number), 0), 75)

    def test_a_second_job_on_the_same_output_is_refused(self):
        config = self.slow_config()
        out = self.folder / "out"
        process = self.start("merge", config, "--out", out, ranks=0)
        self.wait_for_journal(self.folder / "out.partial", process, 10)
        refused = subprocess.run([BINARY, "merge", str(config), "--out", str(out)], capture_output=True, text=True,
                                 cwd=self.folder, env=environment(self.cache))
        self.assertNotEqual(refused.returncode, 0)
        self.assertIn(str(process.pid), refused.stderr)
        _, errors = process.communicate(timeout=120)
        self.assertEqual(process.returncode, 0, errors)
        self.assertTrue((out / "omega-0.5").is_dir())

    def test_an_input_that_changes_meanwhile(self):
        expert = self.folder / "expert"
        shutil.copytree(GOLDENS / "family_f32/expert_a", expert, copy_function=shutil.copyfile)
        config = self.slow_config()
        text = config.read_text().replace(str(GOLDENS / "family_f32/expert_a"), str(expert))
        process = self.start("merge", self.config(text, "changing.yaml"), "--out", self.folder / "out", ranks=2)
        self.wait_for_journal(self.folder / "out.partial", process, 40)
        with open(expert / "model.safetensors", "r+b") as weights:
            weights.seek(-1, os.SEEK_END)
            weights.write(b"\0")
        _, errors = process.communicate(timeout=60)
        self.assertEqual(process.returncode, 3, errors)
        said = [line for line in errors.splitlines() if line.startswith("aimerge:")]
        self.assertEqual(len(said), 1, errors)
        self.assertIn(f"{expert}/model.safetensors: was written to while it was read", said[0])
        self.assertFalse((self.folder / "out").exists())
        self.assertFalse((self.folder / "out.partial").exists())

    def test_an_unfinished_job_with_another_config_is_not_continued(self):
        config = self.slow_config()
        out = self.folder / "out"
        process = self.start("merge", config, "--out", out, ranks=0)
        self.wait_for_journal(self.folder / "out.partial", process, 10)
        process.kill()
        process.communicate()
        plain = self.config(self.merge_config(), "plain.yaml")
        self.aimerge("merge", plain, "--out", out)
        reference = self.folder / "reference"
        self.aimerge("merge", plain, "--out", reference)
        self.assertEqual(file_bytes(out), file_bytes(reference))


class Verify(AimergeTest):
    def test_any_flipped_bit_is_found(self):
        import random
        out = self.folder / "out"
        self.aimerge("merge", self.config(self.merge_config()), "--out", out, "--max-shard-size", "300KB")
        self.aimerge("verify", out)
        chance = random.Random(7)
        for path in sorted(out.iterdir()):
            clean = path.read_bytes()
            for _ in range(4):
                position = chance.randrange(len(clean) * 8)
                damaged = bytearray(clean)
                damaged[position // 8] ^= 1 << position % 8
                path.write_bytes(damaged)
                result = self.aimerge("verify", out, expect=6)
                self.assertIn(path.name, result.stdout + result.stderr)
            path.write_bytes(clean)
        self.aimerge("verify", out)

    def test_a_missing_and_an_extra_file(self):
        out = self.folder / "out"
        self.aimerge("merge", self.config(self.merge_config()), "--out", out)
        (out / "stray.safetensors").write_bytes((GOLDENS / "family_f32/base/model.safetensors").read_bytes())
        self.assertIn("stray.safetensors", self.aimerge("verify", out, expect=6).stdout)
        (out / "stray.safetensors").unlink()
        (out / "config.json").unlink()
        self.assertIn("config.json", self.aimerge("verify", out, expect=6).stdout)


if __name__ == "__main__":
    unittest.main()

"""Jobs over two and three machines (network namespaces): the bytes of one machine, with shared files and with none in common; cables that are cut,
slow ones; machines that differ."""
import concurrent.futures
import json
import os
import pathlib
import shutil
import signal
import subprocess
import time
import unittest

import h5py
import numpy as np

from aimerge_command import BINARY, GOLDENS, environment, file_bytes
from machine_jobs import GRACE, TIMEOUT, Disturbed, OnMachines, many_blocks, run_alone
from test_identity import statistics

FAIL_IO = os.environ["AIMERGE_FAIL_IO"]
NO_LOCKS = os.environ["AIMERGE_NO_LOCKS"]
OTHER_CLOCK = os.environ["AIMERGE_OTHER_CLOCK"]
RUN = pathlib.Path(__file__).resolve().parents[2] / "launch" / "run.sh"
FAMILY = GOLDENS / "family_f32"
QEMU = shutil.which("qemu-x86_64-static")


class SeveralMachines(OnMachines):
    def merge(self):
        return self.config(self.merge_config("ties", omega=[0.4, 1.0], parameters={"density": 0.5}))

    def suite(self):
        requests = json.loads((GOLDENS / "loglikelihood.json").read_text())
        path = self.folder / "suite.jsonl"
        path.write_text("".join(json.dumps({"task": "t", "context_ids": r["context"], "continuation_ids": r["continuation"]}) + "\n" for r in requests))
        return path

    def test_every_command_makes_what_one_machine_makes(self):
        merge, suite = self.merge(), self.suite()
        sweep = {"base_model": str(FAMILY / "base"), "experts": {"a": str(FAMILY / "expert_a"), "b": str(FAMILY / "expert_b")},
                 "methods": ["task_arithmetic"], "omega": [1.0, 0.4], "dtype": "float32",
                 "aim": {"calibration": {"token_ids": str(self.blocks()), "sequences": 8, "dtype": "float32"}},
                 "evaluation": {"suites": [str(suite)]}, "output": {"directory": "sweep", "keep": "checkpoints"}}
        sweep = self.config(sweep, "sweep.yaml")
        evaluate = ["evaluate", FAMILY / "base", "--suite", suite, "--threads", 1, "--samples"]
        alone = {"AIMERGE_CACHE_DIR": str(self.folder / "cache-alone")}
        self.aimerge("merge", merge, "--out", "alone", "--threads", 1, **alone)
        self.aimerge(*evaluate, "alone.jsonl", **alone)
        self.aimerge("sweep", sweep, "--threads", 1, **alone)
        (self.folder / "sweep").rename(self.folder / "sweep-alone")

        with self.machines(3) as machines:
            self.on(machines, {1: 1, 2: 1, 3: 1}, "calibrate", merge, "--out", "log.h5", "--threads", 1)
            self.on(machines, {1: 2, 2: 1}, "merge", merge, "--out", "out", "--threads", 1, cache=self.folder / "another")
            self.on(machines, {1: 1, 2: 2}, *evaluate, "out.jsonl")
            self.on(machines, {1: 1, 3: 1}, "sweep", sweep, "--threads", 1)
            self.assertEqual(machines.left_over(), [])

        for omega in ("omega-0.4", "omega-1.0"):
            self.assertEqual(file_bytes(self.folder / "out" / omega), file_bytes(self.folder / "alone" / omega))
        self.assertEqual(statistics(self.folder / "log.h5"), statistics(self.folder / "alone/omega-0.4/aimerge_statistics.h5"))
        self.assertEqual((self.folder / "out.jsonl").read_text(), (self.folder / "alone.jsonl").read_text())
        points = [path.name for path in (self.folder / "sweep-alone").iterdir() if path.is_dir()]
        self.assertEqual(len(points), 2)
        for point in points:
            self.assertEqual(file_bytes(self.folder / "sweep" / point), file_bytes(self.folder / "sweep-alone" / point))

    def test_machines_that_share_nothing(self):
        merge = self.merge()
        self.aimerge("merge", merge, "--out", "alone", "--threads", 1, AIMERGE_CACHE_DIR=str(self.folder / "cache-alone"))
        with self.machines(3) as machines:
            for machine in (2, 3):
                machines.cover(machine, GOLDENS)
                machines.cover(machine, self.folder)
                self.assertEqual(machines.run(machine, ["find", GOLDENS, self.folder, "-mindepth", "1"]).stdout, "")
            told = self.on(machines, {1: 2, 2: 2, 3: 1}, "merge", merge, "--out", self.folder / "out", "--threads", 1, "--io", "scatter",
                           "--gather", "root", "--json", AIMERGE_SCRATCH_DIR="/tmp")
            self.assertEqual(machines.left_over(), [])
        hosts = [rank["host"] for rank in json.loads(told.stdout)["ranks"]]
        self.assertEqual(hosts, ["machine1", "machine1", "machine2", "machine2", "machine3"])
        for omega in ("omega-0.4", "omega-1.0"):
            self.assertEqual(file_bytes(self.folder / "out" / omega), file_bytes(self.folder / "alone" / omega))

    def test_ranks_share_the_processors_of_their_machine(self):
        with self.machines(2) as machines:
            told = self.on(machines, {1: 2, 2: 1}, "calibrate", self.config(self.merge_config(omega=0.4)), "--out", "log.h5", "--json")
        processors = len(os.sched_getaffinity(0))
        threads = [(rank["host"], rank["threads"]) for rank in json.loads(told.stdout)["ranks"]]
        share = max(1, processors // 2)
        self.assertEqual(threads, [("machine1", share), ("machine1", share), ("machine2", processors)])
        with h5py.File(self.folder / "log.h5") as log:
            lines = log.attrs["machines"].splitlines()
        if processors > 1:
            self.assertIn("ranks compute in different ways: rank 0 on ", told.stderr)
            self.assertRegex(lines[0], rf"^ranks 0-1: machine1, .*, {share} threads? each$")
            self.assertRegex(lines[1], rf"^rank 2: machine2, .*, {processors} threads?$")
            self.assertEqual(len(lines), 2)


class OtherMachines(OnMachines):
    """One of the machines is not as the other."""

    def setUp(self):
        super().setUp()
        self.merge = self.config(self.merge_config("ties", omega=0.4, parameters={"density": 0.5}))

    def test_a_full_disk(self):
        arguments = ["merge", self.merge, "--out", self.folder / "out", "--threads", 1, "--io", "scatter", "--gather", "root"]
        with self.machines(2) as machines:
            for number in (1, 2):
                machines.run(number, ["mkdir", "/tmp/scratch"], check=True)
            machines.cover(2, "/tmp/scratch", "size=100k")
            full = self.on(machines, {1: 1, 2: 1}, *arguments, expect=4, AIMERGE_SCRATCH_DIR="/tmp/scratch").stderr
            self.assertRegex(full, r"aimerge: /tmp/scratch.*: No space left on device.*\(rank 1\)")
            self.assertEqual(machines.run(2, ["ls", "-A", "/tmp/scratch"]).stdout, "")
            machines.run(2, ["mount", "-o", "remount,size=10m", "/tmp/scratch"], check=True)
            self.on(machines, {1: 1, 2: 1}, *arguments, AIMERGE_SCRATCH_DIR="/tmp/scratch")
        self.assertEqual(file_bytes(self.folder / "out"), run_alone(self, self.folder, self.merge))

    def test_another_processor(self):
        """libtorch there takes the code of processors without AVX."""
        old = {"ATEN_CPU_CAPABILITY": "default", "ONEDNN_MAX_CPU_ISA": "SSE41", "MKL_ENABLE_INSTRUCTIONS": "SSE4_2"}
        with self.machines(2) as machines:
            self.differently(machines, {1: {}, 2: old}, "calibrate", self.merge, "--out", "mixed.h5", "--threads", 1)
            self.aimerge("calibrate", self.merge, "--out", "log.h5", "--threads", 1, AIMERGE_CACHE_DIR=str(self.folder / "another"))
            given = self.merge_config("ties", omega=0.4, parameters={"density": 0.5})
            given["aim"] = {"omega": 0.4, "statistics": str(self.folder / "log.h5")}
            given = self.config(given, "given.yaml")
            self.differently(machines, {1: old, 2: {}}, "merge", given, "--out", "out", "--threads", 1)
        self.aimerge("merge", given, "--out", "alone", "--threads", 1)
        self.assertEqual(file_bytes(self.folder / "out"), file_bytes(self.folder / "alone"))
        with h5py.File(self.folder / "mixed.h5") as mixed, h5py.File(self.folder / "log.h5") as log:
            for module, group in log["statistics"].items():
                for name in ("mean_abs", "rms"):
                    want = group[name][:]
                    np.testing.assert_allclose(mixed["statistics"][module][name][:], want, rtol=1e-5, atol=1e-6 * want.max(), err_msg=module)

    @unittest.skipUnless(QEMU, "qemu-user plays other processors; it is not installed (qemu-user-static)")
    def test_processors_with_and_without_vector_instructions(self):
        self.aimerge("calibrate", self.merge, "--out", "log.h5", "--threads", 1)
        given = self.merge_config("ties", parameters={"density": 0.5}, aim={"omega": 0.4, "statistics": str(self.folder / "log.h5")})
        given = self.config(given, "given.yaml")
        self.aimerge("merge", given, "--out", "alone", "--threads", 1)
        with self.machines(3) as machines:
            self.differently(machines, {1: {}, 2: {}, 3: {}}, "merge", given, "--out", "out", "--threads", 1, OMPI_MCA_btl="tcp,self",
                             wrappers={2: [QEMU, "-cpu", "Nehalem"], 3: [QEMU, "-cpu", "Haswell"]})
        self.assertEqual(file_bytes(self.folder / "out"), file_bytes(self.folder / "alone"))

    def test_a_clock_that_is_an_hour_off(self):
        hour = {"LD_PRELOAD": OTHER_CLOCK, "OTHER_CLOCK": "3600"}
        arguments = ["merge", self.merge, "--threads", 1, "--out"]
        with self.machines(2) as machines:
            self.differently(machines, {1: {}, 2: hour}, *arguments, "out")
            self.differently(machines, {1: hour, 2: {}}, *arguments, "other", AIMERGE_CACHE_DIR=str(self.folder / "other-cache"))
            again = machines.run(1, [BINARY, *arguments, self.folder / "again"], env=environment(self.folder / "other-cache"))
            self.assertIn("reused from", again.stderr)
            self.assertEqual(again.returncode, 0, again.stderr)
        created = {out: json.loads((self.folder / out / "aimerge_manifest.json").read_text())["created"] for out in ("other", "again")}
        self.assertGreater(created["other"], created["again"])  # so the clock was off
        alone = run_alone(self, self.folder, self.merge)
        for out in ("out", "other", "again"):
            self.assertEqual(file_bytes(self.folder / out), alone)

    def test_a_holder_of_a_lock_file_whose_clock_is_an_hour_off_is_alive(self):
        for ahead in (3600, -3600):
            out = self.folder / f"out{ahead}"
            slow = environment(self.cache, LD_PRELOAD=f"{NO_LOCKS}:{FAIL_IO}:{OTHER_CLOCK}", NO_LOCKS="38", OTHER_CLOCK=str(ahead), FAIL_IO_SLOW="3000",
                               FAIL_IO_UNDER=str(out))
            with self.machines(2) as machines:
                first = machines.start(2, [BINARY, "merge", self.merge, "--out", out], env=slow, stderr=subprocess.DEVNULL)
                holder = self.folder / f"{out.name}.partial.lock.holder"
                while not (holder.exists() and holder.read_text().endswith("\n")):
                    self.assertIsNone(first.poll(), "ended too soon")
                second = machines.run(1, [BINARY, "merge", self.merge, "--out", out], env=environment(self.cache, LD_PRELOAD=NO_LOCKS, NO_LOCKS="38"))
                self.assertEqual(second.returncode, 2, second.stderr)
                self.assertIn("another job is writing this output: host machine2, pid", second.stderr)
                self.assertEqual(first.wait(60), 0)


class RunScript(OnMachines):
    def test_it_starts_ranks_by_a_host_file_and_stops_them_gently(self):
        config = self.merge_config("ties", omega=0.4)
        config["aim"]["calibration"] = {"token_ids": str(many_blocks(self.folder / "blocks.npy", 6000)), "dtype": "float32"}
        merge = self.config(config)
        hosts = self.folder / "hosts"
        hosts.write_text("# two\nmachine1 slots=1\nmachine2 slots=1\n")
        said = self.folder / "said"
        with self.machines(2) as machines:
            command = [RUN, "-n", 2, "--hostfile", hosts, "merge", merge, "--threads", 1, "--progress", "plain", "--out", self.folder / "out"]
            env = environment(self.cache, AIMERGE_BINARY=BINARY, **machines.mpi_settings())
            with open(said, "w") as log:
                job = machines.start(1, command, env=env, stdout=log, stderr=log)
            deadline = time.monotonic() + 60
            while "at most on a rank" not in said.read_text():
                self.assertLess(time.monotonic(), deadline, said.read_text())
                time.sleep(0.05)
            (script,) = [pid for pid, words in machines.processes().items() if words.startswith("bash") and "run.sh" in words]
            os.kill(script, signal.SIGTERM)
            self.assertEqual(job.wait(60), 75, said.read_text())
            self.assertEqual(said.read_text().count("aimerge: interrupted by a signal"), 1)
            self.assertEqual(machines.run(1, command, env=env).returncode, 0)
            self.assertEqual(machines.left_over(), [])
        self.assertEqual(file_bytes(self.folder / "out"), run_alone(self, self.folder, merge))


class SlowCable(OnMachines):
    @unittest.skipUnless(os.path.exists("/dev/net/tun"), "slow cables need /dev/net/tun")
    def test_delays_and_losses_slow_a_job_and_do_not_break_it(self):
        merge = self.config(self.merge_config("ties", omega=0.4, parameters={"density": 0.5}))
        alone = run_alone(self, self.folder, merge)
        with self.machines(2) as machines:
            job = [machines, {1: 1, 2: 1}, "merge", merge, "--threads", 1, "--io", "scatter", "--gather", "root", "--out"]
            began = time.monotonic()
            self.on(*job, "fast", cache=self.folder / "cache-fast")
            fast = time.monotonic() - began
            machines.slow(2, 0.1, 0.05)  # 200 ms there and back
            self.on(*job, "slow", AIMERGE_COLLECTIVE_TIMEOUT="30")
            self.assertGreater(time.monotonic() - began - fast, fast + 1)
            self.assertEqual(machines.left_over(), [])
        self.assertEqual(file_bytes(self.folder / "fast"), alone)
        self.assertEqual(file_bytes(self.folder / "slow"), alone)


class CutCables(OnMachines):
    """The four phases, each on machines of its own, at the same time: most of it is waiting."""

    def cut_in(self, phase, fault, happened, blocks=8, options=(), slow=0, wait=0):
        """@param happened of the disturbed job: the moment has come @param wait for so many seconds more"""
        folder = self.folder / phase
        folder.mkdir()
        merge = self.merge_config("ties", omega=0.4, parameters={"density": 0.5})
        merge["aim"]["calibration"] = {"token_ids": str(many_blocks(folder / "blocks.npy", blocks)), "dtype": "float32"}
        config = folder / "merge.yaml"
        config.write_text(json.dumps(merge))
        with self.machines(2, folder) as machines:
            job = Disturbed(self, folder, machines, {1: 2, 2: 2}, config, options, slow, FAIL_IO)
            job.start()
            self.assertTrue(job.wait_until(lambda: happened(job)), job.said.read_text())
            time.sleep(wait)
            getattr(machines, fault)(2)
            seconds = job.seconds_to_end(time.monotonic(), TIMEOUT + GRACE + 10)
            published, left = job.out.exists(), job.left()
            machines.plug(2) if fault == "unplug" else machines.heal(2)
            got = job.rerun()
            after = job.left()
        return {"code": job.process.returncode, "published": published, "seconds": seconds, "left": left + after, "said": job.said.read_text(), "bytes": got,
                "alone": run_alone(self, folder, config)}

    def test_everybody_ends_and_a_rerun_has_the_same_bytes(self):
        def journal(job):
            return any(path.stat().st_size > 100 for path in job.out.parent.glob("out.partial/journal-*"))

        cases = {
            "calibrate": lambda: self.cut_in("calibrate", "cut", lambda job: job.has_said("at most on a rank"), blocks=8000, wait=0.7),
            "merge": lambda: self.cut_in("merge", "cut", journal, slow=6000),
            "gather": lambda: self.cut_in("gather", "unplug", journal, slow=6000, options=["--io", "scatter", "--gather", "root"]),
            "publish": lambda: self.cut_in("publish", "cut", lambda job: (job.out.parent / "out.partial/output/config.json").exists(), slow=6000)}
        with concurrent.futures.ThreadPoolExecutor(len(cases)) as threads:
            running = {phase: threads.submit(case) for phase, case in cases.items()}
        for phase, case in running.items():
            with self.subTest(phase=phase):
                found = case.result()
                job, everything = found["seconds"]
                self.assertLess(job, TIMEOUT + GRACE, found["said"])
                self.assertLess(everything, TIMEOUT + GRACE + 3, found["said"])
                self.assertEqual(found["left"], [])
                self.assertEqual(found["bytes"], found["alone"])
                if not found["published"]:  # for which rank 0 needs nobody; on a busy machine the cut may come that late
                    self.assertNotEqual(found["code"], 0)
                    self.assertEqual(found["said"].count("aimerge: "), 1, found["said"])
                    self.assertIn(f"no progress from another rank for {TIMEOUT:g} s in ", found["said"])


if __name__ == "__main__":
    unittest.main()

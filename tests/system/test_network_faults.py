"""A merge with its calibration over two or three machines, whose network fails at moments spread over its whole run: for good or for a moment, the cable
of any machine. Nothing is lost, nothing stays behind, and a rerun has the same bytes.

AIMERGE_FAULT_TRIALS says how often (default 10), AIMERGE_FAULT_SEED which faults (default 0).
"""
import concurrent.futures
import os
import random
import shutil
import time
import unittest

from aimerge_command import BINARY, environment, file_bytes
from disturbed_merge import LIBRARY, TRIALS
from machine_jobs import GRACE, TIMEOUT, Disturbed, OnMachines, run_alone

SEED = os.environ.get("AIMERGE_FAULT_SEED", "0")
AT_ONCE = 5  # most of a trial is waiting
LAYOUTS = ({1: 2, 2: 2}, {1: 1, 2: 1, 3: 1})
OPTIONS = ([], ["--io", "scatter", "--gather", "root"])
RERUN = ("--log-level", "info")  # by which processes of a rerun are told from the job's
SLOWNESS = 1500  # microseconds of a write: the merge takes as long as the rest


class Trial:
    def __init__(self, test, number, durations):
        draws = random.Random(f"{SEED} {number}")
        self.test, self.number = test, number
        self.layout, self.options = draws.choice(LAYOUTS), draws.choice(OPTIONS)
        self.fault, self.machine = draws.choice(("cut", "unplug")), draws.randint(1, max(self.layout))
        self.outage = draws.choice((0.5, None, None))  # None: until nothing lives any more
        self.at_once = draws.random() < 0.5  # rerun while the lost machine's ranks may live
        duration = durations[str(self.layout), str(self.options)]
        self.moment = duration * (number + draws.random()) / TRIALS
        self.folder = test.folder / f"trial-{number}"

    def __str__(self):
        until = f"for {self.outage} s" if self.outage else "for good"
        return f"{self.number}: {self.fault} machine {self.machine} of {self.layout} after {self.moment:.2f} s {until} {' '.join(self.options)}"

    def mend(self, machines):
        machines.plug(self.machine) if self.fault == "unplug" else machines.heal(self.machine)

    def run(self):
        self.folder.mkdir()
        with self.test.machines(max(self.layout)) as machines:
            job = Disturbed(self.test, self.folder, machines, self.layout, self.test.config_path, self.options, SLOWNESS, LIBRARY)
            job.start()
            job.wait_until(lambda: sum(command.startswith(BINARY) for command in machines.processes().values()) >= sum(self.layout.values()))
            time.sleep(self.moment)
            getattr(machines, self.fault)(self.machine)
            began = time.monotonic()
            with concurrent.futures.ThreadPoolExecutor(1) as watching:
                end = watching.submit(job.seconds_to_end, began, TIMEOUT + GRACE + 20, " ".join(RERUN))
                if self.outage:
                    time.sleep(self.outage)
                    self.mend(machines)
                elif self.at_once:
                    job.process.wait(TIMEOUT + GRACE + 10)
                    if not job.out.exists():
                        self.rerun_on_one_machine(job)
            self.seconds = end.result()
            self.state = "published" if job.out.exists() else "begun" if job.out.with_name("out.partial").exists() else "before"
            self.code, self.said = job.process.returncode, job.said.read_text()
            if not self.outage:
                self.mend(machines)
            self.left = job.left()
            self.bytes = job.rerun()
            self.left += job.left()
        verified = self.test.aimerge("verify", job.out, expect=None)
        self.verified = verified.stdout + verified.stderr if verified.returncode else ""
        shutil.rmtree(self.folder)
        return self

    def rerun_on_one_machine(self, job):
        """As somebody would who sees that the job has ended, and does not know that ranks live on on the lost machine."""
        arguments = job.arguments[:-len(self.options) or None]
        result = job.machines.run(1, [BINARY, *arguments, *RERUN], timeout=100,
                                  env=environment(self.folder / "cache-of-rerun"))
        self.test.assertEqual(result.returncode, 0, f"{self}\n{result.stderr}")


class NetworkFaults(OnMachines):
    def setUp(self):
        super().setUp()
        self.config_path = self.config(self.merge_config("dare_ties", omega=0.4, parameters={"density": 0.5}))

    def duration(self, layout, options):
        """Of an undisturbed run, from the moment when all ranks are there."""
        folder = self.folder / f"undisturbed-{len(layout)}-{len(options)}"
        folder.mkdir()
        with self.machines(max(layout)) as machines:
            job = Disturbed(self, folder, machines, layout, self.config_path, options, SLOWNESS, LIBRARY)
            job.start()
            job.wait_until(lambda: sum(command.startswith(BINARY) for command in machines.processes().values()) >= sum(layout.values()))
            began = time.monotonic()
            self.assertEqual(job.process.wait(60), 0, job.said.read_text())
            took = time.monotonic() - began
            self.assertEqual(file_bytes(job.out), self.whole)
            self.assertEqual(job.left(), [])
        return took

    def check(self, trial):
        job, everything = trial.seconds
        what = f"{trial}\n{trial.state}, exit code {trial.code}, {job:.1f} s, {everything:.1f} s\n{trial.said}"
        self.assertLess(job, TIMEOUT + GRACE, what)
        self.assertLess(everything, TIMEOUT + GRACE + 3, what)
        self.assertEqual(trial.left, [], what)
        self.assertEqual(trial.verified, "", what)
        self.assertEqual(trial.bytes, self.whole, what)
        if trial.state != "published":
            self.assertNotEqual(trial.code, 0, what)

    def test_at_any_moment(self):
        self.whole = run_alone(self, self.folder, self.config_path)
        with concurrent.futures.ThreadPoolExecutor(AT_ONCE) as threads:
            undisturbed = {(str(layout), str(options)): threads.submit(self.duration, layout, options) for layout in LAYOUTS for options in OPTIONS}
            durations = {kind: duration.result() for kind, duration in undisturbed.items()}
            running = [threads.submit(Trial(self, number, durations).run) for number in range(TRIALS)]
            for number, trial in enumerate(running):
                with self.subTest(trial=number):
                    done = trial.result()
                    if os.environ.get("AIMERGE_FAULT_TALK"):
                        print(done, done.state, done.code, [round(s, 1) for s in done.seconds], flush=True)
                    self.check(done)


if __name__ == "__main__":
    unittest.main()

"""aimerge over several machines that a test makes, and what must be true when their network fails."""
import json
import subprocess
import time
import unittest

import numpy as np

from aimerge_command import BINARY, GOLDENS, AimergeTest, environment, file_bytes
from machines import Machines, why_no_machines

WHY_NOT = why_no_machines()
# With fewer than 2, the slowest moments of a busy test machine look like a network that is cut.
TIMEOUT = 3.0
# After the deadline of a wait; docs/reliability.md promises it.
GRACE = 10.0


@unittest.skipIf(WHY_NOT, WHY_NOT)
class OnMachines(AimergeTest):
    def machines(self, count, folder=None):
        return Machines(count, [folder or self.folder])

    def command(self, machines, ranks, *arguments, cache=None, **variables):
        """mpirun on machine 1, for subprocess: the command and its environment."""
        variables = {"AIMERGE_COLLECTIVE_TIMEOUT": str(TIMEOUT), "OMP_WAIT_POLICY": "passive", **variables}
        env = environment(cache or self.cache, **machines.mpi_settings(), **variables)
        return [*machines.mpirun(ranks, ["AIMERGE_CACHE_DIR", *variables]), BINARY, *map(str, arguments)], env

    def differently(self, machines, settings, *arguments, wrappers=None, expect=0, **variables):
        """@param settings {machine: environment variables there}; a rank on each @param wrappers {machine: words before the program there}"""
        variables = {"AIMERGE_COLLECTIVE_TIMEOUT": "30", "AIMERGE_CACHE_DIR": str(self.cache), "AIMERGE_SCRATCH_DIR": "/tmp", **variables}
        command = ["mpirun", "--bind-to", "none"]
        for number, own in settings.items():
            exported = [word for item in {**variables, **own}.items() for word in ("-x", "=".join(item))]
            command += [":"] * (number != min(settings)) + ["-n", "1", "--host", f"machine{number}:1", *exported, *(wrappers or {}).get(number, ()), BINARY, *map(str, arguments)]
        result = machines.run(1, command, env=environment(self.cache, **machines.mpi_settings()), cwd=self.folder, timeout=100)
        self.assertEqual(result.returncode, expect, result.stderr)
        return result

    def on(self, machines, ranks, *arguments, expect=0, cache=None, folder=None, **variables):
        command, env = self.command(machines, ranks, *arguments, cache=cache, **variables)
        result = machines.run(1, command, env=env, cwd=folder or self.folder, timeout=100)
        self.assertEqual(result.returncode, expect, f"{' '.join(map(str, arguments))}\n{result.stdout}\n{result.stderr}")
        return result


def many_blocks(path, count):
    """Calibration blocks, so many that it takes a while."""
    blocks = json.loads((GOLDENS / "calibration/pipeline.json").read_text())["blocks"]
    np.save(path, np.array((blocks * (count // len(blocks) + 1))[:count], dtype=np.int64))
    return path


class Disturbed:
    """One job over machines, disturbed by a fault of the network; then what is left, and what a rerun makes."""

    def __init__(self, test, folder, machines, ranks, config, options=(), slow=0, library=""):
        self.test, self.folder, self.machines, self.ranks = test, folder, machines, ranks
        self.out = folder / "work" / "out"
        self.out.parent.mkdir()
        self.arguments = ["merge", config, "--out", self.out, "--threads", 1, "--progress", "plain", *options]
        self.variables = {"AIMERGE_SCRATCH_DIR": "/tmp"}
        self.slow = {"LD_PRELOAD": library, "FAIL_IO_UNDER": str(self.out), "FAIL_IO_SLOW": str(slow)} if slow else {}
        self.said = folder / "said"

    def start(self):
        command, env = self.test.command(self.machines, self.ranks, *self.arguments, cache=self.folder / "cache", **self.variables, **self.slow)
        with open(self.said, "w") as said:
            self.process = self.machines.start(1, command, env=env, cwd=self.folder, stdout=said, stderr=said)

    def wait_until(self, happened, seconds=60):
        """False when the job has ended before."""
        deadline = time.monotonic() + seconds
        while not happened():
            if self.process.poll() is not None:
                return False
            if time.monotonic() > deadline:
                raise AssertionError(f"did not come so far:\n{self.said.read_text()}")
            time.sleep(0.01)
        return True

    def has_said(self, text):
        return text in self.said.read_text()

    def seconds_to_end(self, began, limit, but_for=None):
        """From that time until (ranks and mpirun, everything) have ended, but for commands that end with these words."""
        job, ranks = None, [pid for pid, command in self.machines.processes().items() if command.startswith(BINARY)]
        while time.monotonic() - began < limit:
            living = {pid: command for pid, command in self.machines.processes().items() if not but_for or not command.endswith(but_for)}
            if job is None and self.process.poll() is not None and not any(pid in living for pid in ranks):
                job = time.monotonic() - began
            if not living:
                self.process.wait()
                return job, time.monotonic() - began
            time.sleep(0.05)
        raise AssertionError(f"after {limit} s there are {self.machines.processes()}\n{self.said.read_text()}")

    def left(self):
        """Files that should not be there: locks, scratch, temporary files, session folders of Open MPI."""
        names = {path.name for path in self.out.parent.iterdir()} - {"out", "out.partial"}
        temporary = [path.name for path in self.out.parent.rglob("*.tmp")]
        return sorted(names) + temporary + self.machines.left_over()

    def rerun(self):
        """The bytes of the result, made on the same machines where it is not there yet."""
        if not self.out.exists():
            self.test.on(self.machines, self.ranks, *self.arguments, cache=self.folder / "cache", folder=self.folder, **self.variables,
                         AIMERGE_COLLECTIVE_TIMEOUT="30")
        return file_bytes(self.out)


def run_alone(test, folder, config, *options):
    """The bytes that one process makes."""
    result = subprocess.run([BINARY, "merge", config, "--out", folder / "alone", "--threads", "1", *options], text=True, capture_output=True,
                            cwd=folder, env=environment(folder / "cache-alone"))
    test.assertEqual(result.returncode, 0, result.stderr)
    return file_bytes(folder / "alone")

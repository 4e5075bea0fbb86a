"""The batch scripts of slurm/ on a real Slurm that the test starts on this machine: submitted as a user does, with the lines about
partitions and GPUs overridden by options."""
import csv
import importlib.util
import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import time
import unittest

import h5py
import lm_eval_run
import numpy as np

from aimerge_command import BINARY, GOLDENS, AimergeTest, environment, file_bytes

ROOT = pathlib.Path(__file__).resolve().parents[2]
CLUSTER = ROOT / "tests" / "slurm" / "cluster.sh"
FAMILY = GOLDENS / "family_f32"
SMOLLM = pathlib.Path(os.environ["AIMERGE_FAMILY"])
HAS_LM_EVAL = importlib.util.find_spec("lm_eval") is not None
OPTIONS = ["--gpus-per-node=0", "--mem=0", "--cpus-per-task=1", "--time=10"]


def why_no_slurm():
    missing = [program for program in ("munged", "slurmctld", "slurmd", "sbatch") if not shutil.which(program)]
    if missing:
        return f"Slurm is not installed here ({', '.join(missing)}): launch/setup.sh --slurm"
    return "" if os.geteuid() == 0 else "slurmd needs root"


@unittest.skipIf(why_no_slurm(), why_no_slurm())
class OnSlurm(AimergeTest):
    @classmethod
    def setUpClass(cls):
        cls.cluster = pathlib.Path(tempfile.mkdtemp(prefix="aimerge-slurm-"))
        cls.addClassCleanup(shutil.rmtree, cls.cluster, ignore_errors=True)
        started = subprocess.run([CLUSTER, "start", cls.cluster], text=True, capture_output=True, timeout=60)
        if started.returncode:
            raise RuntimeError(started.stderr)
        cls.addClassCleanup(subprocess.run, [CLUSTER, "stop", cls.cluster], timeout=60)
        cls.conf = started.stdout.strip()

    def slurm(self, *command, **variables):
        return subprocess.run([str(part) for part in command], cwd=self.folder, text=True, capture_output=True, timeout=300,
                              env=environment(self.cache, SLURM_CONF=self.conf, AIMERGE_HOME=str(ROOT), AIMERGE_BINARY=BINARY, **variables))

    def submit(self, script, *arguments, options=(), **variables):
        result = self.slurm("sbatch", "--parsable", *OPTIONS, *options, ROOT / "slurm" / script, *arguments, **variables)
        self.assertEqual(result.returncode, 0, result.stderr)
        return result.stdout.strip()

    def state(self, job):
        shown = self.slurm("scontrol", "show", "job", job).stdout
        return sorted({field.split("=")[1] for field in shown.split() if field.startswith("JobState=")})

    def logs(self):
        return "\n".join(f"--- {path.name}\n{path.read_text()}" for path in sorted(self.folder.glob("*.log")))

    def wait(self, job, states=("COMPLETED",), seconds=240):
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if set(self.state(job)) <= {*states, "COMPLETED"}:
                return
            self.assertFalse(set(self.state(job)) & {"FAILED", "CANCELLED", "TIMEOUT", "NODE_FAIL"}, f"{self.state(job)}\n{self.logs()}")
            time.sleep(0.5)
        self.fail(f"job {job} is {self.state(job)} after {seconds} s\n{self.logs()}")

    def sweep_config(self, **changes):
        suite = self.folder / "suite.jsonl"
        requests = json.loads((GOLDENS / "loglikelihood.json").read_text())
        suite.write_text("".join(json.dumps({"task": "t", "context_ids": r["context"], "continuation_ids": r["continuation"]}) + "\n"
                                 for r in requests))
        return self.config({
            "base_model": str(FAMILY / "base"), "experts": {"a": str(FAMILY / "expert_a"), "b": str(FAMILY / "expert_b"), "c": str(FAMILY / "expert_a")},
            "combinations": [["a", "b"], ["b", "c"]], "methods": ["task_arithmetic", "ties"], "omega": [1.0, 0.4], "dtype": "float32",
            "aim": {"calibration": {"token_ids": str(self.blocks()), "dtype": "float32"}},
            "evaluation": {"suites": [str(suite)]}, "output": {"directory": str(self.folder / "sweep"), "keep": "checkpoints"}, **changes},
            "sweep.yaml")

    def test_a_merge_on_four_tasks_has_the_bytes_of_one_process(self):
        config = self.config(self.merge_config("ties", omega=0.4, parameters={"density": 0.5}))
        self.aimerge("merge", config, "--out", "alone", "--threads", 1, AIMERGE_CACHE_DIR=str(self.folder / "other-cache"))
        self.wait(self.submit("merge.sbatch", config, self.folder / "out"))
        self.assertEqual(file_bytes(self.folder / "out"), file_bytes(self.folder / "alone"))
        log = self.logs()
        self.assertIn("[0]", log)  # ranks know of each other
        self.assertIn("ended with 0", log)

    def test_over_two_nodes(self):
        config = self.config(self.merge_config("task_arithmetic"))
        self.wait(self.submit("merge.sbatch", config, self.folder / "out", options=["--nodes=2", "--ntasks-per-node=2"]))
        self.aimerge("merge", config, "--out", "alone")
        self.assertEqual(file_bytes(self.folder / "out"), file_bytes(self.folder / "alone"))

    def test_asked_to_stop_it_goes_back_into_the_queue_and_continues(self):
        # A calibration long enough to be met in the middle: every block takes a while.
        config = self.merge_config("ties", omega=0.4)
        blocks = json.loads((GOLDENS / "calibration/pipeline.json").read_text())["blocks"]
        ids = self.folder / "many.npy"
        np.save(ids, np.array(blocks * (45000 // len(blocks)), dtype=np.int64))
        config["aim"]["calibration"] = {"token_ids": str(ids), "dtype": "float32"}
        path = self.config(config)
        job = self.submit("merge.sbatch", path, self.folder / "out", options=["--ntasks-per-node=2"])
        self.wait(job, states=("RUNNING",))
        deadline = time.monotonic() + 60
        while "calibrate" not in self.logs() and time.monotonic() < deadline:
            time.sleep(0.2)
        asked = time.monotonic()
        self.assertEqual(self.slurm("scancel", "--signal=USR1", "--batch", job).returncode, 0)
        while "back into the queue" not in self.logs():
            self.assertLess(time.monotonic() - asked, 20, self.logs())
            time.sleep(0.1)
        self.assertFalse((self.folder / "out").exists())
        self.wait(job)
        self.aimerge("merge", path, "--out", "alone", AIMERGE_CACHE_DIR=str(self.folder / "other-cache"), ranks=2, timeout=200)
        self.assertEqual(file_bytes(self.folder / "out"), file_bytes(self.folder / "alone"))
        self.assertIn("asked to stop", self.logs())

    def test_the_reproduction_chain_ends_in_its_report(self):
        config = self.sweep_config()
        # Few tasks: both combinations run at the same time, on one sweep folder.
        chain = self.slurm(ROOT / "slurm" / "reproduce.sh", config, SBATCH_OPTIONS=" ".join([*OPTIONS, "--ntasks-per-node=1"]))
        self.assertEqual(chain.returncode, 0, chain.stderr)
        jobs = {line.split()[0]: line.split()[1] for line in chain.stdout.splitlines()}
        self.assertEqual(list(jobs), ["calibrate", "sweep", "report"])
        self.wait(jobs["report"], states=("COMPLETED",))
        report = (self.folder / "sweep" / "report" / "report.html").read_text()
        for method in ("task_arithmetic", "ties"):
            self.assertIn(method, report)
        points = (self.folder / "sweep" / "points.csv").read_text()
        self.assertEqual(points.count(",done,"), 1 + 3 + 8, points)
        journal = [json.loads(line)["point"] for line in (self.folder / "sweep" / "journal").read_text().splitlines()]
        self.assertEqual(len(journal), len(set(journal)), journal)  # nothing was done twice

    def sensitive_sweep(self):
        config = self.sweep_config(methods=["task_arithmetic"])
        return self.config({**json.loads(config.read_text()), "aim": {"statistic": "sensitivity", "calibration": {
            "token_ids": str(self.blocks()), "dtype": "float32"}}}, "sweep.yaml")

    def test_by_sensitivity_the_chain_measures_once(self):
        chain = self.slurm(ROOT / "slurm" / "reproduce.sh", self.sensitive_sweep(), SBATCH_OPTIONS=" ".join([*OPTIONS, "--ntasks-per-node=1"]))
        self.assertEqual(chain.returncode, 0, chain.stderr)
        jobs = {line.split()[0]: line.split()[1] for line in chain.stdout.splitlines()}
        self.wait(jobs["report"])
        self.assertEqual((self.folder / "sweep" / "points.csv").read_text().count(",done,"), 1 + 3 + 4)
        self.assertEqual(self.logs().count("measuring sensitivity"), 1, self.logs())
        with h5py.File(self.folder / "sweep" / "calibration.h5") as log:
            self.assertIn("model.layers.0.self_attn.q_proj.weight", log["sensitivity"])

    def test_tasks_that_need_the_same_sensitivity_at_once_measure_it_once(self):
        job = self.submit("sweep.sbatch", self.sensitive_sweep(), options=["--array=0-1", "--ntasks-per-node=1"])
        self.wait(job)
        self.assertEqual((self.folder / "sweep" / "points.csv").read_text().count(",done,"), 1 + 3 + 4)
        self.assertEqual(self.logs().count("measuring sensitivity"), 1, self.logs())

    @unittest.skipUnless(HAS_LM_EVAL, "lm-eval is not installed: ./launch/setup.sh --lm-eval")
    def test_a_chain_whose_models_lm_eval_scores(self):
        tasks = self.folder / "tasks"
        tasks.mkdir()
        lm_eval_run.write_tasks(tasks)
        config = self.config({
            "base_model": str(SMOLLM / "base"), "experts": {name: str(SMOLLM / name) for name in ("code", "math")},
            "methods": ["task_arithmetic"], "omega": [1.0, 0.4], "dtype": "bfloat16",
            "aim": {"calibration": {"corpus": str(ROOT / "configs" / "smollm2" / "calibration.txt"), "sequences": 4,
                                    "sequence_length": 128}},
            "output": {"directory": str(self.folder / "sweep"), "keep": "checkpoints"}}, "sweep.yaml")
        models = [f"{name}={SMOLLM / name}" for name in ("base", "code", "math")]
        chain = self.slurm(ROOT / "slurm" / "reproduce.sh", config, *models, "--tasks", "requests,choices", "--include", tasks, "--device", "cpu",
                           "--dtype", "float32", "--batch-size", "8", SBATCH_OPTIONS=" ".join([*OPTIONS, "--ntasks-per-node=1"]),
                           AIMERGE_PYTHON=sys.executable, AIMERGE_BACKEND="hf", HF_HOME=str(self.folder / "hf"), **lm_eval_run.OFFLINE)
        self.assertEqual(chain.returncode, 0, chain.stderr)
        jobs = {line.split()[0]: line.split()[1] for line in chain.stdout.splitlines()}
        self.assertEqual(list(jobs), ["calibrate", "sweep", "evaluate", "report"])
        self.wait(jobs["report"], seconds=500)
        with open(self.folder / "sweep" / "report" / "tables" / "scores.csv", newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
        self.assertEqual({row["model"] for row in rows if row["kind"] != "merged"}, {"base", "code", "math"})
        self.assertEqual(sum(row["kind"] == "merged" for row in rows), 2)
        for row in rows:
            self.assertTrue(row["requests"] and row["choices"], row)
            self.assertEqual(bool(row["hv_gain"]), row["kind"] == "merged", row)
        self.assertIn("requests", (self.folder / "sweep" / "report" / "report.html").read_text())

    def test_a_failed_calibration_cancels_what_waits_for_it(self):
        config = self.sweep_config(aim={"calibration": {"token_ids": "no-such-file.npy"}})
        chain = self.slurm(ROOT / "slurm" / "reproduce.sh", config, SBATCH_OPTIONS=" ".join([*OPTIONS, "--ntasks-per-node=1"]))
        jobs = {line.split()[0]: line.split()[1] for line in chain.stdout.splitlines()}
        deadline = time.monotonic() + 60
        while self.state(jobs["report"]) != ["CANCELLED"]:
            self.assertLess(time.monotonic(), deadline, f"{self.state(jobs['report'])}\n{self.logs()}")
            time.sleep(0.5)
        self.assertEqual(self.state(jobs["calibrate"]), ["FAILED"])
        self.assertIn("no-such-file.npy", self.logs())

"""Models of 70 billion parameters are planned from their headers, within the memory of a small process, for machines that are not there."""
import json
import os
import subprocess
import unittest

from aimerge_command import BINARY, AimergeTest, environment
from header_only_llama import LAYERS, PARAMETERS, merge_config


# Four nodes of two ranks that read 10 GB/s each, and 25 GB/s together.
HARDWARE = """nodes: 4
gpus_per_node: 2
gpu: {tflops: 100, memory: 80 GB}
cpu: {cores_per_node: 64, merge: 2 GB/s}
link: {within_node: 100 GB/s, between_nodes: 20 GB/s, latency: 10 us}
storage: {read_per_node: 10 GB/s, write_per_node: 8 GB/s, read_total: 25 GB/s}
"""


class LargePlan(AimergeTest):
    def setUp(self):
        super().setUp()
        self.job = str(self.config(merge_config(self.folder)))

    def plan(self, *options):
        """(the plan, the largest resident memory in bytes)"""
        process = subprocess.Popen([BINARY, "plan", self.job, "--json", *options], stdout=subprocess.PIPE,
                                   stderr=subprocess.PIPE, text=True, env=environment(self.cache))
        out, err = process.stdout.read(), process.stderr.read()
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        process.stdout.close()
        process.stderr.close()
        self.assertEqual(process.returncode, 0, err)
        return json.loads(out), usage.ru_maxrss * 1024

    def test_seventy_billion_parameters_on_eight_ranks(self):
        plan, memory = self.plan("--ranks", "8")
        ranks = plan["ranks"]
        self.assertEqual(len(ranks), 8)
        self.assertEqual(sum(rank["bytesToWrite"] for rank in ranks), 2 * PARAMETERS)
        self.assertEqual(sum(rank["bytesToRead"] for rank in ranks), 4 * 2 * PARAMETERS)
        layers = [rank["endLayer"] - rank["firstLayer"] for rank in ranks]
        self.assertEqual(sum(layers), LAYERS)
        self.assertLessEqual(max(layers) - min(layers), 1)
        self.assertLess(memory, 2**30)

    def test_times_on_a_machine_of_ones_own(self):
        hardware = self.folder / "cluster.yaml"
        hardware.write_text(HARDWARE)
        plan, _ = self.plan("--hardware", str(hardware))
        self.assertEqual(len(plan["ranks"]), 8)
        phases = {phase["phase"]: phase for phase in plan["phases"]}
        model = 2 * PARAMETERS
        self.assertAlmostEqual(phases["prepare"]["seconds"], model / 10e9, delta=0.01)  # rank 0 reads the base
        self.assertEqual(phases["prepare"]["idle_ranks"], 7)
        self.assertAlmostEqual(phases["merge"]["seconds"], 4 * model / 25e9, delta=0.5)
        self.assertGreater(phases["merge"]["shares"]["reading"], 0.95)
        # Reading and computing of a rank, and filling and emptying the pipeline with 8 stages.
        flops = max(rank["calibrationFlops"] for rank in plan["ranks"])
        blocks = 256
        expected = model / 25e9 + flops / 100e12 * (1 + 7 / blocks)
        self.assertAlmostEqual(phases["calibrate"]["seconds"] / expected, 1, delta=0.03)
        for phase in phases.values():
            self.assertAlmostEqual(sum(phase["shares"].values()), 1)
        self.assertAlmostEqual(plan["seconds"], sum(phase["seconds"] for phase in phases.values()))

        through_root, _ = self.plan("--hardware", str(hardware), "--gather", "root")
        gathered = next(phase for phase in through_root["phases"] if phase["phase"] == "merge")
        self.assertGreater(gathered["seconds"], model / 8e9)  # one node writes all
        self.assertGreater(gathered["shares"]["writing"], 0)

    def test_mistakes_in_a_hardware_file_end_the_command(self):
        hardware = self.folder / "cluster.yaml"
        for text, options, message in ((HARDWARE.replace("latency", "latenzy"), [], "unknown key 'latenzy' in link; did you mean 'latency'?"),
                                       (HARDWARE, ["--ranks", "9"], f"--ranks 9: {hardware} has 8")):
            hardware.write_text(text)
            run = subprocess.run([BINARY, "plan", self.job, "--hardware", str(hardware), *options], capture_output=True, text=True,
                                 env=environment(self.cache))
            self.assertEqual(run.returncode, 2, run.stderr)
            self.assertIn(message, run.stderr)


if __name__ == "__main__":
    unittest.main()

"""Models of 70 billion parameters are planned from their headers, within the memory of a small process."""
import json
import os
import subprocess
import unittest

from aimerge_command import BINARY, AimergeTest, environment
from header_only_llama import LAYERS, PARAMETERS, merge_config


class LargePlan(AimergeTest):
    def plan(self, *options):
        """(the plan, the largest resident memory in bytes)"""
        config = self.config(merge_config(self.folder))
        process = subprocess.Popen([BINARY, "plan", str(config), "--json", *options], stdout=subprocess.PIPE,
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


if __name__ == "__main__":
    unittest.main()

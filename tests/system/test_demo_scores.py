"""The demo's experiment on all three experts, in float32: the sweep's scores against the family's published ones
(tests/data/family/scores-float32.jsonl) and against transformers on the same merged checkpoints."""
import csv
import json
import os
import pathlib
import shutil
import subprocess
import tempfile
import unittest

import yaml

import independent_scores
from aimerge_command import BINARY, DATA, environment, launcher
from peers import needs_peers

ROOT = pathlib.Path(__file__).resolve().parents[2]
FAMILY = pathlib.Path(os.environ["AIMERGE_FAMILY"])
ITEMS = {"math": 60, "code": 60, "instruct": 60, "mc": 104}
ALL = "code+instruct+math"


def demo_config(directory):
    """configs/smollm2-table1.yaml for one combination and two methods, with float32 products and checkpoints that stay."""
    config = yaml.safe_load((ROOT / "configs/smollm2-table1.yaml").read_text())
    config["base_model"] = str(FAMILY / "base")
    config["experts"] = {name: str(FAMILY / name) for name in config["experts"]}
    config["combinations"] = [ALL.split("+")]
    config["methods"] = config["methods"][:2]
    config["aim"]["calibration"]["corpus"] = str(ROOT / config["aim"]["calibration"]["corpus"])
    config["evaluation"]["suites"] = [str(ROOT / suite) for suite in config["evaluation"]["suites"]]
    config["evaluation"]["dtype"] = "float32"
    config["output"] = {"directory": str(directory), "keep": "checkpoints"}
    return config


def published():
    """{(models, method, omega): scores}, with the demo's names of methods."""
    rows = map(json.loads, (DATA / "family/scores-float32.jsonl").read_text().splitlines())
    return {(row["models"], row["method"].replace("ties05", "ties"), row["omega"]): row for row in rows}


class DemoScores(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = pathlib.Path(tempfile.mkdtemp(prefix="aimerge-test-"))
        cls.addClassCleanup(shutil.rmtree, cls.folder, ignore_errors=True)
        cls.sweep = cls.folder / "sweep"
        config = cls.folder / "sweep.yaml"
        config.write_text(json.dumps(demo_config(cls.sweep)))
        cls.aimerge("sweep", config, ranks=2)
        with open(cls.sweep / "points.csv", newline="") as file:
            cls.points = list(csv.DictReader(file))

    @classmethod
    def aimerge(cls, *arguments, ranks=0):
        result = subprocess.run([*launcher(ranks), BINARY, *map(str, arguments)], cwd=cls.folder, text=True, capture_output=True,
                                timeout=1500, env=environment(cls.folder / "cache"))
        if result.returncode:
            raise AssertionError(f"aimerge {' '.join(map(str, arguments))}\n{result.stdout}\n{result.stderr}")
        return result

    def point(self, method, omega):
        (row,) = [row for row in self.points if row["kind"] == "merged" and row["method"] == method and float(row["omega"]) == omega]
        return row

    def assert_scores(self, row, want, perplexity_tolerance):
        """Within one item of each task: two ways to add up float32 products may break a near tie differently."""
        for task, count in ITEMS.items():
            self.assertAlmostEqual(float(row[task]), 100 * want[task], delta=100 / count + 0.01, msg=f"{row['model']} {task}")
        self.assertAlmostEqual(float(row["general:ppl"]) / want["ppl"], 1, delta=perplexity_tolerance, msg=row["model"])

    def test_every_model_has_the_published_scores(self):
        wanted = published()
        self.assertEqual(len(self.points), 8)
        for row in self.points:
            if row["kind"] == "merged":
                want = wanted.pop((ALL, row["method"], float(row["omega"])))
            else:
                want = wanted.pop((row["model"], "-", None))
            self.assert_scores(row, want, 0.002)  # published so: no perplexity moves by more between two implementations
        self.assertFalse(wanted)

    @needs_peers
    def test_transformers_gives_the_checkpoints_the_same_scores(self):
        for omega in (1.0, 0.4):
            row = self.point("task_arithmetic", omega)
            scores = independent_scores.score(self.sweep / row["model"], ROOT / "configs/smollm2/suites", ROOT / "configs/smollm2/general.txt")
            self.assert_scores(row, scores, 0.0005)

    def test_aim_raises_the_hypervolume_gain_as_published(self):
        rows = self.aimerge("report", self.sweep, "--json").stdout
        gains = {row["model"]: row["hv_gain"] for row in json.loads(rows)["merges"]}
        # An item more or less moves a gain by up to 0.02.
        self.assertAlmostEqual(gains[self.point("task_arithmetic", 1.0)["model"]], 0.20, delta=0.03)
        self.assertAlmostEqual(gains[self.point("task_arithmetic", 0.4)["model"]], 0.55, delta=0.03)


if __name__ == "__main__":
    unittest.main()

"""Feature calibration on the real family: fitted on one half of each suite's items, scored on the other."""
import hashlib
import json
import os
import pathlib
import unittest

from aimerge_command import AimergeTest

ROOT = pathlib.Path(__file__).resolve().parents[2]
FAMILY = pathlib.Path(os.environ["AIMERGE_FAMILY"])
TASKS = ("code", "instruct", "math")


def is_for_fitting(item):
    return hashlib.sha256(item["prompt"].encode()).digest()[0] % 2 == 0


class FeatcalScores(AimergeTest):
    def setUp(self):
        super().setUp()
        for task in TASKS:
            items = [json.loads(line) for line in (ROOT / f"configs/smollm2/suites/{task}.jsonl").read_text().splitlines()]
            fitted = [item for item in items if is_for_fitting(item)]
            scored = [item for item in items if not is_for_fitting(item)]
            self.assertGreater(min(len(fitted), len(scored)), 20)
            self.assertFalse({item["prompt"] for item in fitted} & {item["prompt"] for item in scored})
            for name, half in (("text", fitted), ("suite", scored)):
                (self.folder / f"{task}-{name}.jsonl").write_text("".join(json.dumps(item) + "\n" for item in half))

    def config_of(self, method, **keys):
        models = [{"model": str(FAMILY / task), "parameters": {"weight": 1.0},
                   "calibration": {"corpus": str(self.folder / f"{task}-text.jsonl"), "text_key": ["prompt", "target"],
                                   "sequences": 8, "sequence_length": 256, "dtype": "float32"}} for task in TASKS]
        return {"merge_method": method, "base_model": str(FAMILY / "base"), "models": models, "dtype": "bfloat16", **keys}

    def score_of(self, name, config):
        """The mean exact match of the three tasks."""
        self.aimerge("merge", self.config(config, f"{name}.yaml"), "--out", self.folder / name)
        suites = [option for task in TASKS for option in ("--suite", self.folder / f"{task}-suite.jsonl")]
        tasks = json.loads(self.aimerge("evaluate", self.folder / name, *suites, "--json").stdout)["tasks"]
        self.assertEqual(set(tasks), set(TASKS))
        return sum(float(task["score"]) for task in tasks.values()) / len(tasks)

    def test_that_it_is_better_than_aim_alone_and_than_regmean(self):
        corpus = {"corpus": str(ROOT / "configs/smollm2/calibration.txt"), "sequences": 32, "sequence_length": 256, "shuffle": False}
        aim = {"omega": 0.1, "shape": "top:0.2", "calibration": corpus}
        alone = self.score_of("aim", self.config_of("task_arithmetic", aim=aim))
        fitted = self.score_of("featcal", self.config_of("task_arithmetic", aim=aim, featcal={"lambda": 0.01}))
        regmean = self.score_of("regmean", self.config_of("regmean"))
        print(f"mean exact match: AIM {alone:.3f}, regmean {regmean:.3f}, AIM and featcal {fitted:.3f}")
        self.assertGreater(fitted, alone + 0.05)
        self.assertGreater(fitted, regmean)


if __name__ == "__main__":
    unittest.main()

"""`aimerge sweep` on the golden family: points against `aimerge merge` and `aimerge evaluate`, restarts, changes, failures."""
import csv
import json
import random
import shutil
import struct
import subprocess
import time

from aimerge_command import BINARY, GOLDENS, AimergeTest, environment, file_bytes, launcher

FAMILY = GOLDENS / "family_f32"


class Sweep(AimergeTest):
    def setUp(self):
        super().setUp()
        self.token_ids = self.blocks()
        suite = self.folder / "suite.jsonl"
        requests = json.loads((GOLDENS / "loglikelihood.json").read_text())
        suite.write_text("".join(json.dumps({"task": "t", "context_ids": r["context"], "continuation_ids": r["continuation"]}) + "\n"
                                 for r in requests) + json.dumps({"task": "text", "text_ids": list(range(2, 120))}) + "\n")

    def sweep(self, **changes):
        config = {"base_model": str(FAMILY / "base"), "experts": {"a": str(FAMILY / "expert_a"), "b": str(FAMILY / "expert_b")},
                  "methods": ["task_arithmetic", {"merge_method": "ties", "parameters": {"density": 0.5}},
                              {"merge_method": "dare_linear", "parameters": {"density": 0.5}}],
                  "omega": [1.0, 0.4], "dtype": "bfloat16",
                  "aim": {"calibration": {"token_ids": str(self.token_ids), "sequences": 8, "dtype": "float32"}},
                  "evaluation": {"suites": [str(self.folder / "suite.jsonl")], "block_length": 32},
                  "output": {"directory": "out", "keep": "checkpoints"}, **changes}
        return self.config({key: value for key, value in config.items() if value is not None}, "sweep.yaml")

    def points(self, folder="out"):
        with open(self.folder / folder / "points.csv", newline="") as file:
            return {row["model"]: row for row in csv.DictReader(file)}

    def scores(self, folder="out"):
        return {name: (row["status"], row["t"], row["text:ppl"]) for name, row in self.points(folder).items()}

    def journal_lines(self, folder="out"):
        return [json.loads(line)["point"] for line in (self.folder / folder / "journal").read_text().splitlines()]

    def test_every_point_is_what_merge_and_evaluate_make(self):
        self.aimerge("sweep", self.sweep(), "--threads", 1)
        points = self.points()
        self.assertEqual(len(points), 3 + 6)
        self.assertEqual({row["status"] for row in points.values()}, {"done"})
        for name in ("task_arithmetic-a+b-omega-1.0", "ties-a+b-omega-0.4", "dare_linear-a+b-omega-0.4"):
            config = self.folder / "out" / name / "mergekit_config.yml"
            self.aimerge("merge", config, "--out", "alone", "--overwrite", "--threads", 1)
            self.assertEqual(file_bytes(self.folder / "alone"), file_bytes(self.folder / "out" / name))
            suite = self.folder / "suite.jsonl"
            said = json.loads(self.aimerge("evaluate", self.folder / "out" / name, "--suite", suite, "--block-length", 32, "--json",
                                           "--threads", 1).stdout)["tasks"]
            self.assertEqual(float(points[name]["t"]), 100 * said["t"]["score"])
            self.assertEqual(float(points[name]["text:ppl"]), said["text"]["score"])

    def test_a_method_is_relaxed_in_several_ways(self):
        ways = [{"merge_method": "task_arithmetic", "name": name, "aim": aim}
                for name, aim in (("plain", {}), ("wanda", {"statistic": "wanda"}), ("experts", {"source": "mean"}), ("own", {"source": "experts"}),
                                  ("scaled", {"control": "scale"}), ("gradients", {"statistic": "sensitivity"}))]
        self.aimerge("sweep", self.sweep(methods=ways), "--threads", 1)
        self.aimerge("sweep", self.sweep(methods=ways, output={"directory": "memory", "keep": "scores"}), "--threads", 1, ranks=2)
        scores = self.scores()
        self.assertEqual(self.scores("memory"), scores)
        names = [way["name"] for way in ways]
        self.assertEqual(len({scores[f"{name}-a+b-omega-1.0"] for name in names}), 1)
        self.assertEqual(len({scores[f"{name}-a+b-omega-0.4"] for name in names}), len(names))

    GRID = {"density": [0.2, 0.5], "lambda": [0.5], "weight": {"a": [0.4, 0.8]}, "aim": {"shape": ["linear", "top:0.2"]}}
    METHODS = ["task_arithmetic", "ties"]

    def test_a_grid_is_what_merges_of_its_values_make(self):
        """The configs are written here: what the sweep says of its points is not asked."""
        said = self.aimerge("sweep", self.sweep(methods=self.METHODS, grid=self.GRID), "--threads", 1).stderr
        self.assertEqual(said.count("grid.density: not of task_arithmetic"), 1)
        points = self.points()
        self.assertEqual(len(points), 3 + 2 * 3 + 4 * 3)
        self.assertEqual({row["status"] for row in points.values()}, {"done"})
        for name, parameters, weight, aim in (
                ("task_arithmetic-a+b-lambda-0.5-weight_a-0.8-omega-1.0", {"lambda": 0.5}, 0.8, None),
                ("ties-a+b-density-0.2-lambda-0.5-weight_a-0.4-aim_shape-top-0.2-omega-0.4", {"density": 0.2, "lambda": 0.5}, 0.4,
                 {"omega": 0.4, "shape": "top:0.2"}),
                ("ties-a+b-density-0.5-lambda-0.5-weight_a-0.8-aim_shape-linear-omega-0.4", {"density": 0.5, "lambda": 0.5}, 0.8,
                 {"omega": 0.4})):
            calibration = {"token_ids": str(self.token_ids), "sequences": 8, "dtype": "float32"}
            config = {"merge_method": name.split("-")[0], "base_model": str(FAMILY / "base"), "dtype": "bfloat16",
                      "models": [{"model": str(FAMILY / "expert_a"), "parameters": {"weight": weight}},
                                 {"model": str(FAMILY / "expert_b"), "parameters": {"weight": 1.0}}],
                      "parameters": parameters, **({"aim": {**aim, "calibration": calibration}} if aim else {})}
            self.aimerge("merge", self.config(config), "--out", "alone", "--overwrite", "--threads", 1)
            made = self.folder / "out" / name
            self.assertEqual((made / "model.safetensors").read_bytes(), (self.folder / "alone/model.safetensors").read_bytes())
        row = points["ties-a+b-density-0.2-lambda-0.5-weight_a-0.4-aim_shape-top-0.2-omega-0.4"]
        self.assertEqual([row[f"grid:{key}"] for key in ("density", "lambda", "weight_a", "aim_shape")], ["0.2", "0.5", "0.4", "top:0.2"])
        self.assertEqual(points["base"]["grid:density"], "")

        scores = self.scores()
        self.assertEqual(len({value for name, value in scores.items() if name.startswith("ties")}), 12)
        for folder, options, ranks in (("memory", (), 2), ("small", ("--memory-limit", "4MB"), 0)):
            config = self.sweep(methods=self.METHODS, grid=self.GRID, output={"directory": folder, "keep": "scores"})
            self.aimerge("sweep", config, "--threads", 1, *options, ranks=ranks)
            self.assertEqual(self.scores(folder), scores)
        answer = json.loads(self.aimerge("report", self.folder / "out", "--json").stdout)
        self.assertEqual(len(answer["merges"]), 18)

    def test_a_changed_grid_leaves_what_is_done(self):
        output = {"directory": "out", "keep": "scores"}
        def sweep(*options, **grid):
            config = self.sweep(methods=self.METHODS, omega=1.0, aim=None, output=output, **({"grid": grid} if grid else {}))
            self.aimerge("sweep", config, *options)
            return self.journal_lines()
        first = sweep()
        self.assertEqual(len(first), 3 + 2)
        second = sweep(density=[0.2, 0.5])
        self.assertEqual(second[len(first):], [f"ties-a+b-density-{density}-omega-1.0" for density in (0.2, 0.5)])
        third = sweep("--only", "density=0.80", density=[0.20, 0.3, 0.8])
        self.assertEqual(third[len(second):], ["ties-a+b-density-0.8-omega-1.0"])
        self.assertEqual(sweep(density=[0.8, 0.3])[len(third):], ["ties-a+b-density-0.3-omega-1.0"])

    def test_scores_are_the_same_without_checkpoints_and_on_any_ranks(self):
        self.aimerge("sweep", self.sweep(), "--threads", 1)
        self.aimerge("sweep", self.sweep(output={"directory": "kept", "keep": "checkpoints"}), "--threads", 1, ranks=3)
        self.assertEqual(self.scores("kept"), self.scores())
        for ranks, folder in ((0, "one"), (2, "two")):
            config = self.sweep(output={"directory": folder, "keep": "scores"})
            self.aimerge("sweep", config, "--threads", 1, ranks=ranks)
            self.assertEqual(self.scores(folder), self.scores())
            self.assertEqual([path.name for path in (self.folder / folder).rglob("*.safetensors")], [])
        small = self.sweep(output={"directory": "small", "keep": "scores"})
        self.aimerge("sweep", small, "--threads", 1, "--memory-limit", "4MB")
        self.assertEqual(self.scores("small"), self.scores())

    def test_without_suites_only_merges_are_to_be_done(self):
        self.aimerge("sweep", self.sweep(evaluation=None), "--only", "method=ties")
        status = {name: row["status"] for name, row in self.points().items()}
        self.assertEqual([status[name] for name in ("base", "a", "b")], ["done"] * 3)
        self.assertEqual({value for name, value in status.items() if name.startswith("task")}, {"pending"})
        self.assertEqual({value for name, value in status.items() if name.startswith("ties")}, {"done"})

    def test_only_what_changed_is_done_again(self):
        self.aimerge("sweep", self.sweep(output={"directory": "out", "keep": "scores"}), "--only", "method=ties")
        self.assertEqual(sum(row["status"] == "pending" for row in self.points().values()), 4)
        grown = self.sweep(output={"directory": "out", "keep": "scores"})
        self.aimerge("sweep", grown)
        lines = self.journal_lines()
        self.assertEqual(len(lines), 9)
        self.assertEqual(len(set(lines)), 9)
        self.aimerge("sweep", grown)
        self.assertEqual(self.journal_lines(), lines)
        changed = self.sweep(output={"directory": "out", "keep": "scores"},
                             methods=["task_arithmetic", {"merge_method": "ties", "parameters": {"density": 0.4}}])
        self.aimerge("sweep", changed)
        self.assertEqual(self.journal_lines()[9:], ["ties-a+b-omega-1.0", "ties-a+b-omega-0.4"])

    def test_failing_points_are_recorded_and_the_others_are_done(self):
        """slerp takes one model beside the base, and expert_c has a token more than the others."""
        for keep in ("checkpoints", "scores"):
            config = self.sweep(methods=[{"merge_method": "slerp", "parameters": {"t": 0.5}}, "task_arithmetic"],
                                experts={name: str(FAMILY / f"expert_{name}") for name in "abc"}, omega=1.0, aim=None,
                                combinations=[["a", "b", "c"], ["a"]], output={"directory": keep, "keep": keep})
            for ranks in (0, 2):
                result = self.aimerge("sweep", config, ranks=ranks, expect=4)
                self.assertIn("2 of 8 points failed", result.stderr)
                points = self.points(keep)
                self.assertEqual(points["slerp-a+b+c-omega-1.0"]["status"], "failed")
                self.assertIn("slerp needs exactly 1 model", points["slerp-a+b+c-omega-1.0"]["error"])
                self.assertIn("vocabularies of different size", points["task_arithmetic-a+b+c-omega-1.0"]["error"])
                self.assertEqual(sum(row["status"] == "done" for row in points.values()), 6)

    def test_a_model_whose_scores_are_no_numbers_fails_alone(self):
        broken = self.folder / "broken"
        shutil.copytree(FAMILY / "expert_a", broken)
        weights = broken / "model.safetensors"
        data = bytearray(weights.read_bytes())
        data[-4:] = struct.pack("<f", float("nan"))
        weights.write_bytes(data)
        config = self.sweep(experts={"a": str(broken), "b": str(FAMILY / "expert_b")}, methods=["task_arithmetic"], omega=1.0,
                            aim=None, combinations=[["b"]], output={"directory": "out", "keep": "scores"})
        self.aimerge("sweep", config, expect=4)
        points = self.points()
        self.assertIn("no finite number", points["a"]["error"])
        self.assertEqual({points[name]["status"] for name in ("base", "b", "task_arithmetic-b-omega-1.0")}, {"done"})

    def test_killed_at_any_moment_nothing_is_lost_and_nothing_done_twice(self):
        self.aimerge("sweep", self.sweep(output={"directory": "whole", "keep": "checkpoints"}), "--threads", 1)
        config = self.sweep()
        chance = random.Random(5)
        for attempt in range(6):
            process = subprocess.Popen([*launcher(2 if attempt % 2 else 0), BINARY, "sweep", str(config), "--threads", "1"],
                                       cwd=self.folder, env=environment(self.cache), stdout=subprocess.DEVNULL,
                                       stderr=subprocess.DEVNULL, start_new_session=True)
            time.sleep(chance.uniform(0.2, 2.5))
            for _ in range(100):  # a rank may just be starting
                if subprocess.run(["pkill", "-KILL", "-s", str(process.pid)], check=False).returncode:
                    break
                process.poll()
                time.sleep(0.05)
            process.wait()
        self.aimerge("sweep", config, "--threads", 1)
        self.assertEqual(self.scores(), self.scores("whole"))
        lines = self.journal_lines()
        self.assertEqual(len(lines), len(set(lines)))
        for name in self.points():
            if name not in ("base", "a", "b"):
                self.assertEqual(file_bytes(self.folder / "out" / name), file_bytes(self.folder / "whole" / name))
        self.assertEqual(list((self.folder / "out").glob("*.partial*")), [])

    def test_dry_run_says_what_there_is_to_do_and_writes_nothing(self):
        said = self.aimerge("sweep", self.sweep(), "--dry-run").stdout
        self.assertIn("9 of 9 points to do", said)
        self.assertFalse((self.folder / "out").exists())
        self.assertIn("omegas", self.aimerge("sweep", self.sweep(omegas=1), expect=2).stderr)

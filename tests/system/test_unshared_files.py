"""--io scatter and --gather root: ranks that do not see the models, or the output, make the same bytes. What they must not see is hidden
from them by a preloaded library."""
import csv
import json
import os
import unittest

import numpy as np
from safetensors.numpy import save_file

from aimerge_command import GOLDENS, AimergeTest, file_bytes
from test_identity import statistics

HIDE = os.environ["AIMERGE_HIDE_FOLDERS"]


class UnsharedFiles(AimergeTest):
    def hidden(self, *folders):
        return {"LD_PRELOAD": HIDE, "HIDDEN_FOLDERS": ":".join(map(str, folders)), "AIMERGE_SCRATCH_DIR": str(self.scratch())}

    def scratch(self):
        folder = self.folder / "scratch"
        folder.mkdir(exist_ok=True)
        return folder

    def merge(self, name, config, *options, **keywords):
        out = self.folder / name
        self.aimerge("merge", self.config(config), "--out", out, "--threads", 1, "--max-shard-size", "200KB", *options,
                     **keywords)
        return out

    def test_the_hidden_folders_are_hidden(self):
        failed = self.aimerge("merge", self.config(self.merge_config()), "--out", self.folder / "out", ranks=2, expect=3,
                              **self.hidden(GOLDENS))
        self.assertIn("no such folder", failed.stderr)

    def test_all_four_ways_make_the_same_bytes(self):
        config = self.merge_config("ties", omega=[0.4, 1.0], parameters={"density": 0.5})
        alone = self.merge("alone", config, AIMERGE_CACHE_DIR=str(self.folder / "cache-alone"))
        for io in ("direct", "scatter"):
            for gather in ("direct", "root"):
                with self.subTest(io=io, gather=gather):
                    name = f"{io}-{gather}"
                    away = [*([GOLDENS] if io == "scatter" else []), *([self.folder / name] if gather == "root" else [])]
                    out = self.merge(name, config, "--io", io, "--gather", gather, ranks=3, **self.hidden(*away),
                                     AIMERGE_CACHE_DIR=str(self.folder / f"cache-{name}"))
                    for omega in ("omega-0.4", "omega-1.0"):
                        self.assertEqual(file_bytes(out / omega), file_bytes(alone / omega))
                    self.assertEqual(statistics(out / "omega-0.4/aimerge_statistics.h5"),
                                     statistics(alone / "omega-0.4/aimerge_statistics.h5"))
                    self.assertEqual(list(self.scratch().iterdir()), [])
        self.assertGreater(len(file_bytes(alone / "omega-0.4")), 3)

    def test_a_calibration_by_stages_and_replicas(self):
        config = self.config(self.merge_config(omega=0.4))
        self.aimerge("calibrate", config, "--out", self.folder / "alone.h5", "--threads", 1)
        for ranks, options in ((3, ()), (4, ("--replicas", 2))):
            log = self.folder / f"{ranks}.h5"
            self.aimerge("calibrate", config, "--out", log, "--threads", 1, "--io", "scatter", *options, ranks=ranks,
                         **self.hidden(GOLDENS), AIMERGE_CACHE_DIR=str(self.folder / f"cache-{ranks}"))
            self.assertEqual(statistics(log), statistics(self.folder / "alone.h5"))

    def test_an_adapter_and_tokens_of_other_models(self):
        base = GOLDENS / "family_f32/base"
        adapter = self.folder / "adapter"
        adapter.mkdir()
        (adapter / "adapter_config.json").write_text('{"peft_type": "LORA", "r": 2, "lora_alpha": 4, "target_modules": ["q_proj"]}')
        draw = np.random.default_rng(5)
        width = json.loads((base / "config.json").read_text())["hidden_size"]
        prefix = "base_model.model.model.layers.1.self_attn.q_proj.lora_"
        save_file({prefix + "A.weight": draw.standard_normal((2, width), dtype=np.float32),
                   prefix + "B.weight": draw.standard_normal((width, 2), dtype=np.float32)}, adapter / "adapter_model.safetensors")
        config = {"merge_method": "task_arithmetic", "base_model": str(base), "dtype": "float32",
                  "models": [{"model": f"{base}+{adapter}", "parameters": {"weight": 0.5}},
                             {"model": str(GOLDENS / "family_f32/expert_a"), "parameters": {"weight": 0.5}}]}
        alone = self.merge("alone", config)
        out = self.merge("out", config, "--io", "scatter", "--gather", "root", ranks=3,
                         **self.hidden(GOLDENS, adapter, self.folder / "out"))
        self.assertEqual(file_bytes(out), file_bytes(alone))

    def test_a_model_is_scored(self):
        model = GOLDENS / "family_f32/expert_a"
        options = ("evaluate", model, "--suite", self.likelihood_suite(), "--block-length", 32, "--threads", 1, "--json")
        alone = self.aimerge(*options).stdout
        self.assertEqual(self.aimerge(*options, "--io", "scatter", ranks=3, **self.hidden(GOLDENS)).stdout, alone)
        self.assertEqual(list(self.scratch().iterdir()), [])

    def test_a_sweep(self):
        def sweep(folder, keep, *options, **keywords):
            family = GOLDENS / "family_f32"
            config = {"base_model": str(family / "base"), "experts": {name: str(family / f"expert_{name}") for name in "ab"},
                      "methods": ["task_arithmetic", "ties"], "grid": {"density": [0.2, 0.5]}, "omega": [1.0, 0.4], "dtype": "bfloat16",
                      "aim": {"calibration": {"token_ids": str(self.blocks()), "sequences": 8, "dtype": "float32"}},
                      "evaluation": {"suites": [str(self.likelihood_suite())], "block_length": 32},
                      "output": {"directory": folder, "keep": keep}}
            self.aimerge("sweep", self.config(config, f"{folder}.yaml"), "--threads", 1, *options,
                         AIMERGE_CACHE_DIR=str(self.folder / f"cache-{folder}"), **keywords)
            with open(self.folder / folder / "points.csv", newline="") as file:
                return {row["model"]: (row["status"], row["t"], row["text:ppl"]) for row in csv.DictReader(file)}
        alone = sweep("alone", "checkpoints")
        self.assertEqual({status for status, *_ in alone.values()}, {"done"})
        for folder, keep, options, away in (
                ("scores", "scores", ("--io", "scatter", "--memory-limit", "4MB"), [GOLDENS, self.folder / "scores"]),
                ("gathered", "checkpoints", ("--gather", "root"), [self.folder / "gathered"]),
                ("both", "checkpoints", ("--io", "scatter", "--gather", "root"), [GOLDENS, self.folder / "both"])):
            with self.subTest(folder):
                self.assertEqual(sweep(folder, keep, *options, ranks=3, **self.hidden(*away)), alone)
                self.assertEqual(list(self.scratch().iterdir()), [])
                for name in alone if keep == "checkpoints" else ():
                    if "omega" in name:
                        self.assertEqual(file_bytes(self.folder / folder / name), file_bytes(self.folder / "alone" / name))

    def test_points_that_need_shared_files_fail_alone(self):
        family = GOLDENS / "family_f32"
        config = {"base_model": str(family / "base"), "experts": {name: str(family / f"expert_{name}") for name in "ab"},
                  "methods": ["task_arithmetic", "regmean"], "omega": 1.0, "combinations": [["a", "b"]], "output": {"directory": "out"},
                  "calibration": {"token_ids": str(self.blocks()), "sequences": 8, "dtype": "float32"}}
        failed = self.aimerge("sweep", self.config(config), "--io", "scatter", ranks=2, expect=4, **self.hidden(GOLDENS))
        self.assertIn("regmean-a+b-omega-1.0: ", failed.stderr)
        self.assertIn("use --io direct", failed.stderr)
        self.assertTrue((self.folder / "out/task_arithmetic-a+b-omega-1.0/config.json").exists())

    def test_what_is_measured_on_experts_needs_shared_files(self):
        config = self.merge_config("regmean", calibration={"token_ids": str(self.blocks()), "sequences": 8, "dtype": "float32"})
        refused = self.aimerge("merge", self.config(config), "--out", self.folder / "out", "--io", "scatter", ranks=2, expect=2)
        self.assertIn("--io direct", refused.stderr)


if __name__ == "__main__":
    unittest.main()

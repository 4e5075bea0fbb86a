"""Whole commands with --device cuda against --device cpu: bytes of merges, statistics, scores; two ranks over NCCL on one GPU."""
import json
import subprocess
import unittest

import h5py
import numpy as np

from aimerge_command import GOLDENS, AimergeTest, file_bytes


def statistics(path):
    with h5py.File(path) as file:
        return {f"{module}/{name}": data[:] for module, group in file["statistics"].items() for name, data in group.items()}


class OnTheGpu(AimergeTest):
    def test_merges_have_the_bytes_of_the_processors(self):
        for method, parameters in [("linear", {"weight": 1.0}), ("task_arithmetic", {}), ("ties", {"density": 0.5}), ("dare_ties", {"density": 0.5}),
                                   ("della_linear", {"density": 0.5}), ("breadcrumbs", {"density": 0.5}), ("sce", {"select_topk": 0.5}),
                                   ("karcher", {}), ("model_stock", {}), ("widen", {}), ("actmat", {})]:
            config = self.merge_config(method, omega=[1.0, 0.4], parameters=parameters, out_dtype="bfloat16")
            if method in ("sce", "karcher", "model_stock", "widen"):  # these take no weight
                config["models"] = [{"model": entry["model"]} for entry in config["models"]]
            with self.subTest(method=method):
                results = []
                for device in ("cpu", "cuda"):
                    out = self.folder / f"{method}-{device}"
                    log = self.folder / "statistics.h5"
                    if not log.exists():
                        self.aimerge("calibrate", self.config(config), "--out", log, "--device", "cpu")
                    self.aimerge("merge", self.config({**config, "aim": {"omega": [1.0, 0.4], "statistics": str(log)}}), "--out", out,
                                 "--device", device)
                    results.append({omega: file_bytes(out / f"omega-{omega}") for omega in ("1.0", "0.4")})
                self.assertEqual(results[0], results[1])

    def test_statistics_are_close_to_those_of_the_processors(self):
        for dtype, tolerance in (("float32", 1e-4), ("bfloat16", 1e-2)):
            config = self.merge_config(omega=0.4)
            config["aim"]["calibration"]["dtype"] = dtype
            logs = {}
            for device in ("cpu", "cuda"):
                log = self.folder / f"{dtype}-{device}.h5"
                self.aimerge("calibrate", self.config(config), "--out", log, "--device", device,
                             AIMERGE_CACHE_DIR=str(self.folder / f"cache-{device}-{dtype}"))
                logs[device] = statistics(log)
            for name, expected in logs["cpu"].items():
                difference = np.max(np.abs(logs["cuda"][name] - expected)) / np.max(np.abs(expected))
                # A largest value is one value, with all of its rounding.
                self.assertLess(difference, (5 if name.endswith("max_abs") else 1) * tolerance, f"{dtype} {name}")

    def test_two_ranks_have_the_bits_of_one(self):
        config = self.config(self.merge_config(omega=0.4))
        alone, together = self.folder / "alone.h5", self.folder / "together.h5"
        self.aimerge("calibrate", config, "--out", alone, "--device", "cuda", AIMERGE_CACHE_DIR=str(self.folder / "cache-1"))
        self.aimerge("calibrate", config, "--out", together, "--device", "cuda", ranks=2, AIMERGE_CACHE_DIR=str(self.folder / "cache-2"))
        expected, found = statistics(alone), statistics(together)
        self.assertEqual(expected.keys(), found.keys())
        for name in expected:
            np.testing.assert_array_equal(found[name], expected[name], name)

    def test_scores_are_those_of_the_processors(self):
        requests = json.loads((GOLDENS / "loglikelihood.json").read_text())
        suite = self.folder / "requests.jsonl"
        suite.write_text("".join(json.dumps({"task": "t", "context_ids": r["context"], "continuation_ids": r["continuation"]}) + "\n"
                                 for r in requests))
        command = ("evaluate", GOLDENS / "family_f32" / "base", "--suite", suite, "--json", "--samples", "samples.jsonl", "--device", "cuda")
        for run in (lambda: self.aimerge(*command), lambda: self.aimerge(*command, ranks=2)):
            run()
            rows = [json.loads(line) for line in (self.folder / "samples.jsonl").read_text().splitlines()]
            self.assertEqual(len(rows), len(requests))
            for row, request in zip(rows, requests):
                self.assertAlmostEqual(row["loglikelihood"], request["results"]["base"]["loglikelihood"], delta=1e-3)

    def test_more_ranks_than_gpus_are_refused(self):
        command = ("evaluate", GOLDENS / "family_f32" / "base", "--suite", "s.jsonl", "--device", "cuda")
        visible = subprocess.run(["nvidia-smi", "--list-gpus"], text=True, capture_output=True).stdout.count("GPU ")
        if visible != 1:
            self.skipTest(f"{visible} GPUs")
        refused = self.aimerge(*command, ranks=2, expect=2, AIMERGE_SHARE_GPUS="0")
        self.assertIn("rank 0 and rank 1 would share", refused.stderr)

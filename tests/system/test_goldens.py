"""Merges and statistics of the whole command against numbers made with the reference implementations."""
import copy
import json
import unittest

import h5py
import numpy as np

from aimerge_command import GOLDENS, AimergeTest, as_float, float_to_bf16, golden_manifest, read_folder, read_raw

METHODS = {"linear", "task_arithmetic", "ties"}


def with_paths(config, family):
    """The golden's config with absolute model paths."""
    config = copy.deepcopy(config)
    for entry in config["models"]:
        entry["model"] = str(GOLDENS / family / entry["model"])
    if "base_model" in config:
        config["base_model"] = str(GOLDENS / family / config["base_model"])
    return config


class MergesEqualTheReference(AimergeTest):
    def test_float32(self):
        ran = 0
        for name, entry in golden_manifest().items():
            config = entry.get("config") or {}
            # Goldens in bf16 arithmetic state what the reference does, not what we promise.
            if entry["kind"] != "merge" or config.get("merge_method") not in METHODS or config.get("dtype") != "float32":
                continue
            if config.get("out_dtype"):
                continue
            with self.subTest(golden=name):
                config = with_paths(config, f"family_{entry['family']}")
                config.update(entry.get("options") or {})
                out = self.folder / name
                self.aimerge("merge", self.config(config), "--out", out)
                got = read_folder(out)
                self.assertEqual(len(got), entry["all_output_tensors"])
                for tensor, want in read_raw(GOLDENS / entry["file"]).items():
                    self.assert_within(as_float(got[tensor]), as_float(want), entry["tolerance"], f"{name} {tensor}")
                ran += 1
        self.assertGreaterEqual(ran, 13)

    def test_aim_at_every_omega(self):
        goldens = golden_manifest()
        for method in ("task_arithmetic", "ties"):
            config = with_paths(goldens[method]["config"], "family_f32")
            omegas = [0.0, 0.2, 0.4, 0.6, 0.8, 1.0]
            config["aim"] = {"omega": omegas,
                             "calibration": {"token_ids": str(self.blocks()), "sequences": 8, "dtype": "float32"}}
            out = self.folder / method
            self.aimerge("merge", self.config(config), "--out", out)
            for omega in omegas:
                got = read_folder(out / f"omega-{omega}")
                entry = goldens[f"aim_{method}_{omega:.1f}"]
                for tensor, want in read_raw(GOLDENS / entry["file"]).items():
                    self.assert_within(as_float(got[tensor]), as_float(want), entry["tolerance"], f"{method} {omega} {tensor}")

    def test_bf16_output_equals_the_reference_rounded(self):
        """At most one element in 10^5 may differ, where float32 sums fall on either side of a rounding boundary."""
        differing, total = 0, 0
        goldens = golden_manifest()
        for name in ("task_arithmetic", "ties", "ties_default_density"):
            config = with_paths(goldens[name]["config"], "family_f32")
            config["out_dtype"] = "bfloat16"
            out = self.folder / name
            self.aimerge("merge", self.config(config), "--out", out)
            got = read_folder(out)
            for tensor, want in read_raw(GOLDENS / goldens[name]["file"]).items():
                bits = np.frombuffer(got[tensor][2], np.uint16)
                reference = float_to_bf16(as_float(want).astype(np.float32)).ravel()
                differing += int(np.sum(bits != reference))
                total += bits.size
        self.assertLessEqual(differing, total / 1e5, f"{differing} of {total} elements differ")


class StatisticsEqualTheReference(AimergeTest):
    def test_every_statistic_in_float32(self):
        goldens = golden_manifest()
        log = self.folder / "stats.h5"
        self.aimerge("calibrate", self.config(self.merge_config(omega=0.4)), "--out", log)
        with h5py.File(log) as file:
            for golden, dataset in (("statistics_f32", "mean_abs"), ("statistics_f32_rms", "rms"), ("statistics_f32_max_abs", "max_abs")):
                wanted = read_raw(GOLDENS / goldens[golden]["file"])
                self.assertEqual(set(file["statistics"]), set(wanted))
                for module, want in wanted.items():
                    got = file["statistics"][module][dataset][:]
                    self.assert_within(got, as_float(want), goldens[golden]["tolerance"], f"{golden} {module}")
                    self.assertEqual(file["statistics"][module].attrs["tokens"], 8 * 64)


if __name__ == "__main__":
    unittest.main()

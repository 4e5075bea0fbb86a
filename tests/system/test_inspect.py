"""What `aimerge inspect` says of a statistics log with fused experts."""
import json
import unittest

import h5py
import numpy as np

from aimerge_command import GOLDENS, AimergeTest

EXPERTS = "model.layers.0.mlp.experts.down_proj"
PLAIN = "model.layers.0.mlp.up_proj"


class InspectExperts(AimergeTest):
    def setUp(self):
        super().setUp()
        config = {"base_model": str(GOLDENS / "family_f32/base"), "aim": self.merge_config(omega=0.4)["aim"]}
        log = self.folder / "plain.h5"
        self.aimerge("calibrate", self.config(config), "--out", log, "--threads", 1)
        self.log = self.folder / "fused.h5"
        self.log.write_bytes(log.read_bytes()[512:])  # without its checksum
        with h5py.File(self.log, "r+") as file:
            group = file.create_group(f"statistics/{EXPERTS}")
            group.attrs["tokens"] = np.array([500, 0, 60, 100])
            group.attrs["input_axis"] = -2
            for name in ("mean_abs", "rms", "max_abs"):
                group[name] = np.array([[1, 2], [0, 0], [4, 8], [3, 6]], np.float32)

    def test_json(self):
        described = json.loads(self.aimerge("inspect", self.log, "--json").stdout)["statistics"]["modules"]
        modules = {module["module"]: module for module in described}
        self.assertEqual(modules[EXPERTS]["experts"],
                         {"count": 4, "without_tokens": 1, "under_100_tokens": 2, "tokens": [500, 0, 60, 100]})
        self.assertEqual({key: modules[EXPERTS][key] for key in ("channels", "tokens", "input_axis")},
                         {"channels": 2, "tokens": 660, "input_axis": -2})
        self.assertEqual(modules[EXPERTS]["mean_abs_max"], 8)
        self.assertEqual(modules[EXPERTS]["importance_mean"], (3 * 1.5) / 8)  # each expert by its own largest channel
        self.assertNotIn("experts", modules[PLAIN])
        self.assertEqual(modules[PLAIN]["input_axis"], -1)

    def test_the_table_has_a_line_per_fused_module(self):
        lines = [line.split() for line in self.aimerge("inspect", self.log).stdout.split("input axis\n")[1].splitlines()]
        self.assertEqual(lines, [[EXPERTS, "4", "1", "2", "-2"]])


if __name__ == "__main__":
    unittest.main()

"""config.json and the index as Python's json module and other programs write them."""
import json
import math
import shutil
import unittest

from safetensors.numpy import load_file, save_file

from aimerge_command import GOLDENS, AimergeTest, file_bytes


class ConfigJson(AimergeTest):
    def setUp(self):
        super().setUp()
        for name in ("base", "expert_a"):
            shutil.copytree(GOLDENS / "family_f32" / name, self.folder / name)

    def edit_config(self, **changes):
        for name in ("base", "expert_a"):
            path = self.folder / name / "config.json"
            path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))

    def merged(self, out, **keys):
        config = {"merge_method": "task_arithmetic", "base_model": str(self.folder / "base"), "dtype": "float32",
                  "models": [{"model": str(self.folder / "expert_a"), "parameters": {"weight": 0.5}}], **keys}
        self.aimerge("merge", self.config(config), "--out", self.folder / out)
        return self.folder / out

    def test_numbers_that_json_cannot_say(self):
        """Mamba 2 and Nemotron-H have "time_step_limit": [0.0, Infinity]."""
        plain = file_bytes(self.merged("plain"))
        self.edit_config(time_step_limit=[0.0, math.inf], lowest=-math.inf, unknown=math.nan, word="NaN")
        aim = {"omega": 0.4, "calibration": {"token_ids": str(self.blocks()), "sequences": 8, "dtype": "float32"}}
        relaxed = self.merged("relaxed", aim=aim)
        out = self.merged("out")
        self.assertEqual(file_bytes(out), plain)
        written = json.loads((out / "config.json").read_text())
        self.assertEqual(written["time_step_limit"], [0.0, math.inf])
        self.assertEqual((written["lowest"], written["word"]), (-math.inf, "NaN"))
        self.assertTrue(math.isnan(written["unknown"]))
        self.aimerge("verify", out)
        again = self.merged("again", aim={"omega": 0.4, "statistics": str(relaxed / "aimerge_statistics.h5")})
        self.assertEqual(file_bytes(again), file_bytes(relaxed))

    def test_an_index_without_a_size(self):
        for name in ("base", "expert_a"):
            (weights,) = (self.folder / name).glob("*.safetensors")
            tensors = load_file(weights)
            weights.unlink()
            save_file(tensors, self.folder / name / "model-00001-of-00001.safetensors", metadata={"format": "pt"})
            index = {"metadata": {"total_size": None}, "weight_map": dict.fromkeys(tensors, "model-00001-of-00001.safetensors")}
            (self.folder / name / "model.safetensors.index.json").write_text(json.dumps(index))
        self.merged("out")


if __name__ == "__main__":
    unittest.main()

"""Statistics belong to weights and to what config.json says about the forward pass: caches, given logs, logs of older versions."""
import json
import shutil
import unittest

import h5py
import numpy as np

from aimerge_command import GOLDENS, AimergeTest, file_bytes

BASE = GOLDENS / "family_f32/base"
YARN = {"rope_parameters": {"rope_type": "yarn", "rope_theta": 10000.0, "factor": 8.0, "original_max_position_embeddings": 16}}
A_MODULE = "statistics/model.layers.1.self_attn.o_proj/mean_abs"


class StatisticsIdentity(AimergeTest):
    def model(self, name, without=(), **changes):
        """The golden base with another config.json."""
        folder = self.folder / name
        shutil.copytree(BASE, folder)
        config = {**json.loads((BASE / "config.json").read_text()), **changes}
        (folder / "config.json").write_text(json.dumps({key: value for key, value in config.items() if key not in without}))
        return folder

    def calibration(self):
        return {"token_ids": str(self.blocks()), "sequences": 8, "dtype": "float32"}

    def calibrate(self, model, *options, log=None, expect=0):
        """@return the log, and what was said"""
        log = log or self.folder / f"{model.name}.h5"
        config = self.config({"base_model": str(model), "aim": {"omega": 0.4, "calibration": self.calibration()}}, f"{model.name}.yaml")
        return log, self.aimerge("calibrate", config, "--out", log, "--threads", 1, *options, expect=expect).stderr

    def merge(self, name, base, expect=0, **aim):
        expert = self.folder / f"expert-of-{base.name}"
        shutil.copytree(GOLDENS / "family_f32/expert_a", expert, dirs_exist_ok=True)
        shutil.copy(base / "config.json", expert)
        config = {**self.merge_config(), "base_model": str(base), "models": [{"model": str(expert), "parameters": {"weight": 1.0}}],
                  "aim": {"omega": 0.4, **aim}}
        return self.aimerge("merge", self.config(config), "--out", self.folder / name, "--threads", 1, expect=expect).stderr

    def values(self, log):
        with h5py.File(log) as file:
            return file[A_MODULE][:]

    def changed(self, log, change):
        """A copy without its checksum."""
        copy = log.with_name(f"changed-{log.name}")
        copy.write_bytes(log.read_bytes()[512:])
        with h5py.File(copy, "r+") as file:
            change(file)
        return copy

    def test_the_cache_does_not_take_one_config_for_another(self):
        plain, _ = self.calibrate(self.model("plain"))
        yarn, said = self.calibrate(self.model("yarn", **YARN))
        self.assertNotIn("reused", said)
        self.assertGreater(np.abs(self.values(plain) - self.values(yarn)).max(), 1e-3)
        _, refused = self.calibrate(self.model("olmo", model_type="olmo"), expect=3)
        self.assertIn('model_type is "olmo"', refused)

    def test_both_styles_and_keys_without_effect_are_one_config(self):
        plain, _ = self.calibrate(self.model("plain"))
        older, said = self.calibrate(self.model("older", without=("rope_parameters", "dtype", "head_dim"), rope_theta=10000, rope_scaling=None,
                                                torch_dtype="float32", transformers_version="4.40.0", use_cache=False, attention_dropout=0.1))
        self.assertIn("reused", said)
        np.testing.assert_array_equal(self.values(plain), self.values(older))

    def test_statistics_of_experts_are_those_of_their_config(self):
        for name, changes in (("plain", {}), ("yarn", YARN), ("again", {})):
            model = self.model(name, **changes)
            config = {"merge_method": "regmean", "dtype": "float32", "models": [{"model": str(model)}, {"model": str(GOLDENS / "family_f32/expert_b")}],
                      "calibration": self.calibration()}
            self.aimerge("merge", self.config(config), "--out", self.folder / f"merged-{name}", "--threads", 1)
        self.assertEqual(len(list((self.cache / "expert-statistics").glob("*/layer-00000.safetensors"))), 3)

    def test_a_given_log_of_another_config_is_refused(self):
        log, _ = self.calibrate(self.model("plain"))
        for name, changes, words in (("yarn", YARN, ("rope_parameters (rope_scaling).rope_type", '"default"', '"yarn"')),
                                     ("eps", {"rms_norm_eps": 1e-6}, ("rms_norm_eps", "1e-05", "1e-06")),
                                     ("granite", {"model_type": "granite"}, ("model_type", '"llama"', '"granite"'))):
            said = self.merge("out", self.model(name, **changes), expect=3, statistics=str(log))
            for word in (str(log), "calibrate again", *words):
                self.assertIn(word, said)
        self.assertNotIn("base_config", self.merge("out", self.folder / "plain", statistics=str(log)))

    def test_a_log_without_a_config_is_taken_with_one_warning(self):
        model = self.model("plain")
        log, _ = self.calibrate(model)
        older = self.changed(log, lambda file: file.pop("base_config"))
        said = self.merge("older", model, statistics=str(older))
        self.assertEqual(said.count("base_config"), 1, said)
        self.assertIn("could not be compared", said)
        self.merge("newer", model, statistics=str(log))
        self.assertEqual(file_bytes(self.folder / "older"), file_bytes(self.folder / "newer"))

    def test_a_log_that_lies_at_out_is_kept_when_it_is_of_another_config(self):
        log, _ = self.calibrate(self.model("plain"))
        before = log.read_bytes()
        _, said = self.calibrate(self.model("yarn", **YARN), log=log, expect=2)
        self.assertIn("rope_parameters (rope_scaling).rope_type", said)
        self.assertEqual(log.read_bytes(), before)
        self.calibrate(self.folder / "yarn", "--overwrite", log=log)
        self.assertNotEqual(log.read_bytes(), before)

    def test_another_log_in_the_cache_is_refused(self):
        model = self.model("plain")
        self.calibrate(model)
        [cached] = (self.cache / "statistics").iterdir()
        self.calibrate(self.model("yarn", **YARN))
        [other] = set((self.cache / "statistics").iterdir()) - {cached}
        shutil.copy(other, cached)
        said = self.merge("out", model, expect=3, calibration=self.calibration())
        for word in (str(cached), "rope_parameters (rope_scaling).rope_type", "remove it"):
            self.assertIn(word, said)

    def test_experts_are_measured_with_their_own_configs(self):
        """Their combined log is of several models, and has no config of its own."""
        config = self.merge_config(omega=0.4)
        config["aim"]["source"] = "mean"
        self.aimerge("merge", self.config(config), "--out", self.folder / "plain-experts", "--threads", 1)
        yarn = self.folder / "yarn-expert"
        shutil.copytree(GOLDENS / "family_f32/expert_a", yarn)
        (yarn / "config.json").write_text(json.dumps({**json.loads((yarn / "config.json").read_text()), **YARN}))
        config["models"][0]["model"] = str(yarn)
        self.aimerge("merge", self.config(config), "--out", self.folder / "yarn-experts", "--threads", 1)
        plain, other = (self.folder / name / "aimerge_statistics.h5" for name in ("plain-experts", "yarn-experts"))
        self.assertGreater(np.abs(self.values(plain) - self.values(other)).max(), 1e-4)
        with h5py.File(other) as file:
            self.assertNotIn("base_config", file)
        self.assertEqual(len(list((self.cache / "statistics").iterdir())), 3)


if __name__ == "__main__":
    unittest.main()

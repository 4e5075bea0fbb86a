"""What a merge cannot do is said by the plan, by the dry runs, and by the merge and the sweep themselves before anything is written."""
import json
import re
import shutil
import unittest

import h5py
import numpy as np

import model_families as families
import recorded_statistics as recorded
from family_test import FamilyTest


class EarlyRefusals(FamilyTest):
    def assert_refused_early(self, config, *patterns, sweep=True):
        """By every command. @param sweep there is a sweep of the same kind"""
        path, out = self.config(config), self.folder / "out"
        commands = [("plan", path), ("plan", path, "--json"), ("merge", path, "--out", out, "--dry-run"), ("merge", path, "--out", out)]
        if sweep:
            commands.append(("sweep", self.config(self.sweep_of(config), "sweep.yaml"), "--dry-run"))
        for command in commands:
            with self.subTest(method=config["merge_method"], command=[word for word in command if isinstance(word, str)]):
                self.assert_refused(self.aimerge(*command, expect=None), *patterns)
                self.assertFalse(out.exists())
        if sweep:
            self.assert_swept_without(config, *patterns)

    def assert_swept_without(self, config, *patterns):
        """A sweep's other points may go on; the one that cannot be made fails with the same words."""
        with self.subTest(method=config["merge_method"], command="sweep"):
            result = self.aimerge("sweep", self.folder / "sweep.yaml", expect=None)
            self.assertNotEqual(result.returncode, 0)
            for pattern in patterns:
                self.assertRegex(result.stderr, pattern)
            self.assertFalse(list(self.folder.glob("swept/**/*.safetensors")))
        shutil.rmtree(self.folder / "swept", ignore_errors=True)

    def of_two(self, folder, method):
        """A method without parameters over both experts."""
        return {"merge_method": method, "base_model": str(folder / "base"),
                "models": [{"model": str(folder / place)} for place in ("expert_1", "expert_2")]}

    def sweep_of(self, config):
        """A config of the method over two experts."""
        method = {"merge_method": config["merge_method"], "parameters": {}}
        if "calibration" in config:
            method["calibration"] = config["calibration"]
        aim = {key: value for key, value in config.get("aim", {}).items() if key != "omega"}
        sweep = {"base_model": config["base_model"], "methods": [method], "omega": [config.get("aim", {}).get("omega", 1.0)],
                 "experts": {place: config["base_model"].removesuffix("base") + place for place in ("expert_1", "expert_2")},
                 "output": {"directory": "swept", "keep": "checkpoints"}}
        return sweep | ({"aim": aim} if aim else {})


class Unmeasurable(EarlyRefusals):
    """Model types that aimerge's decoder does not run: said with the tool that does run them."""

    NAMES = ("bloom", "mpt", "gpt_neo", "nemotron_h", "jamba", "internvl", "t5", "vit")

    def patterns(self, folder):
        model_type = json.loads((folder / "base/config.json").read_text())["model_type"]
        return rf"\b{re.escape(model_type)}\b", r"record_statistics\.py"

    def test_aim(self):
        for number, name in enumerate(self.NAMES):
            with self.subTest(family=name):
                folder = self.make(name)
                config = self.merge_of(folder, aim={"omega": 0.4, "calibration": self.calibration()})
                self.assert_refused_early(config, *self.patterns(folder), sweep=number < 2)

    def test_aim_by_the_activations_of_the_experts(self):
        for source in ("mean", "max", "experts"):
            with self.subTest(source=source):
                folder = self.make("bloom")
                config = self.merge_of(folder, aim={"omega": 0.4, "source": source, "calibration": self.calibration()})
                self.assert_refused_early(config, *self.patterns(folder)[:1])

    def test_methods_that_measure_the_experts(self):
        for name in self.NAMES:
            for method in ("fisher", "regmean"):
                folder = self.make(name)
                config = self.of_two(folder, method) | {"calibration": self.calibration()}
                self.assert_refused_early(config, self.patterns(folder)[0], sweep=False)

    def test_sensitivities(self):
        folder = self.make("bloom")
        config = self.merge_of(folder, aim={"omega": 0.4, "statistic": "sensitivity", "calibration": self.calibration()})
        self.assert_refused_early(config, self.patterns(folder)[0])


class Logs(EarlyRefusals):
    """Statistics that are not this model's, or not of all of it."""

    def record(self, folder):
        with recorded.quiet():
            return recorded.record(folder / "base", self.folder / "recorded.h5")

    def without(self, log, pattern):
        with h5py.File(log, "a") as file:
            for module in [name for name in file["statistics"] if re.search(pattern, name)]:
                del file["statistics"][module]
        return log

    def by_log(self, folder, log, **keys):
        return self.merge_of(folder, aim={"omega": 0.4, "statistics": str(log)}, **keys)

    def test_another_forward_pass(self):
        folder = self.make("llama")
        log = self.record(folder)
        self.edit_config(folder / "base", rope_parameters={"rope_type": "linear", "rope_theta": 10000.0, "factor": 4.0})
        self.assert_refused_early(self.by_log(folder, log), r"config\.json", r"rope_(parameters|scaling)")

    def test_other_weights(self):
        """A recorded log knows them by the stamps of the files."""
        folder = self.make("llama")
        log = self.record(folder)
        self.edit_tensors(folder / "base", lambda tensors: tensors | {"model.norm.weight": 2 * tensors["model.norm.weight"]})
        self.assert_refused_early(self.by_log(folder, log), "another model")

    def test_a_stack_without_any_statistic(self):
        folder = self.make("gpt_neox")
        log = self.without(self.record(folder), r"layers\.\d+\.(mlp|attention)")
        self.assert_refused_early(self.by_log(folder, log), r"gpt_neox\.layers", "omega 1")

    def test_the_vision_tower_of_a_log_of_texts(self):
        folder = self.make("gemma3")
        log = self.record_of_texts(folder)
        self.assert_refused_early(self.by_log(folder, log), "vision_tower", "--images", "omega 1")

    def record_of_texts(self, folder):
        with recorded.quiet():
            return recorded.record(folder / "base", self.folder / "recorded.h5", families.IMAGE_TEXT)

    def test_what_the_refusal_says_to_do_does(self):
        """omega 1 by a filter of the tower's names."""
        folder = self.make("gemma3")
        log = self.record_of_texts(folder)
        config = self.merge_of(folder, aim={"omega": [{"filter": "vision_tower", "value": 1}, {"value": 0.4}], "statistics": str(log)})
        self.merged(config)

    def test_another_number_of_channels(self):
        folder, other = self.make("llama"), self.make("llama")
        log = self.record(folder)
        with h5py.File(log, "a") as file:
            module = file["statistics/model.layers.1.mlp.down_proj"]
            for name in list(module):
                values = module[name][:-8]
                del module[name]
                module[name] = values
        self.assert_refused_early(self.by_log(folder, log), r"model\.layers\.1\.mlp\.down_proj", "channels")

    def test_channels_of_the_output(self):
        """A matrix that is stored [in, out]."""
        folder = self.make("gpt2")
        log = self.record(folder)
        with h5py.File(log, "a") as file:
            module = file["statistics/transformer.h.1.mlp.c_fc"]
            for name in list(module):
                values = np.resize(module[name][:], 56)
                del module[name]
                module[name] = values
        self.assert_refused_early(self.by_log(folder, log), r"transformer\.h\.1\.mlp\.c_fc", "56 channels")

    def test_no_log_at_all(self):
        folder = self.make("llama")
        self.assert_refused_early(self.by_log(folder, self.folder / "nowhere.h5"), r"nowhere\.h5")


class Columns(EarlyRefusals):
    """Methods that look at the columns of matrices [out, in], of a model that stores [in, out]."""

    def test_widen_and_actmat(self):
        folder = self.make("gpt2")
        for method in ("widen", "actmat"):
            self.assert_refused_early(self.of_two(folder, method), method, r"transformer\.h\.\d\.\S+\.weight is stored as \[in, out\]")

    def test_a_model_that_stores_the_outputs_first(self):
        folder = self.make("gpt_bigcode")
        for method in ("widen", "actmat"):
            self.merged(self.of_two(folder, method), f"{method}-out")


if __name__ == "__main__":
    unittest.main()

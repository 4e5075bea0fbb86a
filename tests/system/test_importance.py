"""AIM by other scores, sources and controls: `aimerge merge` against the formulas in numpy."""
import json
import shutil
import unittest
from pathlib import Path

import h5py
import numpy as np
from safetensors.numpy import load_file, save_file

from aimerge_command import GOLDENS, AimergeTest, as_float, file_bytes, read_folder

FAMILY = GOLDENS / "family_f32"
OMEGA = 0.4


class Importance(AimergeTest):
    def merged(self, name, *options, ranks=0, **aim):
        config = self.merge_config("task_arithmetic", omega=OMEGA)
        config["aim"].update(aim)
        self.aimerge("merge", self.config(config), "--out", self.folder / name, "--threads", 1, *options, ranks=ranks)
        return read_folder(self.folder / name)

    def plain(self):
        """{tensor: (base, merged)} of what AIM relaxes."""
        self.aimerge("merge", self.config(self.merge_config("task_arithmetic")), "--out", self.folder / "plain")
        base, merged = read_folder(FAMILY / "base"), read_folder(self.folder / "plain")
        return {name: (as_float(base[name]), as_float(merged[name])) for name in merged if "embed" not in name}

    def statistic(self, folder, name):
        with h5py.File(self.folder / folder / "aimerge_statistics.h5") as log:
            return {module: log[f"statistics/{module}/{name}"][:].astype(np.float64) for module in log["statistics"]}

    def calibrated(self, model, name):
        config = {"base_model": str(FAMILY / model), "aim": self.merge_config(omega=OMEGA)["aim"]}
        self.aimerge("calibrate", self.config(config, f"{model}.yaml"), "--out", self.folder / f"{model}.h5", "--threads", 1)
        with h5py.File(self.folder / f"{model}.h5") as log:
            return {module: log[f"statistics/{module}/{name}"][:].astype(np.float64) for module in log["statistics"]}

    def assert_relaxed_by(self, got, importances):
        """@param importances of a tensor's name and its base values"""
        plain = self.plain()
        self.assertGreater(len(plain), 8)
        for name, (base, merged) in plain.items():
            want = base + (1 - importances(name, base) * (1 - OMEGA)) * (merged - base)
            np.testing.assert_allclose(as_float(got[name]), want, rtol=1e-5, atol=1e-6, err_msg=name)

    def test_wanda_is_the_weight_times_the_norm_of_its_input(self):
        got = self.merged("out", statistic="wanda")
        rms = self.statistic("out", "rms")

        def importances(name, base):
            scores = np.abs(base) * rms[name.removesuffix(".weight")]
            return scores / scores.max()

        self.assert_relaxed_by(got, importances)
        self.merged("two-ranks", ranks=2, statistic="wanda")
        self.assertEqual(file_bytes(self.folder / "two-ranks"), file_bytes(self.folder / "out"))

    def test_activations_of_the_experts(self):
        of_experts = [self.calibrated(model, "mean_abs") for model in ("expert_a", "expert_b")]
        for source, combine in (("mean", np.mean), ("max", np.max)):
            got = self.merged(source, source=source)
            combined = {module: combine([expert[module] for expert in of_experts], axis=0) for module in of_experts[0]}
            written = self.statistic(source, "mean_abs")
            for module, want in combined.items():
                np.testing.assert_allclose(written[module], want, rtol=1e-6, err_msg=module)
            self.assert_relaxed_by(got, lambda name, base: (a := combined[name.removesuffix(".weight")]) / a.max())
            self.folder.joinpath("plain").rename(self.folder / f"plain-{source}")
            self.merged(f"{source}-on-two", ranks=2, source=source)
            self.assertEqual(file_bytes(self.folder / f"{source}-on-two"), file_bytes(self.folder / source))
        self.assertIn("calibrated 2 experts", self.aimerge("plan", self.folder / "merge.yaml").stdout)

    def relaxed(self, model, activity):
        """The folder of an expert that float32 arithmetic holds back by `activity`."""
        folder = self.folder / Path(model).name
        shutil.copytree(model, folder)
        base, tensors = load_file(FAMILY / "base/model.safetensors"), load_file(folder / "model.safetensors")
        for name in tensors.keys() - {"model.embed_tokens.weight"}:
            values = activity[name.removesuffix(".weight")].astype(np.float32)
            factors = np.float32(1) - values / values.max() * np.float32(1 - OMEGA)
            tensors[name] = base[name] + factors * (tensors[name] - base[name])
        save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
        return str(folder)

    def test_every_expert_is_held_back_by_its_own_activations(self):
        config = self.merge_config("ties", omega=[1.0, OMEGA], parameters={"density": 0.5})
        config["aim"]["source"] = "experts"
        for ranks in (1, 2):
            self.aimerge("merge", self.config(config), "--out", self.folder / f"on-{ranks}", "--threads", 1, ranks=ranks)
        got = [read_folder(self.folder / "on-1" / f"omega-{omega}") for omega in (1.0, OMEGA)]
        self.assertEqual([file_bytes(self.folder / "on-2" / f"omega-{omega}") for omega in (1.0, OMEGA)],
                         [file_bytes(self.folder / "on-1" / f"omega-{omega}") for omega in (1.0, OMEGA)])
        # The same by hand: the experts' checkpoints relaxed, then merged without AIM.
        plain = self.merge_config("ties", parameters={"density": 0.5})
        self.aimerge("merge", self.config(plain), "--out", self.folder / "plain", "--threads", 1)
        of_experts = [self.calibrated(model, "mean_abs") for model in ("expert_a", "expert_b")]
        for entry, activity in zip(plain["models"], of_experts):
            entry["model"] = self.relaxed(entry["model"], activity)
        self.aimerge("merge", self.config(plain), "--out", self.folder / "relaxed", "--threads", 1)
        self.assertEqual(got, [read_folder(self.folder / name) for name in ("plain", "relaxed")])
        self.assertNotEqual(got[0], got[1])
        written = self.statistic(f"on-1/omega-{OMEGA}", "mean_abs")
        self.assertEqual(len(written), 2 * len(of_experts[0]))
        for number, expert in enumerate(of_experts, 1):
            for module, want in expert.items():
                np.testing.assert_array_equal(written[f"{module}@{number}"], want, err_msg=module)

    def test_control_scale_changes_every_tensor_by_as_much_in_its_own_direction(self):
        for number, aim in enumerate(({}, {"statistic": "wanda"})):
            relaxed, scaled = self.merged(f"relaxed-{number}", **aim), self.merged(f"scaled-{number}", control="scale", **aim)
            plain = self.plain()
            for name, (base, merged) in plain.items():
                factor = np.linalg.norm(as_float(relaxed[name]) - base) / np.linalg.norm(merged - base)
                self.assertLess(factor, 1, name)
                np.testing.assert_allclose(as_float(scaled[name]), base + factor * (merged - base), rtol=1e-5, atol=1e-6, err_msg=name)
            self.folder.joinpath("plain").rename(self.folder / f"plain-{number}")

    def test_omega_by_layer_and_by_name(self):
        got = self.merged("by-tensor", omega=[{"filter": "mlp", "value": [0.2, 0.8]}, {"value": 1}])
        layers = json.loads((FAMILY / "base/config.json").read_text())["num_hidden_layers"]
        self.assertGreater(layers, 2)
        want = self.merged("nowhere", omega=1)
        for layer in range(layers):
            depth = layer / (layers - 1)
            omega = (1 - depth) * 0.2 + depth * 0.8
            of_layer = self.merged(f"layer-{layer}", omega=omega)
            want.update({name: entry for name, entry in of_layer.items() if f"layers.{layer}.mlp" in name})
        self.assertEqual(got, want)
        manifest = json.loads((self.folder / "by-tensor/aimerge_manifest.json").read_text())
        self.assertEqual([min(manifest["omega"]), max(manifest["omega"])], [0.2, 1])
        self.merged("two-ranks", ranks=2, omega=[{"filter": "mlp", "value": [0.2, 0.8]}, {"value": 1}])
        self.assertEqual(file_bytes(self.folder / "two-ranks"), file_bytes(self.folder / "by-tensor"))

    def test_what_does_not_go_together(self):
        for aim, word in (({"statistic": "wanda", "control": "mean"}, "control scale"),
                          ({"statistic": "wanda", "normalisation": "layer"}, "normalisation max"),
                          ({"statistic": "sensitivity", "source": "mean"}, "measured on the base"),
                          ({"source": "max", "statistics": "log.h5"}, "log of one model")):
            config = self.merge_config(omega=OMEGA)
            config["aim"].update(aim)
            failed = self.aimerge("merge", self.config(config), "--out", self.folder / "out", expect=2)
            self.assertIn(word, failed.stderr)
            self.assertFalse((self.folder / "out").exists())


if __name__ == "__main__":
    unittest.main()

"""aimerge relax: AIM on a model that any program has merged, without a config file."""
import json
import os
import pathlib
import subprocess
import sys
import unittest

import h5py
import numpy as np

from aimerge_command import GOLDENS, AimergeTest, as_float, file_bytes, float_to_bf16, read_folder
from peers import needs_peers

FAMILY = pathlib.Path(os.environ["AIMERGE_FAMILY"])
BASE, MERGED = (GOLDENS / "family_f32" / name for name in ("base", "expert_a"))
OMEGA = 0.4


def relaxed_by_the_authors_code(base, merged, importance):
    """performAIM.py on models in bfloat16: the change is rounded, the rest is float32, and rounded once more."""
    delta = float_to_bf16(merged - base)
    delta = (delta.astype(np.uint32) << 16).view(np.float32)
    kept = np.float32(1) - importance * np.float32(1 - OMEGA)
    return float_to_bf16(base + delta * kept)


class Relax(AimergeTest):
    def statistics(self):
        log = self.folder / "statistics.h5"
        self.aimerge("calibrate", self.config(self.merge_config(omega=1)), "--out", log)
        return log

    def relax(self, *options, out="out", **keywords):
        return self.aimerge("relax", MERGED, "--base", BASE, "--out", self.folder / out, *options, **keywords)

    def test_the_bytes_of_task_arithmetic_with_one_expert(self):
        log = self.statistics()
        config = self.merge_config(experts=("expert_a",))
        config["aim"] = {"omega": [0.4, 0.0], "statistics": str(log)}
        self.aimerge("merge", self.config(config), "--out", self.folder / "merge")
        printed = self.relax("--omega", "0.4,0", "--statistics", log, ranks=2).stderr
        for omega in ("omega-0.4", "omega-0.0"):
            made = self.folder / "out" / omega
            self.assertEqual(file_bytes(made), file_bytes(self.folder / "merge" / omega))
            self.assertIn((made / "mergekit_config.yml").read_text().strip(), printed)
        self.aimerge("merge", made / "mergekit_config.yml", "--out", self.folder / "again")
        self.assertEqual(file_bytes(self.folder / "again" / "omega-0.0"), file_bytes(made))

        self.relax("--omega", 0.4, "--statistics", log, "--set", "dtype=bfloat16", out="one")
        self.assertEqual(json.loads((self.folder / "one" / "config.json").read_text())["dtype"], "bfloat16")

    def test_what_is_refused(self):
        for options, message in (
                (["--omega", 0.4, "--corpus", "a.txt", "--statistics", "b.h5"], "--corpus and --statistics exclude each other"),
                (["--omega", 0.4, "--text-key", "prompt"], "--text-key is about the corpus: name it by --corpus"),
                (["--omega", 1.5], r"aim.omega must lie in \[0, 1\]"),
                (["--omega", 0.4, "--preset", "papr"], "did you mean 'paper'"),
                ([], "--omega is required")):
            with self.subTest(options=options):
                self.assertRegex(self.relax(*options, expect=2).stderr, message)
        self.assertFalse((self.folder / "out").exists())


@needs_peers
class RealModel(AimergeTest):
    def merged_by_mergekit(self):
        config = self.config({"merge_method": "linear", "dtype": "bfloat16", "models": [
            {"model": str(FAMILY / name), "parameters": {"weight": 1.0}} for name in ("math", "code")]}, "mergekit.yaml")
        out = self.folder / "mergekit"
        subprocess.run([sys.executable, "-c", "from mergekit.scripts.run_yaml import main; main()", config, out, "--quiet"], check=True,
                       cwd=self.folder, capture_output=True, timeout=300)
        return out

    def test_the_authors_arithmetic_on_a_checkpoint_of_mergekit(self):
        """Bit for bit, given the activations; these are compared with forward hooks elsewhere."""
        merged, out = self.merged_by_mergekit(), self.folder / "out"
        printed = self.aimerge("relax", merged, "--base", FAMILY / "base", "--omega", OMEGA, "--preset", "reference-code", "--out", out,
                               ranks=2, timeout=300).stderr
        self.assertIn("no --corpus: activations are measured on a general text", printed)
        before, after, base = (read_folder(folder) for folder in (merged, out, FAMILY / "base"))
        self.assertEqual(set(after), set(base))
        compared = set()
        with h5py.File(out / "aimerge_statistics.h5") as log:
            for module in log["statistics"]:
                name = f"{module}.weight" if module != "lm_head" else "model.embed_tokens.weight"
                activity = log["statistics"][module]["mean_abs"][:].astype(np.float32)
                want = relaxed_by_the_authors_code(as_float(base[name]), as_float(before[name]), activity / activity.max())
                np.testing.assert_array_equal(float_to_bf16(as_float(after[name])), want, err_msg=name)
                compared.add(name)
        self.assertEqual(compared, set(base))

    def test_without_a_word_about_activations(self):
        """The general text that comes with aimerge, all of it that is asked for."""
        out = self.folder / "out"
        printed = self.aimerge("relax", FAMILY / "math", "--base", FAMILY / "base", "--omega", OMEGA, "--out", out, timeout=300).stderr
        self.assertIn("AIM relaxed 210 of 210 matrices", printed)
        self.assertNotIn("warning", printed)
        with h5py.File(out / "aimerge_statistics.h5") as log:
            self.assertEqual(int(log.attrs["tokens"]), 12 * 512)


if __name__ == "__main__":
    unittest.main()

"""The dtype of every output tensor, where a 16-bit model keeps some parameters in float32: the bias of a router's scores, Mamba's A_log and D."""
import re
import unittest

import h5py
import numpy as np

import model_families as families
import recorded_statistics as recorded
from aimerge_command import as_float, bf16_to_float, float_to_bf16, read_folder
from family_test import FamilyTest

BIAS = "e_score_correction_bias"  # of a router
# What stays in float32 of a model that is in bfloat16 as a whole.
IN_FLOAT32 = {"deepseek_v3": BIAS, "glm4_moe": BIAS, "mamba": r"mixer\.(A_log|D)$",
              "mamba2": r"mixer\.(A_log|D|dt_bias)$"}
PLACES = ("base", "expert_1", "expert_2")


def round_to_bfloat16(folder, but=r"^$"):
    """All tensors of a model, but those whose names match."""
    from safetensors.torch import load_file, save_file

    path = folder / "model.safetensors"
    save_file({name: values if re.search(but, name) else values.bfloat16() for name, values in load_file(path).items()}, path,
              metadata={"format": "pt"})


class OwnDtypes(FamilyTest):
    def make(self, name):
        """With what transformers makes a buffer of, and so leaves at 0, but training has changed."""
        folder = super().make(name)
        for seed, place in enumerate(PLACES):
            random = np.random.default_rng(seed)
            self.edit_tensors(folder / place, lambda tensors: {
                key: random.normal(0, 0.1, values.shape).astype(np.float32) if key.endswith(BIAS) else values for key, values in tensors.items()})
        return folder


class Dtypes(OwnDtypes):
    def make_in_16_bits(self, name, places=PLACES):
        """A family in bfloat16 but for IN_FLOAT32, whose values bfloat16 cannot hold."""
        folder = self.make(name)
        for place in places:
            round_to_bfloat16(folder / place, but=IN_FLOAT32[name])
            self.edit_config(folder / place, dtype="bfloat16")
        return folder

    def merged_raw(self, folder, out="out", **keys):
        """{name: (dtype, shape, bytes)}"""
        self.aimerge("merge", self.config(self.merge_of(folder, **keys)), "--out", self.folder / out)
        return read_folder(self.folder / out)

    def in_float32(self, folder):
        """{name: base + (expert - base)} in float32, of what the files hold."""
        base, expert = (read_folder(folder / place) for place in ("base", "expert_1"))
        of = {name: [as_float(tensors[name]).astype(np.float32) for tensors in (base, expert)] for name in base}
        return {name: first + (second - first) for name, (first, second) in of.items()}

    def assert_is(self, got, name, dtype, want):
        self.assertEqual(got[name][0], dtype, name)
        if dtype == "BF16":
            want = bf16_to_float(float_to_bf16(want)).reshape(want.shape)
        np.testing.assert_array_equal(as_float(got[name]), want, err_msg=name)

    def assert_kept(self, name, folder, got):
        """What was float32 is so, with all of its digits; the rest is bfloat16."""
        kept = 0
        for key, values in self.in_float32(folder).items():
            stays = bool(re.search(IN_FLOAT32[name], key))
            kept += stays
            self.assert_is(got, key, "F32" if stays else "BF16", values)
            if stays:
                self.assertFalse(np.array_equal(values, bf16_to_float(float_to_bf16(values)).reshape(values.shape)), key)
        self.assertGreater(kept, 1)

    def test_float32_parameters_of_a_bfloat16_model_stay(self):
        for name in IN_FLOAT32:
            folder = self.make_in_16_bits(name)
            for keys in ({}, {"dtype": "bfloat16"}):
                with self.subTest(family=name, **keys):
                    self.assert_kept(name, folder, self.merged_raw(folder, f"{name}-{len(keys)}", **keys))

    def test_they_are_what_dtype_says_where_that_is_float32(self):
        folder = self.make_in_16_bits("mamba")
        got = self.merged_raw(folder, dtype="float32")
        for name, values in self.in_float32(folder).items():
            self.assert_is(got, name, "F32", values)

    def test_out_dtype_is_for_every_tensor(self):
        for name in IN_FLOAT32:
            folder = self.make_in_16_bits(name)
            for keys in ({"out_dtype": "bfloat16"}, {"out_dtype": "bfloat16", "dtype": "float32"}):
                with self.subTest(family=name, **keys):
                    got = self.merged_raw(folder, f"{name}-{len(keys)}", **keys)
                    for key, values in self.in_float32(folder).items():
                        self.assert_is(got, key, "BF16", values)

    def test_a_float32_model_becomes_what_dtype_says(self):
        for name in ("glm4_moe", "mamba"):
            with self.subTest(family=name):
                folder = self.make(name)
                got = self.merged_raw(folder, f"{name}-out", dtype="bfloat16")
                for key, values in self.in_float32(folder).items():
                    self.assert_is(got, key, "BF16", values)

    def test_an_expert_that_is_bfloat16_as_a_whole(self):
        """The base says what a parameter is; the expert's rounding is part of its change."""
        folder = self.make_in_16_bits("glm4_moe")
        round_to_bfloat16(folder / "expert_1")
        got = self.merged_raw(folder, dtype="bfloat16")
        for name, values in self.in_float32(folder).items():
            self.assert_is(got, name, "F32" if re.search(IN_FLOAT32["glm4_moe"], name) else "BF16", values)

    def test_a_bfloat16_base_of_float32_experts(self):
        folder = self.make("glm4_moe")
        round_to_bfloat16(folder / "base")
        got = self.merged_raw(folder, dtype="bfloat16")
        for name, values in self.in_float32(folder).items():
            self.assert_is(got, name, "BF16", values)

    def test_config_json_says_what_the_model_is_as_a_whole(self):
        folder = self.make_in_16_bits("mamba")
        self.merged_raw(folder, dtype="bfloat16")
        text = (self.folder / "out/config.json").read_text()
        self.assertRegex(text, r'"(torch_)?dtype": "bfloat16"')
        self.assertNotIn("float32", text)

    def test_other_methods_keep_them_too(self):
        folder = self.make_in_16_bits("glm4_moe")
        models = [{"model": str(folder / place), "parameters": {"weight": 1.0, "density": 0.5}} for place in ("expert_1", "expert_2")]
        for method in ("ties", "dare_ties", "sce", "model_stock"):
            with self.subTest(method):
                config = {"merge_method": method, "base_model": str(folder / "base"), "dtype": "bfloat16",
                          "models": models if "ties" in method else [{"model": model["model"]} for model in models]}
                self.aimerge("merge", self.config(config), "--out", self.folder / method)
                got = read_folder(self.folder / method)
                for name, (dtype, _, _) in got.items():
                    self.assertEqual(dtype, "F32" if re.search(IN_FLOAT32["glm4_moe"], name) else "BF16", name)


class RouterBias(OwnDtypes):
    """e_score_correction_bias is learnt, and no matrix: merged as any parameter, and never held back by activations."""

    def test_is_merged_and_not_relaxed(self):
        for name in ("deepseek_v3", "glm4_moe"):
            with self.subTest(family=name):
                folder = self.make(name)
                with recorded.quiet():
                    log = recorded.record(folder / "base", folder / "recorded.h5")
                got = self.merged(self.merge_of(folder, aim={"omega": 0.0, "statistics": str(log)}), f"{name}-out")
                self.assert_merged_alone(folder, got)

    def test_is_not_relaxed_by_a_log_that_has_its_name(self):
        """A recorder may call what it sees as it likes: what the tensor is decides."""
        folder = self.make("glm4_moe")
        with recorded.quiet():
            path = recorded.record(folder / "base", folder / "recorded.h5")
        with h5py.File(path, "a") as file:
            for gate in [name for name in file["statistics"] if name.endswith("mlp.gate")]:
                file["statistics"].copy(gate, f"{gate}.e_score_correction_bias")
        self.assert_merged_alone(folder, self.merged(self.merge_of(folder, aim={"omega": 0.0, "statistics": str(path)})))

    def assert_merged_alone(self, folder, got):
        tensors = self.tensors(folder)
        biases = [name for name in tensors["base"] if name.endswith("e_score_correction_bias")]
        self.assertGreater(len(biases), 1)
        for name in biases:
            base, expert = tensors["base"][name], tensors["expert_1"][name]
            np.testing.assert_array_equal(got[name], base + (expert - base), err_msg=name)
            self.assertTrue((expert != base).any(), name)
            gate = name.replace(".e_score_correction_bias", ".weight")
            self.assertLess(np.abs(got[gate] - tensors["base"][gate]).sum(), np.abs(tensors["expert_1"][gate] - tensors["base"][gate]).sum())


if __name__ == "__main__":
    unittest.main()

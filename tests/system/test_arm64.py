"""The build for ARM64 (launch/cross_arm64.sh), run by qemu-user, merges to the bytes of this machine's build.

Statistics are measured here in both cases: libtorch does not start under qemu-user.
"""
import json
import pathlib
import shutil
import subprocess
import unittest

from aimerge_command import BINARY, GOLDENS, AimergeTest, environment, file_bytes

ROOT = pathlib.Path(__file__).resolve().parents[2]
ARM64 = ROOT / "build/arm64/bin/aimerge"
EMULATOR = ["qemu-aarch64-static", "-L", str(ROOT / "build/arm64/sysroot")]
# What a method needs beside the weights of its experts.
PARAMETERS = {"slerp": {"t": 0.3}, "nearswap": {"t": 0.001}}
TWO_MODELS = {"slerp", "nearswap", "arcee_fusion"}
DENSITY = {"ties", "dare_linear", "dare_ties", "breadcrumbs", "breadcrumbs_ties", "della", "della_linear"}
WITHOUT_BASE = {"linear", "karcher", "passthrough"}


def why_not():
    if not shutil.which(EMULATOR[0]):
        return "there is no qemu-aarch64-static: launch/cross_arm64.sh installs it"
    return "" if ARM64.exists() else "there is no build/arm64: launch/cross_arm64.sh makes it"


@unittest.skipIf(why_not(), why_not())
class Arm64(AimergeTest):
    def config_of(self, method, family="family_f32"):
        entry = {} if method in TWO_MODELS | {"karcher", "passthrough", "sce", "ram", "ramplus_tl", "widen", "model_stock"} else {"weight": 0.7}
        if method in DENSITY:
            entry["density"] = 0.4
        experts = ["expert_a"] if method in TWO_MODELS | {"passthrough"} else ["expert_a", "expert_b"]
        config = {"merge_method": method, "dtype": "bfloat16" if family == "family_bf16" else "float32", "parameters": PARAMETERS.get(method, {}),
                  "models": [{"model": str(GOLDENS / family / name), "parameters": entry} for name in experts]}
        if method not in WITHOUT_BASE:
            config["base_model"] = str(GOLDENS / family / "base")
        if method in ("fisher", "regmean"):
            config["calibration"] = {"token_ids": str(self.blocks()), "sequences": 8, "dtype": "float32"}
        return config

    def both(self, config, name):
        """The files of both builds; this machine's goes first, and measures."""
        path = self.config(config, f"{name}.yaml")
        self.aimerge("merge", path, "--out", self.folder / f"{name}-here", timeout=300)
        command = [*EMULATOR, str(ARM64), "merge", str(path), "--out", str(self.folder / f"{name}-arm64"), "--threads", "2"]
        result = subprocess.run(command, cwd=self.folder, text=True, capture_output=True, timeout=600, env=environment(self.cache))
        self.assertEqual(result.returncode, 0, result.stderr)
        return file_bytes(self.folder / f"{name}-here"), file_bytes(self.folder / f"{name}-arm64")

    def test_every_method(self):
        methods = [method["name"] for method in json.loads(self.aimerge("methods", "--json").stdout)]
        self.assertGreaterEqual(len(methods), 24)
        for method in methods:
            with self.subTest(method=method):
                here, there = self.both(self.config_of(method), method)
                self.assertEqual(list(here), ["model.safetensors"])
                self.assertTrue(here == there, "the bytes differ")

    def test_bfloat16(self):
        for method in ("linear", "ties", "della", "karcher"):
            with self.subTest(method=method):
                here, there = self.both(self.config_of(method, "family_bf16"), method)
                self.assertTrue(here == there, "the bytes differ")

    def test_aim_with_statistics_of_another_machine(self):
        log = self.folder / "log.h5"
        config = self.merge_config("ties", omega=0.4)
        self.aimerge("calibrate", self.config(config), "--out", log)
        config["aim"] = {"omega": 0.4, "statistics": str(log)}
        here, there = self.both(config, "aim")
        self.assertTrue(here == there, "the bytes differ")
        self.assertNotEqual(here, self.both(self.config_of("ties"), "plain")[0])

    def test_the_processor_is_arm64(self):
        self.assertIn(b"\xb7\x00", ARM64.read_bytes()[18:20])  # EM_AARCH64
        self.assertNotEqual(ARM64.read_bytes()[18:20], pathlib.Path(BINARY).read_bytes()[18:20])


if __name__ == "__main__":
    unittest.main()

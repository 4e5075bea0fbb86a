"""Many of everything, and very small and very large tensors, within bounded time and memory."""
import json
import os
import pathlib
import shutil
import subprocess
import sys
import time
import unittest

import numpy as np
from safetensors.numpy import save_file

from aimerge_command import BINARY, AimergeTest, environment, launcher, read_folder, read_raw

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "support"))
from llama_shapes import llama_config, llama_shapes  # noqa: E402


class Limits(AimergeTest):
    def model(self, name, layers=1, vocabulary=16, seed=0):
        """A Llama of 8 channels in float32."""
        folder = self.folder / name
        folder.mkdir()
        size = 8, 16, 2, 2, vocabulary  # hidden, intermediate, heads, key-value heads, vocabulary
        config = {**llama_config(*size, layers, positions=64), "dtype": "float32", "torch_dtype": "float32"}
        (folder / "config.json").write_text(json.dumps(config))
        draws = np.random.default_rng(seed)
        self.shapes = llama_shapes(*size, layers)
        save_file({name: draws.standard_normal(shape, dtype=np.float32) for name, shape in self.shapes.items()},
                  folder / "model.safetensors", metadata={"format": "pt"})
        return folder

    def linear(self, models, **keys):
        return self.config({"merge_method": "linear", "dtype": "float32",
                            "models": [{"model": str(model), "parameters": {"weight": 1.0}} for model in models], **keys})

    def timed(self, *arguments, seconds, memory, ranks=0):
        """Runs the command; it may not take longer, nor more resident bytes (without ranks: of mpirun's children they aren't known)."""
        began = time.monotonic()
        with open(self.folder / "stderr", "w") as errors:
            process = subprocess.Popen([*launcher(ranks), BINARY, *map(str, arguments)], cwd=self.folder, stdout=subprocess.DEVNULL,
                                       stderr=errors, env=environment(self.cache))
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        self.assertEqual(process.returncode, 0, (self.folder / "stderr").read_text()[-2000:])
        self.assertLess(time.monotonic() - began, seconds)
        self.assertLess(usage.ru_maxrss * 1024, memory)

    def test_ten_thousand_tensors_in_five_hundred_shards(self):
        models = [self.model(f"m{i}", layers=1112, seed=i) for i in range(2)]
        self.assertGreater(len(self.shapes), 10_000)
        self.timed("merge", self.linear(models), "--out", self.folder / "out", "--max-shard-size", "5KB", seconds=60, memory=2**28)
        shards = list((self.folder / "out").glob("*.safetensors"))
        self.assertGreater(len(shards), 500)
        inputs, merged = [read_folder(model) for model in models], read_folder(self.folder / "out")
        self.assertEqual(set(merged), set(self.shapes))
        for name, (_, _, raw) in merged.items():
            want = sum(np.frombuffer(tensors[name][2], np.float32).astype(np.float64) for tensors in inputs) / 2
            np.testing.assert_allclose(np.frombuffer(raw, np.float32), want, rtol=1e-6, atol=1e-7, err_msg=name)
        # And read from as many shards, on several ranks.
        again = self.linear([self.folder / "out", models[0]])
        self.timed("merge", again, "--out", self.folder / "again", seconds=60, memory=2**28, ranks=2)
        self.aimerge("verify", self.folder / "again")

    def test_a_hundred_experts(self):
        base = self.model("base")
        experts = [self.model(f"e{i}", seed=i + 1) for i in range(100)]
        for method, parameters in (("task_arithmetic", {}), ("ties", {"density": 0.5}), ("model_stock", {})):
            config = json.loads(self.linear(experts, base_model=str(base)).read_text())
            config.update(merge_method=method, parameters=parameters)
            if method == "model_stock":
                config["models"] = [{"model": entry["model"]} for entry in config["models"]]
            self.timed("merge", self.config(config), "--out", self.folder / method, seconds=60, memory=2**29)
        merged, start = read_raw(self.folder / "task_arithmetic/model.safetensors"), read_raw(base / "model.safetensors")
        deltas = [read_raw(expert / "model.safetensors") for expert in experts]
        for name, (_, _, raw) in merged.items():
            origin = np.frombuffer(start[name][2], np.float32).astype(np.float64)
            want = origin + sum(np.frombuffer(delta[name][2], np.float32) - origin for delta in deltas)
            np.testing.assert_allclose(np.frombuffer(raw, np.float32), want, rtol=1e-4, atol=1e-3, err_msg=name)

    def test_a_thousand_points(self):
        base, a, b = self.model("base"), self.model("a", seed=1), self.model("b", seed=2)
        ids = self.folder / "ids.safetensors"
        save_file({"input_ids": np.arange(16, dtype=np.int64).reshape(1, 16)}, ids)
        sweep = {"base_model": str(base), "experts": {"a": str(a), "b": str(b)}, "methods": ["task_arithmetic", "ties", "dare_linear", "sce"],
                 "omega": [round(i / 250, 3) for i in range(250)], "dtype": "float32", "output": {"directory": str(self.folder / "points")},
                 "aim": {"calibration": {"token_ids": str(ids), "sequences": 1, "dtype": "float32"}}}
        config = self.config(sweep, "sweep.yaml")
        self.timed("sweep", config, "--dry-run", seconds=20, memory=2**29)
        self.timed("sweep", config, "--threads", 1, seconds=240, memory=2**30)
        rows = (self.folder / "points/points.csv").read_text().splitlines()
        self.assertEqual(sum(",merged," in row and ",done," in row for row in rows), 1000)
        self.timed("sweep", config, "--threads", 1, seconds=30, memory=2**29)  # which finds everything done

    def test_more_ranks_than_tensors(self):
        models = [self.model(f"m{i}", seed=i) for i in range(2)]
        self.assertLess(len(self.shapes), 14)
        self.aimerge("merge", self.linear(models), "--out", self.folder / "alone")
        self.aimerge("merge", self.linear(models), "--out", self.folder / "out", "--threads", 1, ranks=14)
        self.assertEqual(read_folder(self.folder / "out"), read_folder(self.folder / "alone"))

    def add_large_and_small(self, folder, value):
        """A tensor of 6 GiB, holes but for its last element, and one of one byte."""
        tensors = read_raw(folder / "model.safetensors")
        tensors["model.large.weight"] = ("F32", [3 << 19, 1024], np.float32(value).tobytes())
        tensors["model.small"] = ("U8", [1], b"\x07")
        header, end = {}, 0
        for tensor, (dtype, shape, _) in tensors.items():
            size = int(np.prod(shape)) * (1 if dtype == "U8" else 4)
            header[tensor] = {"dtype": dtype, "shape": shape, "data_offsets": [end, end + size]}
            end += size
        text = json.dumps(header).encode()
        with open(folder / "model.safetensors", "wb") as file:
            file.write(len(text).to_bytes(8, "little") + text)
            begin = file.tell()
            for tensor, (_, _, raw) in tensors.items():
                file.seek(begin + header[tensor]["data_offsets"][1] - len(raw))
                file.write(raw)

    def test_tensors_of_a_byte_and_of_six_gibibytes(self):
        free = shutil.disk_usage(self.folder).free
        if free < 10 << 30:
            self.skipTest(f"the output has 6 GiB, and the disk {free >> 30} GiB free")
        models = [self.model(f"m{i}", seed=i) for i in range(2)]
        for model, value in zip(models, (1.0, 4.0)):
            self.add_large_and_small(model, value)
        self.timed("merge", self.linear(models), "--out", self.folder / "out", "--max-shard-size", "100GB", seconds=300, memory=2**29)
        with open(self.folder / "out/model.safetensors", "rb") as file:
            header = json.loads(file.read(int.from_bytes(file.read(8), "little")))
            begin = file.tell()
            for tensor, want in (("model.large.weight", np.float32(2.5).tobytes()), ("model.small", b"\x07")):
                file.seek(begin + header[tensor]["data_offsets"][1] - len(want))
                self.assertEqual(file.read(len(want)), want)


if __name__ == "__main__":
    unittest.main()

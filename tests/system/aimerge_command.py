"""Runs the aimerge binary as a user does, and the small things that every system test needs.

Environment (set by CTest): AIMERGE_BINARY, AIMERGE_TEST_DATA, MPIEXEC; AIMERGE_TEST_ON_GPU where commands are to compute on a GPU, which a
CUDA build does by itself: there tests are skipped where there is none, and ranks share it.
"""
import functools
import json
import os
import pathlib
import shutil
import subprocess
import tempfile
import unittest

import numpy as np
from safetensors import safe_open
from safetensors.numpy import load_file, save_file

BINARY = os.environ["AIMERGE_BINARY"]
DATA = pathlib.Path(os.environ["AIMERGE_TEST_DATA"])
GOLDENS = DATA / "goldens"
MPIEXEC = os.environ.get("MPIEXEC", "mpirun")
ON_GPU = "AIMERGE_TEST_ON_GPU" in os.environ
# NCCL takes two ranks on one GPU for two machines with one GPU each, and connects them by sockets.
SHARED_GPU = {"AIMERGE_SHARE_GPUS": "1", "NCCL_SOCKET_IFNAME": "lo"} if ON_GPU else {}
AS_A_MACHINE = ["sh", "-c", 'NCCL_HOSTID=$OMPI_COMM_WORLD_RANK exec "$0" "$@"'] if ON_GPU else []


def launcher(ranks):
    return [MPIEXEC, "--oversubscribe", "--bind-to", "none", "-n", str(ranks), *AS_A_MACHINE] if ranks else []


def environment(cache, **extra):
    return {**os.environ, "OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1", **SHARED_GPU,
            "AIMERGE_CACHE_DIR": str(cache), **extra}


@functools.cache
def why_no_gpu():
    """What aimerge says of it; empty where there is a GPU."""
    result = subprocess.run([BINARY, "evaluate", "model", "--suite", "s", "--device", "cuda"], text=True, capture_output=True)
    return result.stderr.strip() if "has no GPU" in result.stderr else ""


def ranks_of(mpirun):
    """Process ids of the aimerge ranks below an mpirun."""
    found = []
    for status in pathlib.Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = status.read_text().rsplit(")", 1)[1].split()
            name = status.read_text().split("(")[1].split(")")[0]
        except (FileNotFoundError, ProcessLookupError):
            continue
        if name == "aimerge" and int(fields[1]) == mpirun.pid:
            found.append(int(status.parent.name))
    return sorted(found)


def bf16_to_float(bits):
    return (bits.astype(np.uint32) << 16).view(np.float32)


def float_to_bf16(values):
    """Round to nearest even, as uint16 bit patterns."""
    bits = np.ascontiguousarray(values, dtype=np.float32).view(np.uint32)
    return ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(np.uint16)


def read_raw(path):
    """{name: (dtype, shape, bytes)} of a safetensors file, without interpreting anything."""
    data = pathlib.Path(path).read_bytes()
    size = int.from_bytes(data[:8], "little")
    header = json.loads(data[8:8 + size])
    header.pop("__metadata__", None)
    return {name: (entry["dtype"], entry["shape"], data[8 + size + entry["data_offsets"][0]:8 + size + entry["data_offsets"][1]])
            for name, entry in header.items()}


def as_float(entry):
    dtype, shape, raw = entry
    if dtype == "BF16":
        return bf16_to_float(np.frombuffer(raw, np.uint16)).reshape(shape)
    return np.frombuffer(raw, {"F32": np.float32, "F16": np.float16, "F64": np.float64}[dtype]).astype(np.float64).reshape(shape)


def read_folder(folder):
    tensors = {}
    for path in sorted(pathlib.Path(folder).glob("*.safetensors")):
        tensors.update(read_raw(path))
    return tensors


def measured_tensors(folder):
    """{name: array} of what was measured on one model: the ranks' files together."""
    return {name: values for path in pathlib.Path(folder).glob("*.safetensors") for name, values in load_file(path).items()}


def file_bytes(folder, patterns=("*.safetensors", "*.index.json")):
    return {path.name: path.read_bytes() for pattern in patterns for path in sorted(pathlib.Path(folder).glob(pattern))}


def golden_manifest():
    return {entry["name"]: entry for entry in json.loads((GOLDENS / "manifest.json").read_text())["entries"]}


class AimergeTest(unittest.TestCase):
    """A test with a folder of its own: models are referred to by absolute path, caches are not shared."""

    @classmethod
    def setUpClass(cls):
        if reason := ON_GPU and why_no_gpu():
            raise unittest.SkipTest(reason)

    def setUp(self):
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="aimerge-test-"))
        self.cache = self.folder / "cache"
        self.addCleanup(shutil.rmtree, self.folder, ignore_errors=True)

    def likelihood_suite(self):
        """A task of ready token ids, and a text, for models of the golden family."""
        path = self.folder / "suite.jsonl"
        requests = json.loads((GOLDENS / "loglikelihood.json").read_text())
        path.write_text("".join(json.dumps({"task": "t", "context_ids": r["context"], "continuation_ids": r["continuation"]}) + "\n"
                                for r in requests) + json.dumps({"task": "text", "text_ids": list(range(2, 120))}) + "\n")
        return path

    def aimerge(self, *arguments, ranks=0, expect=0, timeout=120, **variables):
        """@param expect the exit code; None: any"""
        result = subprocess.run([*launcher(ranks), BINARY, *map(str, arguments)], cwd=self.folder, text=True,
                                capture_output=True, timeout=timeout, env=environment(self.cache, **variables))
        if expect is not None:
            self.assertEqual(result.returncode, expect, f"aimerge {' '.join(map(str, arguments))}\n{result.stdout}\n{result.stderr}")
        return result

    def config(self, text, name="merge.yaml"):
        path = self.folder / name
        path.write_text(text if isinstance(text, str) else json.dumps(text, indent=1))  # JSON is YAML
        return path

    def blocks(self, count=8):
        """The calibration blocks that the golden statistics were taken on."""
        pipeline = json.loads((GOLDENS / "calibration/pipeline.json").read_text())
        path = self.folder / "blocks.safetensors"
        save_file({"input_ids": np.array(pipeline["blocks"][:count], dtype=np.int64)}, path)
        return path

    def merge_config(self, method="task_arithmetic", experts=("expert_a", "expert_b"), family="family_f32", omega=None,
                     parameters=None, **keys):
        """A config over the golden family, with an aim section when `omega` is given."""
        root = GOLDENS / family
        config = {"merge_method": method, "base_model": str(root / "base"), "dtype": "float32",
                  "models": [{"model": str(root / name), "parameters": {"weight": 1.0}} for name in experts],
                  "parameters": parameters or {}, **keys}
        if omega is not None:
            config["aim"] = {"omega": omega, "calibration": {"token_ids": str(self.blocks()), "sequences": 8, "dtype": "float32"}}
        return config

    def assert_within(self, got, want, tolerance, name):
        allowed = tolerance["atol"] + tolerance["rtol"] * np.abs(want)
        violations = int(np.sum(~(np.abs(got.astype(np.float64) - want) <= allowed)))
        self.assertLessEqual(violations, tolerance.get("max_violations", 0),
                             f"{name}: {violations} of {want.size} elements outside the tolerance")

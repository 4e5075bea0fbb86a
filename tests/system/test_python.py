"""The Python package, in a fresh virtual environment, beside the command line: bytes, errors, interruption, threads, frames, types.

The environment has the tree that launch/wheel.sh packs, unpacked: packing takes half a minute. It sees the packages of build/venv.
"""
import json
import pathlib
import shutil
import signal
import site
import subprocess
import sys
import tempfile
import unittest

import h5py
import numpy as np
from safetensors import safe_open
from safetensors.numpy import load_file

from aimerge_command import BINARY, GOLDENS, AimergeTest, environment, file_bytes

ROOT = pathlib.Path(__file__).resolve().parents[2]
BUILD = pathlib.Path(BINARY).parents[1]
SOURCES = ROOT / "src/python"
FAMILY = GOLDENS / "family_f32"
TEXT = "The quick brown fox jumps over the lazy dog.\n" * 60
HAS_TORCH = sys.version_info >= (3, 11)


def make_environment(folder):
    """@return its interpreter"""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
    packages, = folder.glob("lib/python3*/site-packages")
    shutil.copytree(SOURCES / "aimerge", packages / "aimerge", ignore=shutil.ignore_patterns("__pycache__"))
    for component in ("Unspecified", "python"):
        subprocess.run(["cmake", "--install", BUILD, "--component", component, "--prefix", packages / "aimerge/engine"], check=True,
                       capture_output=True)
    subprocess.run([sys.executable, "-B", SOURCES / "wheel/complete_tree.py", packages / "aimerge/engine"], check=True)
    (packages / "others.pth").write_text("\n".join(site.getsitepackages()))
    return folder / "bin/python"


class Package(AimergeTest):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        place = pathlib.Path(tempfile.mkdtemp(prefix="aimerge-python-"))
        cls.addClassCleanup(shutil.rmtree, place, ignore_errors=True)
        cls.interpreter = make_environment(place / "venv")

    def setUp(self):
        super().setUp()
        (self.folder / "corpus.txt").write_text(TEXT)

    def start(self, code, *arguments, **variables):
        path = self.folder / "script.py"
        path.write_text(code)
        return subprocess.Popen([self.interpreter, path, *map(str, arguments)], cwd=self.folder, text=True, stdout=subprocess.PIPE,
                                stderr=subprocess.PIPE, env=environment(self.folder / "cache-python", **variables))

    def python(self, code, *arguments, expect=0, **variables):
        process = self.start(code, *arguments, **variables)
        stdout, stderr = process.communicate(timeout=120)
        self.assertEqual(process.returncode, expect, f"{code}\n{stdout}\n{stderr}")
        return stdout if expect == 0 else stderr

    def aim_config(self, **changes):
        return {"merge_method": "ties", "base_model": str(FAMILY / "base"), "dtype": "float32", "parameters": {"density": 0.5},
                "models": [{"model": str(FAMILY / name), "parameters": {"weight": 0.7}} for name in ("expert_a", "expert_b")],
                "aim": {"omega": 0.4, "calibration": {"corpus": str(self.folder / "corpus.txt"), "sequences": 8, "sequence_length": 32}},
                **changes}

    def test_importing_is_quick_and_brings_no_libtorch(self):
        code = """
import time
begin = time.process_time()
import aimerge
seconds = time.process_time() - begin
import sys
maps = open("/proc/self/maps").read()
assert "libaimerge.so" in maps
print(seconds, "torch_cpu" in maps, "numpy" in sys.modules, aimerge.__version__)
"""
        runs = [self.python(code).split() for _ in range(3)]
        self.assertLess(min(float(run[0]) for run in runs), 0.2)
        self.assertEqual(runs[0][1:3], ["False", "False"])
        self.assertEqual("aimerge " + runs[0][3], self.aimerge("--version").stdout.strip())

    def test_the_command_line_comes_along(self):
        result = subprocess.run([self.interpreter, "-m", "aimerge", "--version"], text=True, capture_output=True, check=True)
        self.assertEqual(result.stdout, self.aimerge("--version").stdout)

    def test_a_merge_with_aim_has_the_bytes_of_the_command_line(self):
        code = """
import json, logging, sys, aimerge
logging.basicConfig(level=logging.INFO)
config = json.load(open("merge.yaml"))
heard = []
merged = aimerge.merge(config, "by-dict", threads=1, progress=heard.append, set={"aim.omega": 0.3})
assert [str(c.folder) for c in merged.checkpoints] == ["by-dict"] and merged.checkpoints[0].omega == 0.3
assert heard[-1].phase == "merge" and heard[-1].done == heard[-1].total > 0 and heard[-1].last, heard
assert {state.phase for state in heard} == {"calibrate", "merge"}
assert aimerge.merge("merge.yaml", "by-path", threads=1, set=["aim.omega=0.3"]).bytes == merged.bytes
aimerge.merge(open("merge.yaml").read(), "by-text", threads=1, set={"aim": {**config["aim"], "omega": 0.3}})
assert aimerge.merge(config, "dry", dry_run=True).checkpoints == ()
aimerge.relax("by-path", config["base_model"], "relaxed", omega=0.5, statistics="by-path/aimerge_statistics.h5", threads=1)
assert aimerge.verify("by-path").findings == ()
print(aimerge.plan(config))
print(json.dumps(aimerge.inspect("by-path")), file=open("inspect.json", "w"))
"""
        config = self.config(self.aim_config())
        process = self.start(code)
        stdout, stderr = process.communicate(timeout=120)
        self.assertEqual(process.returncode, 0, stderr)
        self.assertIn("INFO:aimerge:AIM relaxed", stderr)
        self.assertIn("FLOPs", stdout)
        self.aimerge("merge", config, "--out", "built", "--threads", 1, "--set", "aim.omega=0.3")
        self.aimerge("relax", "built", "--base", FAMILY / "base", "--out", "built-relaxed", "--omega", 0.5,
                     "--statistics", "built/aimerge_statistics.h5", "--threads", 1)
        built = file_bytes(self.folder / "built")
        self.assertIn("model.safetensors", built)
        for folder in ("by-dict", "by-path", "by-text"):
            self.assertEqual(file_bytes(self.folder / folder), built, folder)
        self.assertEqual(file_bytes(self.folder / "relaxed"), file_bytes(self.folder / "built-relaxed"))
        self.assertNotEqual(file_bytes(self.folder / "relaxed"), built)
        self.assertFalse((self.folder / "dry").exists())
        self.assertEqual(json.loads((self.folder / "inspect.json").read_text()), json.loads(self.aimerge("inspect", "by-path", "--json").stdout))

    def test_a_merge_in_memory_is_asked_changed_scored_and_saved(self):
        code = """
import json, sys, numpy as np, aimerge
config, suite = json.load(open("merge.yaml")), sys.argv[1]
held = aimerge.merge(config, out=None, threads=1)
name = "model.layers.0.mlp.down_proj.weight"
first = held[name]
assert first.dtype == np.float32 and first.shape == held.shape(name) and not first.flags.writeable
np.savez("first.npz", **held)
held.save("first")
held.set({"models.0.parameters.weight": 0.2, "aim.omega": 0.1})
np.savez("second.npz", **held)
assert not np.array_equal(first, held[name]) and np.array_equal(first, np.load("first.npz")[name])
json.dump([[t.task, t.metric, t.score] for t in held.evaluate(suite, samples=True).tasks], open("scores.json", "w"))
held.save("second")
try:
    held.set({"parameters.density": 7})
    sys.exit("density 7 was taken")
except aimerge.UsageError as error:
    assert "density" in str(error)
assert np.array_equal(held[name], np.load("second.npz")[name])
try:
    held["nowhere"]
    sys.exit("there is no such tensor")
except KeyError:
    pass
held.close()
assert np.array_equal(first, np.load("first.npz")[name])  # what was given out stays
try:
    held[name]
    sys.exit("it was closed")
except aimerge.UsageError:
    pass
with aimerge.merge({**config, "dtype": "bfloat16"}, out=None, threads=1) as rounded:
    assert rounded.dtype(name) == "bfloat16" and rounded[name].dtype == np.float32
    np.save("rounded.npy", rounded[name])
    if sys.argv[2] == "torch":
        import torch
        tensor = rounded.torch(name)
        assert tensor.dtype == torch.bfloat16 and np.array_equal(tensor.float().numpy(), rounded[name])
        assert tensor.data_ptr() == rounded.torch(name).data_ptr()  # the engine's own memory
"""
        config = self.config(self.aim_config())
        self.python(code, self.likelihood_suite(), "torch" if HAS_TORCH else "")
        self.aimerge("merge", config, "--out", "built", "--threads", 1)
        changed = ("--set", "models.0.parameters.weight=0.2", "--set", "aim.omega=0.1", "--threads", 1)
        self.aimerge("merge", config, "--out", "built-second", *changed)
        for held, saved, built in (("first.npz", "first", "built"), ("second.npz", "second", "built-second")):
            written = load_file(self.folder / built / "model.safetensors")
            arrays = np.load(self.folder / held)
            self.assertEqual(set(arrays), set(written))
            for name, values in written.items():
                np.testing.assert_array_equal(arrays[name], values, name)
            self.assertEqual(file_bytes(self.folder / saved), file_bytes(self.folder / built))
        scores = json.loads(self.aimerge("evaluate", "built-second", "--suite", self.likelihood_suite(), "--json").stdout)["tasks"]
        self.assertEqual(json.loads((self.folder / "scores.json").read_text()),
                         [[task, entry["metric"], entry["score"]] for task, entry in scores.items()])
        self.aimerge("merge", config, "--out", "built-rounded", "--threads", 1, "--set", "dtype=bfloat16")
        name = "model.layers.0.mlp.down_proj.weight"
        with safe_open(self.folder / "built-rounded/model.safetensors", "pt") as rounded:
            np.testing.assert_array_equal(np.load(self.folder / "rounded.npy"), rounded.get_tensor(name).float().numpy())

    def test_aim_comes_and_goes_with_a_setting(self):
        code = """
import json, numpy as np, aimerge
config = json.load(open("merge.yaml"))
aim = config.pop("aim")
with aimerge.merge(config, out=None, threads=1) as held:
    np.savez("plain.npz", **held)
    held.set({"aim": aim})
    np.savez("relaxed.npz", **held)
    held.set({})
    np.savez("plain-again.npz", **held)
"""
        config = self.aim_config()
        self.config(config)
        self.python(code)
        self.aimerge("merge", self.config(config), "--out", "relaxed", "--threads", 1)
        del config["aim"]
        self.aimerge("merge", self.config(config), "--out", "plain", "--threads", 1)
        for held, built in (("plain", "plain"), ("relaxed", "relaxed"), ("plain-again", "plain")):
            written, arrays = load_file(self.folder / built / "model.safetensors"), np.load(self.folder / f"{held}.npz")
            self.assertEqual(set(arrays), set(written))
            for name, values in written.items():
                np.testing.assert_array_equal(arrays[name], values, f"{held} {name}")

    def test_errors_have_their_kind_and_the_line_of_the_command(self):
        code = """
import sys, aimerge
def line(kind, function, *arguments, **keywords):
    try:
        function(*arguments, **keywords)
    except aimerge.Error as error:
        assert type(error) is kind, error
        print("aimerge:", error)
        return error
    raise AssertionError("no error")
line(aimerge.UsageError, aimerge.merge, "unknown.yaml", "out")
line(aimerge.InputError, aimerge.merge, "missing.yaml", "out")
line(aimerge.RuntimeFault, aimerge.merge, "good.yaml", "/proc/none/out")
damaged = line(aimerge.DamageFound, aimerge.verify, "damaged")
assert [finding.tensor for finding in damaged.result.findings] == ["model.norm.weight"], damaged.result
for keywords in ({"threads": 0}, {"threads": "2"}, {"memory_limit": "many"}, {"memory_limit": -5}, {"memory_limit": 24e9}, {"device": "tpu"}, {"set": "aim.omega=1"}):
    try:
        aimerge.merge("good.yaml", "out", **keywords)
        raise AssertionError(keywords)
    except aimerge.UsageError as error:
        assert str(next(iter(keywords.values()))) in str(error), error
try:
    aimerge.merge("good.yaml", "other", progress=lambda state: 1 / 0)
    raise AssertionError("the exception of a listener is lost")
except ZeroDivisionError:
    pass
"""
        plain = self.aim_config()
        del plain["aim"]
        self.config(plain, "good.yaml")
        self.config({**plain, "merge_method": "tias"}, "unknown.yaml")
        self.config({**plain, "base_model": "/no/such"}, "missing.yaml")
        self.aimerge("merge", "good.yaml", "--out", "damaged")
        shard = self.folder / "damaged/model.safetensors"
        data = bytearray(shard.read_bytes())
        header = json.loads(data[8:8 + int.from_bytes(data[:8], "little")])
        data[8 + int.from_bytes(data[:8], "little") + header["model.norm.weight"]["data_offsets"][0]] ^= 1
        shard.write_bytes(data)
        lines = self.python(code).splitlines()
        self.assertEqual(lines, [self.aimerge(*command, expect=code).stderr.splitlines()[-1] for command, code in (
            (("merge", "unknown.yaml", "out"), 2), (("merge", "missing.yaml", "out"), 3), (("merge", "good.yaml", "/proc/none/out"), 4),
            (("verify", "damaged"), 6))])

    def test_control_c_stops_a_job_and_the_same_call_goes_on(self):
        code = """
import signal, aimerge
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs ignore it
omegas = [round(0.005 * (i + 1), 3) for i in range(150)]
def merge(**keywords):
    return aimerge.merge("merge.yaml", "out", threads=1, set={"aim.omega": omegas}, **keywords)
def listen(state):
    if state.phase == "merge":
        print("merges", flush=True)
try:
    merge(progress=listen)
    raise AssertionError("not interrupted")
except KeyboardInterrupt:
    print("stopped", flush=True)
import os
assert not os.path.exists("out") and os.path.exists("out.partial")
print(len(merge().checkpoints))
"""
        self.config(self.aim_config())
        process = self.start(code)
        self.assertEqual(process.stdout.readline(), "merges\n", process.stderr)
        process.send_signal(signal.SIGINT)
        stdout, stderr = process.communicate(timeout=120)
        self.assertEqual(process.returncode, 0, stdout + stderr)
        self.assertEqual(stdout.splitlines()[-2:], ["stopped", "150"])
        self.aimerge("merge", "merge.yaml", "--out", "alone", "--threads", 1, "--set", "aim.omega=0.5")
        self.assertEqual(file_bytes(self.folder / "out/omega-0.5"), file_bytes(self.folder / "alone"))

    def test_two_threads_run_two_jobs(self):
        code = """
import concurrent.futures, json, aimerge
config = json.load(open("merge.yaml"))
def merge(density):
    aimerge.merge({**config, "parameters": {"density": density}}, f"thread-{density}", threads=1)
    return len(aimerge.statistics(f"thread-{density}").modules)
with concurrent.futures.ThreadPoolExecutor(2) as pool:
    counts = set(pool.map(merge, (0.5, 0.2, 0.9, 0.7)))
assert len(counts) == 1 and counts.pop() > 20
"""
        self.config(self.aim_config())
        self.python(code)
        for density in (0.5, 0.2, 0.9, 0.7):
            self.aimerge("merge", "merge.yaml", "--out", f"alone-{density}", "--threads", 1, "--set", f"parameters.density={density}")
            self.assertEqual(file_bytes(self.folder / f"thread-{density}"), file_bytes(self.folder / f"alone-{density}"))

    def test_statistics_are_the_arrays_of_the_log(self):
        code = """
import json, numpy as np, aimerge
assert aimerge.calibrate("merge.yaml", "log.h5", threads=1).source == "measured"
assert aimerge.calibrate("merge.yaml", "log.h5", threads=1).source == "present"
statistics = aimerge.statistics("log.h5")
assert statistics.origin["tokens"] == 256
arrays = {}
for name, module in statistics.modules.items():
    assert module.tokens == 256 and module.input_axis == -1 and module.expert_tokens.size == 0
    for key in ("mean_abs", "rms", "max_abs", "importance"):
        arrays[f"{name}/{key}"] = getattr(module, key)
np.savez("arrays.npz", **arrays)
try:
    aimerge.statistics("merge.yaml")
    raise AssertionError("a config is no log")
except aimerge.InputError:
    pass
"""
        self.config(self.aim_config())
        self.python(code)
        arrays = np.load(self.folder / "arrays.npz")
        with h5py.File(self.folder / "log.h5") as log:
            modules = log["statistics"]
            self.assertEqual({name.rsplit("/", 1)[0] for name in arrays.files}, set(modules))
            for name in modules:
                for key in ("mean_abs", "rms", "max_abs"):
                    np.testing.assert_array_equal(arrays[f"{name}/{key}"], modules[name][key][()])
                mean = modules[name]["mean_abs"][()]
                np.testing.assert_array_equal(arrays[f"{name}/importance"], mean / mean.max())

    @unittest.skipUnless(HAS_TORCH, "there is no such pandas for Python 3.10")
    def test_scores_are_frames(self):
        code = """
import json, sys, aimerge
suite, model = sys.argv[1:]
scores = aimerge.evaluate(model, suite, block_length=32, threads=1, samples=True)
assert scores.tokens > 0 and len(scores.samples) == sum(task.items for task in scores.tasks if task.metric != "perplexity") + 1
scores.frame().to_json("scores.json", orient="records")
sweep = aimerge.sweep("sweep.yaml", threads=1)
assert (sweep.tried, sweep.failed) == (5, 0), sweep
frame = sweep.frame()
assert list(frame.columns) == list(sweep.rows()[0]) and list(frame["model"]) == [row["model"] for row in sweep.rows()]
frame.to_json("points.json", orient="records")
try:
    aimerge.sweep("failing.yaml", threads=1)
    raise AssertionError("a failed point is not told")
except aimerge.RuntimeFault as error:
    failed = error.result.frame().set_index("model")["error"].dropna()
    assert "1 of" in str(error) and error.result.failed == 1 and list(failed.index) == ["slerp-a+b-omega-1.0"] and "slerp" in failed.iloc[0], failed
"""
        suite, model = self.likelihood_suite(), FAMILY / "expert_a"
        sweep = {"base_model": str(FAMILY / "base"), "experts": {"a": str(FAMILY / "expert_a"), "b": str(FAMILY / "expert_b")},
                 "methods": ["task_arithmetic"], "omega": [1.0, 0.4],
                 "aim": {"calibration": {"token_ids": str(self.blocks()), "sequences": 8, "dtype": "float32"}},
                 "evaluation": {"suites": [str(suite)], "block_length": 32}, "output": {"directory": "out", "keep": "scores"}}
        self.config(sweep, "sweep.yaml")
        # slerp takes one model beside the base.
        self.config({**sweep, "methods": [{"merge_method": "slerp", "parameters": {"t": 0.5}}], "omega": 1.0, "aim": None,
                     "output": {"directory": "failing", "keep": "scores"}}, "failing.yaml")
        self.python(code, suite, model)
        said = json.loads(self.aimerge("evaluate", model, "--suite", suite, "--block-length", 32, "--threads", 1, "--json").stdout)["tasks"]
        frame = json.loads((self.folder / "scores.json").read_text())
        self.assertEqual([row["task"] for row in frame], list(said))
        for row in frame:
            self.assertEqual({key: row[key] for key in ("metric", "items")}, {key: said[row["task"]][key] for key in ("metric", "items")})
            self.assertAlmostEqual(row["score"], said[row["task"]]["score"], places=8)
        self.config({**sweep, "output": {"directory": "again", "keep": "scores"}}, "sweep.yaml")
        self.aimerge("sweep", "sweep.yaml", "--threads", 1)
        points = [line.split(",") for line in (self.folder / "again/points.csv").read_text().splitlines()]
        at = points[0].index("t")
        frame = json.loads((self.folder / "points.json").read_text())
        self.assertEqual([row["model"] for row in frame], [row[0] for row in points[1:]])
        np.testing.assert_allclose([row["t"] for row in frame], [float(row[at]) for row in points[1:]], atol=1e-8)

    @unittest.skipUnless(HAS_TORCH, "there is no torch for Python 3.10")
    def test_torch_of_the_process_and_libtorch_do_not_meet(self):
        code = """
import sys, aimerge
def merge():
    aimerge.merge("merge.yaml", sys.argv[1], threads=1)
def multiply():
    import torch
    ones = torch.ones(64, 64, dtype=torch.float64)
    assert (ones @ ones).sum().item() == 64 ** 3
    assert torch.nn.Linear(4, 4)(torch.ones(1, 4)).sum().backward() is None
for step in sys.argv[2:]:
    {"merge": merge, "torch": multiply}[step]()
libraries = {line.split()[-1] for line in open("/proc/self/maps") if "torch_cpu" in line}
assert len(libraries) == 2, libraries
"""
        self.config(self.aim_config())
        self.aimerge("merge", "merge.yaml", "--out", "alone", "--threads", 1)
        for order in (("merge", "torch"), ("torch", "merge", "torch")):
            out = "-".join(order)
            self.python(code, out, *order, AIMERGE_CACHE_DIR=str(self.folder / f"cache-{out}"))  # measured each time
            self.assertEqual(file_bytes(self.folder / out), file_bytes(self.folder / "alone"))

    @unittest.skipUnless(HAS_TORCH, "there is no torch for Python 3.10")
    def test_a_torch_that_is_loaded_for_all_is_refused(self):
        code = """
import os, sys, aimerge
sys.setdlopenflags(os.RTLD_NOW | os.RTLD_GLOBAL)
import torch
try:
    aimerge.merge("merge.yaml", "out", threads=1)
    raise AssertionError("not refused")
except aimerge.UsageError as error:
    assert "RTLD_GLOBAL" in str(error)
"""
        self.config(self.aim_config())
        self.python(code)

    @unittest.skipUnless(HAS_TORCH, "there is no such mypy for Python 3.10")
    def test_its_types_are_strict(self):
        (self.folder / "user.py").write_text("import aimerge\nscore: float = aimerge.evaluate('m', 's').tasks[0].score\n"
                                             "wrong: str = aimerge.merge({}, 'out').bytes\n")
        command = [sys.executable, "-m", "mypy", "--strict", "--cache-dir", self.folder / "types"]
        result = subprocess.run([*command, "--config-file", SOURCES / "pyproject.toml", SOURCES / "aimerge"], text=True, capture_output=True)
        self.assertEqual(result.returncode, 0, result.stdout + result.stderr)
        result = subprocess.run([*command, "--python-executable", self.interpreter, "user.py"], cwd=self.folder, text=True, capture_output=True)
        self.assertEqual(result.stdout.count("error:"), 1, result.stdout)
        self.assertIn("user.py:3: error: Incompatible types", result.stdout)


if __name__ == "__main__":
    unittest.main()

"""The numbers of include/aimerge/core/revision.h belong to results: tests/data/revisions.json holds both, and neither may change without the other.

What is compared with a tolerance is what other machines give other last bits (libtorch's matrix products): weighted sums over the channels, so that
every value counts, and not digests of rounded values, of which there is always one so close to a border that a last bit moves it over. Everything
else is the same to the bit on every machine, and is held as digests.

AIMERGE_WRITE_REVISIONS=1 writes results of kinds whose number was raised, and those that were not held before.
"""
import hashlib
import json
import math
import os
import pathlib
import re
import unittest

import h5py
import numpy as np

from aimerge_command import DATA, GOLDENS, AimergeTest, measured_tensors, read_folder

HEADER = pathlib.Path(__file__).resolve().parents[2] / "include/aimerge/core/revision.h"
HELD = DATA / "revisions.json"
FAMILY = GOLDENS / "family_f32"
TOLERANCE = 1e-4  # of sums; float32 products of 8 x 64 tokens differ by about 1e-6 between machines
FORMS = {"journal", "manifest"}  # tests/output holds these two

SPARSE = {"density": 0.5}
# Those that go through sines, logarithms or exponentials of the C library: rounded to bfloat16, so that its last bit does not count.
BY_LIBRARY = {"slerp": ("expert_a",), "nuslerp": ("expert_a", "expert_b"), "multislerp": ("expert_a", "expert_b"), "karcher": ("expert_a", "expert_b"),
              "widen": ("expert_a", "expert_b")}
EXACT = {"linear": {"weight": 0.5}, "task_arithmetic": SPARSE, "ties": SPARSE, "dare_linear": SPARSE, "dare_ties": SPARSE, "breadcrumbs": {**SPARSE, "gamma": 0.1},
         "breadcrumbs_ties": {**SPARSE, "gamma": 0.1}, "della": {**SPARSE, "epsilon": 0.1}, "della_linear": {**SPARSE, "epsilon": 0.1}, "model_stock": {},
         "sce": {}, "ram": {}, "ramplus_tl": {}, "arcee_fusion": {}, "nearswap": {"t": 0.01}, "actmat": {}, "wudi": {}}
OF_ONE_EXPERT = {"nearswap", "arcee_fusion"}
NOT_HELD = {"passthrough": "copies", "fisher": "by expert_statistics", "regmean": "by expert_statistics"}
WEIGHTED = {"linear", "task_arithmetic", "ties", "dare_linear", "dare_ties", "breadcrumbs", "breadcrumbs_ties", "della", "della_linear", "nuslerp",
            "multislerp"}


def revisions():
    """{kind: number}, as the program has them."""
    found = re.findall(r"^inline constexpr int k(\w+) = (\d+);", HEADER.read_text(), re.MULTILINE)
    return {re.sub(r"(?<!^)(?=[A-Z])", "_", name).lower(): int(number) for name, number in found}


def weighted_sum(values):
    """A sum of magnitudes, so that nothing cancels, with weights that differ between neighbours."""
    values = np.abs(np.asarray(values, np.float64)).ravel()
    return float(f"{np.dot(values, 1 + np.arange(values.size) % 7):.8g}")


def digest_of(folder):
    hasher = hashlib.sha256()
    for name, (dtype, shape, data) in sorted(read_folder(folder).items()):
        hasher.update(f"{name} {dtype} {shape}\n".encode() + data)
    return hasher.hexdigest()[:32]


def leaves(results, path=""):
    """{"aim/ties": value} of nested results."""
    if not isinstance(results, dict):
        return {path: results}
    return {name: leaf for key, value in results.items() for name, leaf in leaves(value, f"{path}/{key}" if path else key).items()}


def is_same(got, held):
    return math.isclose(got, held, rel_tol=TOLERANCE, abs_tol=1e-12) if isinstance(got, float) else got == held


class Revisions(AimergeTest):
    maxDiff = None

    def calibrated(self, name, **calibration):
        config = {"base_model": str(FAMILY / "base"), "aim": {"omega": 0.4, "calibration": {"dtype": "float32", **calibration}}}
        self.aimerge("calibrate", self.config(config, f"{name}.yaml"), "--out", self.folder / f"{name}.h5", "--threads", 1)
        return self.folder / f"{name}.h5"

    def check(self, kind, results):
        number, all_held = revisions()[kind], json.loads(HELD.read_text())
        entry = all_held.get(kind, {"revision": 0, "results": {}})
        got, held = leaves(results), leaves(entry["results"])
        changed = [f"{name}: {held[name]}, now {got.get(name)}" for name in held if name not in got or not is_same(got[name], held[name])]
        added = got.keys() - held.keys()
        constant = "k" + "".join(part.capitalize() for part in kind.split("_"))
        if number == entry["revision"]:
            self.assertFalse(changed, f"results of kind {kind} have changed and their revision has not: raise {constant} in {HEADER}, so that what older "
                                      "versions have left is not taken for them, and run this test with AIMERGE_WRITE_REVISIONS=1")
            if not added:
                return
        else:
            self.assertTrue(changed or added, f"{constant} is {number}, {HELD.name} has {entry['revision']}: a revision is raised when results change, and "
                                              "none of these has; add to this test what has, or put the number back")
        if not os.environ.get("AIMERGE_WRITE_REVISIONS"):
            self.fail(f"{HELD.name} does not hold what this test finds for revision {number} of {kind}: run it with AIMERGE_WRITE_REVISIONS=1")
        HELD.write_text(json.dumps({**all_held, kind: {"revision": number, "results": results}}, indent=1, sort_keys=True) + "\n")

    def test_that_every_kind_is_held(self):
        self.assertEqual(set(json.loads(HELD.read_text())), set(revisions()) - FORMS)

    def test_that_every_method_is_held(self):
        methods = {method["name"] for method in json.loads(self.aimerge("methods", "--json").stdout)}
        self.assertEqual({*EXACT, *BY_LIBRARY, *NOT_HELD}, methods)

    def test_token_blocks(self):
        words = [f"{'abcdefghij'[i % 10]} line {i} of some text, {i * i} and more" for i in range(60)]
        (self.folder / "stream.txt").write_text("\n".join(words))
        (self.folder / "lines.jsonl").write_text("".join(json.dumps({"text": word}) + "\n" for word in words))
        digests = {}
        for name, calibration in (("stream", {"corpus": "stream.txt", "packing": "stream"}), ("lines", {"corpus": "lines.jsonl", "packing": "lines"})):
            calibration["corpus"] = str(self.folder / calibration["corpus"])
            with h5py.File(self.calibrated(name, sequences=4, sequence_length=32, **calibration)) as log:
                digests[name] = log.attrs["tokens_digest"]
        self.check("token_blocks", digests)

    def test_statistics_and_contents(self):
        with h5py.File(self.calibrated("log", token_ids=str(self.blocks()))) as log:
            self.assertEqual(log.attrs["revision"], revisions()["statistics"])
            sums = {f"{module}/{name}": weighted_sum(group[name][:]) for module, group in log["statistics"].items() for name in group}
            self.check("statistics", sums)
            self.check("content_digest", {"base": log.attrs["base_digest"]})

    def test_statistics_of_experts(self):
        calibration = {"token_ids": str(self.blocks(4)), "dtype": "float32"}
        results = {}
        for kind, config in (("gram", {**self.merge_config("regmean", experts=("expert_a",)), "calibration": calibration}),
                             ("fisher", {**self.merge_config("fisher", experts=("expert_a",)), "calibration": calibration}),
                             ("sensitivity", {**self.merge_config(experts=("expert_a",)),
                                              "aim": {"omega": 0.4, "statistic": "sensitivity", "calibration": calibration}})):
            if kind != "sensitivity":
                config["models"] = [{"model": entry["model"]} for entry in config["models"]]
                config.pop("base_model")
                config["models"].append({"model": str(FAMILY / "expert_b")})
            cache = self.folder / f"cache-{kind}"
            self.aimerge("merge", self.config(config, f"{kind}.yaml"), "--out", self.folder / kind, "--threads", 1, AIMERGE_CACHE_DIR=str(cache))
            sums = {}
            for folder in (cache / "expert-statistics").iterdir():
                if not folder.is_dir():
                    continue
                for name, values in measured_tensors(folder).items():
                    sums[name] = sums.get(name, 0.0) + weighted_sum(values)
            results[kind] = sums
        self.check("expert_statistics", results)

    def methods_config(self, method, experts, parameters, **keys):
        config = self.merge_config(method, experts, parameters=parameters, **keys)
        if method not in WEIGHTED:
            config["models"] = [{"model": entry["model"]} for entry in config["models"]]
        return config

    def merged(self, name, config):
        self.aimerge("merge", self.config(config, f"{name}.yaml"), "--out", self.folder / name)
        manifest = json.loads((self.folder / name / "aimerge_manifest.json").read_text())
        self.assertEqual(manifest["revisions"], {"merged_values": revisions()["merged_values"]})
        return digest_of(self.folder / name)

    def made_log(self):
        """Statistics that no machine has computed."""
        log = self.folder / "made.h5"
        log.write_bytes(self.calibrated("log", token_ids=str(self.blocks()))
                        .read_bytes()[512:])  # without its checksum
        with h5py.File(log, "r+") as file:
            for module, group in file["statistics"].items():
                for name in group:
                    values = (np.arange(group[name].size) * 37 % 64 + 1) / 64
                    group[name][:] = values.astype(np.float32)
        return log

    def test_merged_values(self):
        digests = {}
        for method, parameters in EXACT.items():
            experts = ("expert_a",) if method in OF_ONE_EXPERT else ("expert_a", "expert_b")
            digests[method] = self.merged(method, self.methods_config(method, experts, parameters))
        for method, experts in BY_LIBRARY.items():
            parameters = {"t": 0.3} if method == "slerp" else {}
            digests[method] = self.merged(method, self.methods_config(method, experts, parameters, out_dtype="bfloat16"))
        log = str(self.made_log())
        for name, aim in (("mean_abs", {}), ("wanda", {"statistic": "wanda"}), ("rms_layer_top", {"statistic": "rms", "normalisation": "layer", "shape": "top:0.25"})):
            config = self.merge_config("ties", parameters=SPARSE)
            digests[f"aim_{name}"] = self.merged(f"aim_{name}", {**config, "aim": {"omega": 0.4, "statistics": log, **aim}})
        self.check("merged_values", digests)

    def test_featcal(self):
        calibration = {"token_ids": str(self.blocks(4)), "dtype": "float32"}
        config = {**self.merge_config(), "out_dtype": "float32", "calibration": calibration, "featcal": {"rho": 0.5, "alpha": 0.5}}
        self.aimerge("merge", self.config(config), "--out", self.folder / "fitted", "--threads", 1)
        self.check("featcal", {name: weighted_sum(np.frombuffer(data, np.float32))
                               for name, (_, _, data) in read_folder(self.folder / "fitted").items()})

    def test_scores(self):
        items = [{"task": "choices", "context_ids": [5, 9, 31], "continuation_ids": [[7, 8], [40, 41, 42]], "answer": 1},
                 {"task": "choices", "context_ids": [11, 3], "continuation_ids": [[90], [17]], "answer": 0},
                 {"task": "text", "text_ids": [(7 * i * i + 3 * i) % 320 for i in range(100)]}]
        suite = self.folder / "suite.jsonl"
        suite.write_text("".join(json.dumps(item) + "\n" for item in items))
        samples = self.folder / "samples.jsonl"
        tasks = json.loads(self.aimerge("evaluate", FAMILY / "base", "--suite", suite, "--dtype", "float32", "--block-length", 32, "--samples", samples,
                                        "--json").stdout)["tasks"]
        results = {name: {"metric": task["metric"], "score": float(task["score"])} for name, task in tasks.items()}
        likelihoods = [json.loads(line)["loglikelihood"] for line in samples.read_text().splitlines()]
        results["loglikelihoods"] = weighted_sum(np.concatenate([np.ravel(values) for values in likelihoods]))
        self.check("scores", results)


if __name__ == "__main__":
    unittest.main()

"""The same bytes for any number of ranks, threads, shard sizes and memory limits, and the identities of the formula."""
import unittest

import h5py
import numpy as np

from aimerge_command import GOLDENS, AimergeTest, as_float, file_bytes, read_folder


def statistics(path):
    with h5py.File(path) as file:
        return {f"{module}/{name}": data[:].tobytes() for module, group in file["statistics"].items() for name, data in group.items()}


class SameBytes(AimergeTest):
    def merged(self, name, config, *options, **keywords):
        out = self.folder / name
        self.aimerge("merge", self.config(config), "--out", out, "--threads", 1, *options, **keywords)
        return out

    def test_for_any_number_of_ranks(self):
        config = self.merge_config("ties", omega=0.4, parameters={"density": 0.5})
        options = ("--max-shard-size", "200KB")
        alone = self.merged("alone", config, *options, AIMERGE_CACHE_DIR=str(self.folder / "cache-0"))
        for ranks in (1, 2, 3, 4):
            with self.subTest(ranks=ranks):
                together = self.merged(f"ranks-{ranks}", config, *options, ranks=ranks,
                                       AIMERGE_CACHE_DIR=str(self.folder / f"cache-{ranks}"))
                self.assertEqual(file_bytes(together), file_bytes(alone))
                self.assertEqual(statistics(together / "aimerge_statistics.h5"), statistics(alone / "aimerge_statistics.h5"))
        self.assertGreater(len(file_bytes(alone)), 3)

    def test_of_random_methods_for_any_number_of_ranks_and_threads(self):
        for method in ("dare_ties", "della"):
            config = self.config(self.merge_config(method, parameters={"density": 0.5}))
            alone = self.folder / method
            self.aimerge("merge", config, "--out", alone, "--threads", 1)
            for ranks, threads in ((1, 2), (2, 1), (3, 5)):
                with self.subTest(method=method, ranks=ranks, threads=threads):
                    together = self.folder / f"{method}-{ranks}-{threads}"
                    self.aimerge("merge", config, "--out", together, "--threads", threads, ranks=ranks)
                    self.assertEqual(file_bytes(together), file_bytes(alone))

    def test_with_layer_streaming(self):
        config = self.config(self.merge_config(omega=0.4))
        self.aimerge("calibrate", config, "--out", self.folder / "resident.h5", "--threads", 1)
        # Enough for one layer (0.15 MB in float32) and its working set, not for a stage of three.
        streamed = self.aimerge("calibrate", config, "--out", self.folder / "streamed.h5", "--threads", 1, "--memory-limit",
                                self.least_memory(config), AIMERGE_CACHE_DIR=str(self.folder / "cache-streamed"))
        self.assertIn("stream", streamed.stderr)
        self.assertEqual(statistics(self.folder / "streamed.h5"), statistics(self.folder / "resident.h5"))

    def least_memory(self, config):
        """The smallest limit that the planner accepts, from its own message."""
        refused = self.aimerge("plan", config, "--memory-limit", "1KB", "--threads", 1, expect=2)
        words = refused.stderr.replace(",", " ").split()
        limits = [f"{float(number) * 1.02:.3f}{unit}" for number, unit in zip(words, words[1:]) if unit.strip(".;)") in ("kB", "KB", "MB")
                  and number.replace(".", "").isdigit()]
        self.assertTrue(limits, refused.stderr)
        return max((limit.strip(".;)") for limit in limits), key=lambda text: float(text[:-2]) * {"k": 1, "K": 1, "M": 1000}[text[-2]])

    def test_for_any_number_of_threads_given_the_statistics(self):
        config = self.merge_config("ties", omega=[0.4, 0.8], parameters={"density": 0.3})
        self.aimerge("calibrate", self.config(config), "--out", self.folder / "stats.h5")
        config["aim"] = {"omega": [0.4, 0.8], "statistics": str(self.folder / "stats.h5")}
        results = []
        for threads in (1, 2, 5):
            out = self.folder / f"threads-{threads}"
            self.aimerge("merge", self.config(config), "--out", out, "--threads", threads)
            results.append({**file_bytes(out / "omega-0.4"), **{"b" + k: v for k, v in file_bytes(out / "omega-0.8").items()}})
        self.assertEqual(results[0], results[1])
        self.assertEqual(results[0], results[2])

    def test_shard_size_changes_no_tensor(self):
        config = self.merge_config()
        whole = read_folder(self.merged("whole", config))
        split = self.merged("split", config, "--max-shard-size", "100KB")
        self.assertGreater(len(list(split.glob("*.safetensors"))), 3)
        self.assertEqual(read_folder(split), whole)


class Identities(AimergeTest):
    def merged(self, config, name):
        self.aimerge("merge", self.config(config), "--out", self.folder / name)
        return read_folder(self.folder / name)

    def with_statistics(self, config, omega, value):
        """The config with a log whose importance is 0 or 1 everywhere."""
        log = self.folder / "stats.h5"
        self.aimerge("calibrate", self.config(self.merge_config(omega=0.4)), "--out", log)
        log.write_bytes(log.read_bytes()[512:])  # without its checksum
        with h5py.File(log, "r+") as file:
            for group in file["statistics"].values():
                group["mean_abs"][:] = value
        return {**config, "aim": {"omega": omega, "statistics": str(log)}}

    def test_omega_one_is_the_plain_merge(self):
        for method in ("linear", "task_arithmetic", "ties"):
            weights = {"parameters": {"weight": 1.0}}  # linear averages the base in, too
            plain = self.merged(self.merge_config(method, **weights), f"plain-{method}")
            relaxed = self.merged(self.merge_config(method, omega=1.0, **weights), f"aim-{method}")
            self.assertEqual(relaxed, plain)

    def test_no_importance_is_the_plain_merge(self):
        plain = self.merged(self.merge_config(), "plain")
        relaxed = self.merged(self.with_statistics(self.merge_config(), 0.0, 0.0), "relaxed")
        self.assertEqual(relaxed, plain)

    def test_full_importance_at_omega_zero_is_the_base(self):
        merged = self.merged(self.with_statistics(self.merge_config(), 0.0, 1.0), "merged")
        base = read_folder(GOLDENS / "family_f32/base")
        plain = self.merged(self.merge_config(), "plain")
        for name in base:
            self.assertEqual(merged[name], plain[name] if "embed" in name else base[name], name)

    def test_experts_equal_to_the_base_give_the_base(self):
        for method in ("linear", "task_arithmetic", "ties"):
            copies = [self.folder / f"copy-{method}-{i}" for i in range(3)]
            for copy in copies:
                copy.symlink_to(GOLDENS / "family_f32/base")
            config = self.merge_config(method, experts=())
            config["models"] = [{"model": str(copy), "parameters": {"weight": weight}} for copy, weight in zip(copies, (0.3, 0.5, 0.9))]
            if method == "linear":
                config["models"].append({"model": config["base_model"], "parameters": {"weight": 0.4}})
            self.assertEqual(self.merged(config, f"out-{method}"), read_folder(GOLDENS / "family_f32/base"), method)

    def test_order_of_experts_changes_nothing_beyond_rounding(self):
        for method in ("linear", "task_arithmetic", "ties"):
            keys = {"parameters": {"density": 0.5}} if method == "ties" else {}
            base = {} if method != "linear" else {"base_model": None}
            configs = [self.merge_config(method, experts=experts, **keys) for experts in (("expert_a", "expert_b"), ("expert_b", "expert_a"))]
            for config in configs:
                for key in base:
                    config.pop(key)
            one, other = (self.merged(config, f"{method}-{i}") for i, config in enumerate(configs))
            for name in one:
                np.testing.assert_allclose(as_float(one[name]), as_float(other[name]), rtol=1e-6, atol=1e-6, err_msg=name)


if __name__ == "__main__":
    unittest.main()

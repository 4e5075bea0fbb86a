"""Merging by what was measured on the experts: Fisher information against torch's autograd, Gram matrices against forward hooks,
and the merges against their formulas."""
import json
import os
import shutil
import signal
import subprocess
import time
import unittest

import numpy as np
from safetensors.numpy import load_file, save_file

from aimerge_command import BINARY, GOLDENS, AimergeTest, as_float, environment, file_bytes, measured_tensors, read_folder
from peers import needs_peers, torch, transformers

EXPERTS = ("expert_a", "expert_b")


def autograd_fisher(folder, blocks):
    """Per block the gradient of the summed next-token loss, squared; the mean over blocks, in float64."""
    model = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float64, attn_implementation="eager")
    sums = {name: torch.zeros_like(parameter) for name, parameter in model.named_parameters()}
    for block in blocks:
        ids = torch.tensor(block, dtype=torch.int64)
        loss = torch.nn.functional.cross_entropy(model(ids[None]).logits[0, :-1], ids[1:], reduction="sum")
        model.zero_grad()
        loss.backward()
        for name, parameter in model.named_parameters():
            sums[name] += parameter.grad ** 2
    return {name: (total / len(blocks)).numpy() for name, total in sums.items()}


class FisherMerges(AimergeTest):
    def fisher_config(self, **keys):
        config = self.merge_config("fisher")
        del config["base_model"]
        for entry in config["models"]:
            entry["parameters"] = {}
        return {**config, "calibration": {"token_ids": str(self.blocks(5)), "dtype": "float32"}, **keys}

    def merged(self, name, config):
        self.aimerge("merge", self.config(config), "--out", self.folder / name)
        return self.folder / name

    def measured(self):
        """{key: tensors} of everything in the cache."""
        return {folder.name: measured_tensors(folder)
                for folder in (self.cache / "expert-statistics").iterdir()}

    def assert_fisher(self, got, folder):
        blocks = json.loads((GOLDENS / "calibration/pipeline.json").read_text())["blocks"][:5]
        want = autograd_fisher(folder, blocks)
        self.assertEqual(set(got), set(want))
        for name, values in want.items():
            # Gradients err by their cancelling float32 terms, not by their own size: judged against the largest of the tensor.
            root = np.sqrt(values)
            np.testing.assert_allclose(np.sqrt(got[name].astype(np.float64)), root, rtol=1e-3, atol=1e-5 * root.max(), err_msg=name)

    @needs_peers
    def test_values_equal_autograd_and_the_merge_is_their_mean(self):
        out = self.folder / "merged"
        self.aimerge("merge", self.config(self.fisher_config()), "--out", out)

        ordered = []
        for name in EXPERTS:
            cache = self.folder / f"cache-{name}"
            config = self.fisher_config()
            config["models"] = [entry for entry in config["models"] if entry["model"].endswith(name)]
            self.aimerge("merge", self.config(config), "--out", self.folder / f"only-{name}", AIMERGE_CACHE_DIR=str(cache))
            (folder,) = (cache / "expert-statistics").iterdir()
            tensors = measured_tensors(folder)
            self.assert_fisher(tensors, GOLDENS / "family_f32" / name)
            ordered.append(tensors)

        experts = [read_folder(GOLDENS / "family_f32" / name) for name in EXPERTS]
        for name, entry in read_folder(out).items():
            f = [tensors[name].astype(np.float64) for tensors in ordered]
            x = [as_float(expert[name]) for expert in experts]
            total = f[0] + f[1]
            want = np.where(total > 1e-30, (f[0] * x[0] + f[1] * x[1]) / np.where(total > 0, total, 1), (x[0] + x[1]) / 2)
            np.testing.assert_allclose(as_float(entry), want, rtol=1e-6, atol=1e-6, err_msg=name)

    @needs_peers
    def test_a_tied_embedding_has_both_gradients(self):
        tied = self.folder / "tied"
        shutil.copytree(GOLDENS / "family_f32/expert_a", tied)
        tensors = load_file(tied / "model.safetensors")
        del tensors["lm_head.weight"]
        save_file(tensors, tied / "model.safetensors", metadata={"format": "pt"})
        config_file = tied / "config.json"
        config_file.write_text(config_file.read_text().replace('"tie_word_embeddings": false', '"tie_word_embeddings": true'))
        config = self.config(self.fisher_config(models=[{"model": str(tied)}]))
        self.aimerge("merge", config, "--out", self.folder / "merged", "--threads", 1)
        (got,) = self.measured().values()
        self.assert_fisher(got, tied)

        self.aimerge("merge", config, "--out", self.folder / "three", "--threads", 1, ranks=3, AIMERGE_CACHE_DIR=str(self.folder / "cache3"))
        (together,) = map(measured_tensors, (self.folder / "cache3/expert-statistics").iterdir())
        self.assertEqual(set(together), set(got))
        for name, values in got.items():
            np.testing.assert_array_equal(together[name], values, err_msg=name)

    def test_ranks_do_not_change_a_bit_and_a_second_run_measures_nothing(self):
        config = self.config(self.fisher_config())
        one = {"AIMERGE_CACHE_DIR": str(self.folder / "one")}
        self.aimerge("merge", config, "--out", self.folder / "alone", "--threads", 1, **one)
        self.aimerge("merge", config, "--out", self.folder / "two", "--threads", 1, ranks=2)
        again = self.aimerge("merge", config, "--out", self.folder / "again", "--threads", 1, **one)
        self.assertEqual(file_bytes(self.folder / "alone"), file_bytes(self.folder / "two"))
        self.assertEqual(file_bytes(self.folder / "alone"), file_bytes(self.folder / "again"))
        self.assertEqual(again.stderr.count("reused from"), 2)
        self.assertNotIn("measuring", again.stderr)

    def test_an_expert_may_have_tokens_of_its_own(self):
        config = self.fisher_config()
        config["models"][1]["calibration"] = {"token_ids": str(self.blocks(5)), "dtype": "bfloat16"}
        self.aimerge("merge", self.config(config), "--out", self.folder / "merged")
        self.aimerge("merge", self.config(self.fisher_config()), "--out", self.folder / "plain")
        self.assertEqual(len(self.measured()), 3)

    def test_experts_whose_files_have_one_time_are_told_apart(self):
        """As those of an archive without times."""
        config = self.fisher_config()
        for name, entry in zip(EXPERTS, config["models"]):
            entry["model"] = str(self.folder / name)
            shutil.copytree(GOLDENS / "family_f32" / name, entry["model"])
            os.utime(self.folder / name / "model.safetensors", (0, 0))
        self.aimerge("merge", self.config(config), "--out", self.folder / "merged")
        self.assertEqual(len(self.measured()), 2)

    def test_a_base_takes_no_part_and_is_not_read(self):
        base = self.folder / "base"
        shutil.copytree(GOLDENS / "family_f32/base", base)
        for path in base.iterdir():
            path.chmod(0o644)
        tensors = load_file(base / "model.safetensors")
        save_file({name: np.full_like(values, np.nan) for name, values in tensors.items()}, base / "model.safetensors",
                  metadata={"format": "pt"})

        with_base = self.merged("with-base", self.fisher_config(base_model=str(base)))

        self.assertEqual(file_bytes(with_base), file_bytes(self.merged("without", self.fisher_config())))

    def test_a_signal_ends_a_measurement_between_blocks(self):
        path = self.folder / "many.safetensors"
        save_file({"input_ids": np.tile(load_file(self.blocks(8))["input_ids"], (1000, 1))}, path)
        config = self.config(self.fisher_config(calibration={"token_ids": str(path), "dtype": "float32"}))
        process = subprocess.Popen([BINARY, "merge", str(config), "--out", str(self.folder / "merged")], text=True,
                                   stderr=subprocess.PIPE, cwd=self.folder, env=environment(self.cache))
        deadline = time.monotonic() + 60
        while not list(self.cache.glob("expert-statistics/*.partial")) and time.monotonic() < deadline:
            time.sleep(0.01)
        process.send_signal(signal.SIGTERM)
        _, errors = process.communicate(timeout=30)
        self.assertEqual(process.returncode, 75, errors)
        self.assertEqual([found.suffix for found in (self.cache / "expert-statistics").iterdir()], [".partial"])

    def test_dry_run_says_what_it_takes_and_measures_nothing(self):
        result = self.aimerge("merge", self.config(self.fisher_config()), "--out", self.folder / "merged", "--dry-run")
        self.assertRegex(result.stderr, r"measured fisher of 2 models, unless cached: .*B in ")
        self.assertFalse((self.cache / "expert-statistics").exists())

    def test_slices_are_merged_by_what_was_measured_on_each_models_own_layers(self):
        """All layers in two slices are the whole models; layer 2 moved to place 0 is still weighed by layer 2's values."""
        for method in ("fisher", "regmean"):
            with self.subTest(method):
                whole = self.fisher_config(merge_method=method)
                sliced = self.fisher_config(merge_method=method)
                sources = sliced.pop("models")
                parts = {"split": [[0, 2], [2, 3]], "turned": [[2, 3], [0, 2]]}
                folders = {"whole": read_folder(self.merged(f"{method}-whole", whole))}
                for name, ranges in parts.items():
                    sliced["slices"] = [{"sources": [{**entry, "layer_range": part} for entry in sources]} for part in ranges]
                    folders[name] = read_folder(self.merged(f"{method}-{name}", sliced))
                self.assertEqual(folders["split"], folders["whole"])
                for place, layer in enumerate((2, 0, 1)):
                    for tensor in [name for name in folders["whole"] if name.startswith(f"model.layers.{layer}.")]:
                        moved = tensor.replace(f"layers.{layer}.", f"layers.{place}.", 1)
                        self.assertEqual(folders["turned"][moved], folders["whole"][tensor], f"{method} {moved}")

    def test_without_calibration_it_says_what_to_write(self):
        config = self.fisher_config()
        del config["calibration"]
        result = self.aimerge("merge", self.config(config), "--out", self.folder / "merged", expect=2)
        self.assertIn("fisher measures every expert on a text: give 'calibration'", result.stderr)


def hooked_grams(folder, blocks):
    """sum x x^T / tokens of every linear layer's input, in float64."""
    model = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float64, attn_implementation="eager")
    sums, tokens = {}, sum(len(block) for block in blocks)

    def watch(name):
        def hook(module, arguments):
            x = arguments[0].detach()[0]
            sums[name] = sums.get(name, 0) + x.T @ x
        return hook

    for name, module in model.named_modules():
        if isinstance(module, torch.nn.Linear):
            module.register_forward_pre_hook(watch(name))
    with torch.no_grad():
        for block in blocks:
            model(torch.tensor(block)[None])
    return {name: (total / tokens).numpy() for name, total in sums.items()}


class RegMeanMerges(AimergeTest):
    def regmean_config(self):
        config = self.merge_config("regmean", parameters={"alpha": 0.9, "ridge": 1e-6},
                                   calibration={"token_ids": str(self.blocks(8)), "dtype": "float32", "micro_batch": 3})
        del config["base_model"]
        return config

    @needs_peers
    def test_linear_layers_are_merged_by_the_gram_matrices_of_forward_hooks(self):
        out = self.folder / "merged"
        self.aimerge("merge", self.config(self.regmean_config()), "--out", out, ranks=2)

        blocks = json.loads((GOLDENS / "calibration/pipeline.json").read_text())["blocks"][:8]
        grams = [hooked_grams(GOLDENS / "family_f32" / name, blocks) for name in EXPERTS]
        experts = [read_folder(GOLDENS / "family_f32" / name) for name in EXPERTS]
        for name, entry in read_folder(out).items():
            w = [as_float(expert[name]).astype(np.float64) for expert in experts]
            module = name.removesuffix(".weight")
            if module not in grams[0]:
                np.testing.assert_allclose(as_float(entry), (w[0] + w[1]) / 2, rtol=1e-6, atol=1e-7, err_msg=name)
                continue
            c = [0.9 * g[module] + 0.1 * np.diag(np.diag(g[module])) for g in grams]
            ridge = 1e-6 * np.mean(np.diag(c[0] + c[1])) / 2 * np.eye(len(c[0]))
            want = np.linalg.solve((c[0] + c[1] + 2 * ridge).T, (w[0] @ (c[0] + ridge) + w[1] @ (c[1] + ridge)).T).T
            # The solution of a system of condition k errs by k times the 1e-6 or so of float32 activations, relative to the change.
            change = np.abs(w[1] - w[0]).max()
            condition = np.linalg.cond(c[0] + c[1] + 2 * ridge)
            np.testing.assert_allclose(as_float(entry), want, rtol=1e-6, atol=1e-6 * condition * change, err_msg=name)

    def test_ranks_do_not_change_a_bit(self):
        config = self.config(self.regmean_config())
        self.aimerge("merge", config, "--out", self.folder / "alone", "--threads", 1, AIMERGE_CACHE_DIR=str(self.folder / "one"))
        for ranks in (2, 4):
            self.aimerge("merge", config, "--out", self.folder / f"np{ranks}", "--threads", 1, ranks=ranks,
                         AIMERGE_CACHE_DIR=str(self.folder / f"cache{ranks}"))
            self.assertEqual(file_bytes(self.folder / "alone"), file_bytes(self.folder / f"np{ranks}"))

    def test_an_interrupted_measurement_leaves_finished_experts_and_starts_the_other_again(self):
        config = self.regmean_config()
        config["calibration"]["micro_batch"] = 1
        self.aimerge("merge", self.config(config), "--out", self.folder / "whole")
        folders = sorted((self.cache / "expert-statistics").iterdir())
        self.assertEqual([path.suffix for path in folders], ["", ""])
        shutil.rmtree(folders[1])
        unfinished = folders[1].with_suffix(".partial")
        unfinished.mkdir()
        (unfinished / "layer-00000.safetensors").write_bytes(b"cut short")
        result = self.aimerge("merge", self.config(config), "--out", self.folder / "again")
        self.assertEqual((result.stderr.count("reused from"), result.stderr.count("measuring gram")), (1, 1))
        self.assertFalse(unfinished.exists())
        self.assertEqual(file_bytes(self.folder / "whole"), file_bytes(self.folder / "again"))


if __name__ == "__main__":
    unittest.main()

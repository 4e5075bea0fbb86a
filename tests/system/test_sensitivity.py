"""AIM by sensitivity (paper, Eq. 5): the gradients against torch's autograd and the golden, the merges against the formula."""
import fcntl
import shutil
import subprocess
import time
import unittest

import h5py
import numpy as np
from safetensors.numpy import load_file

from aimerge_command import (BINARY, GOLDENS, AimergeTest, as_float, environment, file_bytes, golden_manifest, launcher,
                             measured_tensors, read_folder, read_raw)
from peers import needs_peers, torch, transformers

BASE = GOLDENS / "family_f32/base"


def autograd_sensitivity(blocks):
    """Per block the magnitude of the gradient of the mean entropy; the mean over blocks, in float64."""
    model = transformers.AutoModelForCausalLM.from_pretrained(BASE, dtype=torch.float64, attn_implementation="eager")
    sums = {name: torch.zeros_like(parameter) for name, parameter in model.named_parameters()}
    for block in blocks:
        logarithms = torch.log_softmax(model(torch.tensor(np.array(block, np.int64))[None]).logits[0], -1)
        model.zero_grad()
        (-(logarithms.exp() * logarithms).sum(-1).mean()).backward()
        for name, parameter in model.named_parameters():
            sums[name] += parameter.grad.abs()
    return {name: (total / len(blocks)).numpy() for name, total in sums.items()}


class Sensitivity(AimergeTest):
    def sensitive_config(self, statistic="sensitivity", omega=0.4, method="task_arithmetic", **aim):
        config = self.merge_config(method, omega=omega)
        config["aim"].update(statistic=statistic, **aim)
        return config

    def merged(self, name, config, *options, **keywords):
        out = self.folder / name
        self.aimerge("merge", self.config(config), "--out", out, "--threads", 1, *options, **keywords)
        return out

    def gradients(self):
        return measured_tensors(next(self.cache.rglob("sensitivity-*.safetensors")).parent)

    def block_ids(self):
        return load_file(self.blocks())["input_ids"]

    def relaxed_by(self, importances, omega=0.4):
        """{tensor: values} of the formula over the plain merge."""
        plain = read_folder(self.merged("plain", self.merge_config("task_arithmetic")))
        base = read_folder(BASE)
        return {name: as_float(base[name]) + (1 - a * (1 - omega)) * (as_float(plain[name]) - as_float(base[name]))
                for name, a in importances.items()}

    def is_relaxed(self, name):
        return "embed" not in name

    @needs_peers
    def test_gradients_equal_autograd_and_the_golden(self):
        self.merged("out", self.sensitive_config())
        found, wanted = self.gradients(), autograd_sensitivity(self.block_ids())
        self.assertEqual(set(found), set(wanted))
        for name, want in wanted.items():
            np.testing.assert_allclose(found[name], want, rtol=1e-4, atol=1e-5 * want.max(), err_msg=name)
        entry = golden_manifest()["sensitivity"]
        for name, want in read_raw(GOLDENS / entry["file"]).items():
            self.assert_within(found[name], as_float(want), {"atol": 1e-5 * as_float(want).max(), "rtol": 2e-3}, name)

    def test_the_merge_equals_the_golden(self):
        entry = golden_manifest()["aim_g_task_arithmetic_0.4"]
        config = self.sensitive_config()
        golden = golden_manifest()["task_arithmetic"]["config"]
        config["models"] = [{**model, "model": str(GOLDENS / "family_f32" / model["model"])} for model in golden["models"]]
        config["tokenizer"] = golden["tokenizer"]
        got = read_folder(self.merged("out", config))
        compared = 0
        for name, want in read_raw(GOLDENS / entry["file"]).items():
            if self.is_relaxed(name):
                self.assert_within(as_float(got[name]), as_float(want), entry["tolerance"], name)
                compared += 1
        self.assertGreater(compared, 8)

    def test_the_same_bytes_on_any_number_of_ranks(self):
        config = self.sensitive_config("sensitivity", omega=[0.2, 1.0])
        alone = self.merged("alone", config)
        for ranks in (2, 4):
            together = self.merged(f"ranks-{ranks}", config, ranks=ranks, AIMERGE_CACHE_DIR=str(self.folder / f"cache-{ranks}"))
            for point in ("omega-0.2", "omega-1.0"):
                self.assertEqual(file_bytes(together / point), file_bytes(alone / point))
        plain = read_folder(self.merged("plain", self.merge_config("task_arithmetic")))
        self.assertEqual(read_folder(alone / "omega-1.0"), plain)

    def test_by_elements_and_shapes(self):
        for number, (aim, shape) in enumerate((({}, lambda a: a), ({"shape": "power:0.5"}, np.sqrt))):
            got = read_folder(self.merged(f"out-{number}", self.sensitive_config(**aim)))
            importances = {name: shape(g.astype(np.float64) / g.max()) for name, g in self.gradients().items() if self.is_relaxed(name)}
            for name, want in self.relaxed_by(importances).items():
                np.testing.assert_allclose(as_float(got[name]), want, rtol=1e-5, atol=1e-6, err_msg=name)
            shutil.rmtree(self.folder / "plain")

    def test_by_channels(self):
        got = read_folder(self.merged("out", self.sensitive_config("sensitivity_channel")))
        importances = {}
        for name, g in self.gradients().items():
            if self.is_relaxed(name):
                mean = g.astype(np.float64).reshape(-1, g.shape[-1]).mean(0)
                importances[name] = mean / mean.max()
        for name, want in self.relaxed_by(importances).items():
            np.testing.assert_allclose(as_float(got[name]), want, rtol=1e-5, atol=1e-6, err_msg=name)

    def test_it_is_measured_once(self):
        self.merged("first", self.sensitive_config())
        again = self.aimerge("merge", self.config(self.sensitive_config(omega=0.6)), "--out", self.folder / "second")
        self.assertRegex(again.stderr, "sensitivity of .* reused")

    @needs_peers
    def test_calibrate_writes_it_into_the_log_and_merges_take_it_from_there(self):
        config = self.sensitive_config()
        log = self.folder / "stats.h5"
        for ranks in (1, 2):
            self.aimerge("calibrate", self.config(config), "--out", log, "--threads", 1, "--overwrite", ranks=ranks,
                         AIMERGE_CACHE_DIR=str(self.folder / f"cache-{ranks}"))
            with h5py.File(log) as file:
                found = {name: dataset[()] for name, dataset in file["sensitivity"].items()}
                self.assertIn("model.layers.0.self_attn.q_proj", file["statistics"])
            for name, want in autograd_sensitivity(self.block_ids()).items():
                np.testing.assert_allclose(found[name], want, rtol=1e-4, atol=1e-5 * want.max(), err_msg=name)
        measured = self.merged("measured", config)
        config["aim"] = {"omega": 0.4, "statistic": "sensitivity", "statistics": str(log)}
        empty = {"AIMERGE_CACHE_DIR": str(self.folder / "unused-cache")}
        for ranks in (1, 2):
            given = self.merged(f"given-{ranks}", config, ranks=ranks, **empty)
            self.assertEqual(read_folder(given), read_folder(measured))
        self.assertFalse(list((self.folder / "unused-cache").rglob("sensitivity-*")))

    def test_a_log_without_it_is_completed_and_refused_where_it_is_needed(self):
        log = self.folder / "stats.h5"
        config = self.sensitive_config()
        self.aimerge("calibrate", self.config(self.merge_config("task_arithmetic", omega=0.4)), "--out", log)
        given = self.sensitive_config()
        given["aim"] = {"omega": 0.4, "statistic": "sensitivity", "statistics": str(log)}
        failed = self.aimerge("merge", self.config(given), "--out", self.folder / "out", expect=3)
        self.assertIn("holds no /sensitivity", failed.stderr)
        self.aimerge("calibrate", self.config(config), "--out", log)
        self.merged("out", given)
        self.assertIn("reused", self.aimerge("calibrate", self.config(config), "--out", log).stderr)
        with open(log, "r+b") as file:
            file.seek(-5, 2)
            byte = file.read(1)
            file.seek(-5, 2)
            file.write(bytes([byte[0] ^ 1]))
        failed = self.aimerge("merge", self.config(given), "--out", self.folder / "again", expect=3)
        self.assertIn("checksum does not fit", failed.stderr)
        failed = self.aimerge("calibrate", self.config(config), "--out", self.folder / "other.h5", "--io", "scatter", expect=2, ranks=2)
        self.assertIn("use --io direct", failed.stderr)

    def test_foreign_logs_must_be_plain(self):
        log = self.folder / "stats.h5"
        config = self.sensitive_config()
        self.aimerge("calibrate", self.config(config), "--out", log)
        log.write_bytes(log.read_bytes()[512:])  # without its checksum, as other programs write it
        with h5py.File(log, "r+") as file:
            name = next(iter(file["sensitivity"]))
            values = file["sensitivity"][name][()]
            del file["sensitivity"][name]
            file["sensitivity"].create_dataset(name, data=values, compression="gzip")
        config["aim"] = {"omega": 0.4, "statistic": "sensitivity", "statistics": str(log)}
        failed = self.aimerge("merge", self.config(config), "--out", self.folder / "out", expect=3)
        self.assertIn(f"/sensitivity/{name} is not stored as contiguous float32", failed.stderr)

    def test_jobs_that_need_the_same_wait_for_the_first(self):
        config = self.sensitive_config()
        self.merged("first", config)
        folder = next(self.cache.rglob("sensitivity-*.safetensors")).parent
        shutil.rmtree(folder)
        log = self.folder / "second.log"
        with open(folder.with_name(folder.name + ".lock"), "w") as held, open(log, "w") as messages:
            fcntl.flock(held, fcntl.LOCK_EX)
            command = [*launcher(2), BINARY, "merge", self.config(config), "--out", self.folder / "second", "--threads", "1"]
            waiting = subprocess.Popen(command, stderr=messages, env=environment(self.cache))
            deadline = time.monotonic() + 60
            while "waiting for the job that measures the same" not in log.read_text():
                self.assertLess(time.monotonic(), deadline, log.read_text())
                time.sleep(0.1)
            self.assertIsNone(waiting.poll())
        self.assertEqual(waiting.wait(timeout=60), 0, log.read_text())
        self.assertEqual(read_folder(self.folder / "second"), read_folder(self.folder / "first"))

    def test_what_does_not_go_with_it(self):
        given = self.sensitive_config()
        given["aim"] = {"omega": 0.4, "statistic": "sensitivity"}
        for config, word in ((given, "calibration"), (self.sensitive_config(control="shuffled"), "control scale"),
                             (self.sensitive_config(shape="top:0.1"), "statistics of channels work with all"),
                             (self.sensitive_config("sensitivity_channel", normalisation="layer"), "normalisation max")):
            failed = self.aimerge("merge", self.config(config), "--out", self.folder / "out", expect=2)
            self.assertIn(word, failed.stderr)


if __name__ == "__main__":
    unittest.main()

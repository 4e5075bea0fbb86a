"""The SmolLM2-135M family: statistics against forward hooks, and a merged folder that transformers loads and runs."""
import os
import pathlib
import subprocess
import unittest

import h5py
import numpy as np

from aimerge_command import AimergeTest, measured_tensors
from hooks import hook_statistics
from peers import needs_peers, torch, transformers

FAMILY = pathlib.Path(os.environ["AIMERGE_FAMILY"])
CORPUS = pathlib.Path(__file__).parents[2] / "configs/smollm2/calibration.txt"


@needs_peers
class RealModel(AimergeTest):
    def merge_config(self, method, **aim):
        return {"merge_method": method, "base_model": str(FAMILY / "base"), "dtype": "bfloat16",
                "models": [{"model": str(FAMILY / name), "parameters": {"weight": 1.0}} for name in ("instruct", "math", "code")],
                "aim": {"omega": 0.4, "calibration": {"corpus": str(CORPUS), "sequences": 4, "sequence_length": 256,
                                                      "shuffle": False, "dtype": "float32"}, **aim}}

    def test_logits_equal_transformers(self):
        tokenizer = transformers.AutoTokenizer.from_pretrained(FAMILY / "base")
        ids = tokenizer(CORPUS.read_text()[:600]).input_ids[:64]
        raw = subprocess.run([os.environ["AIMERGE_PRINT_LOGITS"], FAMILY / "base", "--", *map(str, ids)], check=True, capture_output=True)
        got = np.frombuffer(raw.stdout, np.float32).reshape(len(ids), -1)
        model = transformers.AutoModelForCausalLM.from_pretrained(FAMILY / "base", dtype=torch.float32)
        with torch.no_grad():
            want = model(torch.tensor(ids)[None]).logits[0].numpy()
        # float32 sums of 576 products in another order, through 30 layers, on logits of up to about 30
        np.testing.assert_allclose(got, want, rtol=1e-4, atol=2e-3)

    def test_statistics_equal_forward_hooks(self):
        log = self.folder / "stats.h5"
        self.aimerge("calibrate", self.config(self.merge_config("task_arithmetic")), "--out", log, ranks=2, timeout=300)
        tokenizer = transformers.AutoTokenizer.from_pretrained(FAMILY / "base")
        ids = tokenizer(CORPUS.read_text()).input_ids
        model = transformers.AutoModelForCausalLM.from_pretrained(FAMILY / "base", dtype=torch.float32)
        wanted = hook_statistics(model, [ids[i * 256:(i + 1) * 256] for i in range(4)])
        with h5py.File(log) as file:
            self.assertEqual(set(file["statistics"]), set(wanted))
            for module, statistics in wanted.items():
                for name, want in statistics.items():
                    np.testing.assert_allclose(file["statistics"][module][name][:], want, rtol=2e-4, atol=2e-6, err_msg=f"{module} {name}")

    def test_sensitivities_equal_autograd(self):
        """Of a vocabulary that is summed up in parts, with a tied head and several blocks of attention, through two stages, in rounds for the
        memory limit: within autograd's own error in float32."""
        config = self.merge_config("task_arithmetic", statistic="sensitivity")
        config["aim"]["calibration"]["sequences"] = 2
        self.aimerge("merge", self.config(config), "--out", self.folder / "out", "--threads", 1, "--memory-limit", "600MB", ranks=2,
                     timeout=300)
        measured = next(self.cache.rglob("sensitivity-0-0.safetensors")).parent
        self.assertTrue((measured / "sensitivity-1-2.safetensors").exists(), "not in three rounds")
        found = measured_tensors(measured)
        ids = transformers.AutoTokenizer.from_pretrained(FAMILY / "base")(CORPUS.read_text()).input_ids
        model = transformers.AutoModelForCausalLM.from_pretrained(FAMILY / "base", dtype=torch.float32, attn_implementation="eager")
        wanted = {name: 0 for name, _ in model.named_parameters()}
        for block in (ids[:256], ids[256:512]):
            logarithms = torch.log_softmax(model(torch.tensor(block)[None]).logits[0], -1)
            model.zero_grad()
            (-(logarithms.exp() * logarithms).sum(-1).mean()).backward()
            for name, parameter in model.named_parameters():
                wanted[name] = wanted[name] + parameter.grad.abs().numpy() / 2
        self.assertEqual(set(found), set(wanted))
        for name, want in wanted.items():
            np.testing.assert_allclose(found[name], want, rtol=2e-3, atol=5e-4 * want.max(), err_msg=name)

    def perplexity(self, folder):
        """Of plain text, as transformers computes it on the folder."""
        tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
        model, loading = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, output_loading_info=True)
        self.assertFalse(loading["missing_keys"] or loading["unexpected_keys"] or loading["mismatched_keys"], loading)
        ids = torch.tensor(tokenizer((CORPUS.parent / "general.txt").read_text()).input_ids)
        with torch.no_grad():
            losses = [model(block[None], labels=block[None]).loss.item() for block in ids[:len(ids) // 256 * 256].view(-1, 256)]
        return float(np.exp(np.mean(losses)))

    def test_merged_folders_load_in_transformers_and_have_the_measured_perplexity(self):
        """All three experts added: 137.8 as they are, 59.36 with AIM at omega 0.4."""
        out = self.folder / "merged"
        config = self.merge_config("task_arithmetic")
        config["aim"]["omega"] = [0.4, 1.0]
        config["aim"]["calibration"]["sequences"] = 32
        self.aimerge("merge", self.config(config), "--out", out, ranks=2, timeout=300)
        self.aimerge("verify", out)
        self.assertAlmostEqual(self.perplexity(out / "omega-0.4"), 59.36, delta=0.3)
        self.assertAlmostEqual(self.perplexity(out / "omega-1.0"), 137.8, delta=0.7)

    def test_merged_folder_generates_text(self):
        out = self.folder / "merged"
        config = self.merge_config("ties", statistic="rms")
        config["aim"]["calibration"].update(sequences=1, dtype="bfloat16")
        self.aimerge("merge", self.config(config), "--out", out, timeout=300)
        tokenizer = transformers.AutoTokenizer.from_pretrained(out)
        model = transformers.AutoModelForCausalLM.from_pretrained(out, dtype=torch.float32)
        prompt = tokenizer("Instruction: Each jar holds 12 cookies. How many cookies are in 3 jars?\nResponse:", return_tensors="pt")
        written = model.generate(**prompt, max_new_tokens=8, do_sample=False)[0][prompt.input_ids.shape[1]:]
        self.assertRegex(tokenizer.decode(written), r"[0-9]")


if __name__ == "__main__":
    unittest.main()

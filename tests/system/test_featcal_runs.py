"""Feature calibration (`featcal`) as a job: on any number of ranks, in little memory, disturbed, from the command line, and refused."""
import json
import os
import re
import shutil
import signal
import subprocess
import time
import unittest

import numpy as np
from safetensors.numpy import save_file

from aimerge_command import BINARY, GOLDENS, ON_GPU, environment, file_bytes, launcher, ranks_of
from featcal_reference import make_models, make_texts
from featcal_test import FeatcalTest
from peers import needs_peers, transformers

LIBRARY = os.environ.get("AIMERGE_FAIL_IO", "")


class Ranks(FeatcalTest):
    def runs(self, config, *options):
        """Bytes with one rank, and of runs with others."""
        alone = file_bytes(self.merged("alone", config, *options))
        for ranks in (1, 2, 3, 4):
            with self.subTest(ranks=ranks, options=options):
                self.assert_same(file_bytes(self.merged(f"ranks-{ranks}", config, *options, ranks=ranks)), alone)
                shutil.rmtree(self.folder / f"ranks-{ranks}")
        return alone

    def test_the_same_bytes_on_any_number_of_ranks(self):
        """Texts of 8, 1 and 2 parts, the last step of each shorter than the others."""
        self.make("qwen3", experts=("one", "two", "three"), num_hidden_layers=1)
        experts = [self.expert(name, blocks=blocks, length=32, micro_batch=2)
                   for name, blocks in (("one", 131), ("two", 17), ("three", 41))]
        plain = self.plain_config("task_arithmetic", aim={"omega": 0.4, "calibration": self.text("base")})
        alone = self.runs(self.featcal_config(experts, plain))
        gathered = self.merged("gathered", self.featcal_config(experts, plain), "--gather", "root", ranks=3)
        self.assert_same(file_bytes(gathered), alone)

    def test_ranks_without_texts(self):
        self.make("llama, biases")
        config = self.featcal_config()
        alone = file_bytes(self.merged("alone", config))
        self.assert_same(file_bytes(self.merged("four", config, ranks=4)), alone)

    def plan(self, config, *options):
        return json.loads(self.aimerge("plan", self.config(config), "--json", *options).stdout)["featcal"]

    def test_the_plan(self):
        self.make("qwen3", num_hidden_layers=1)
        config = self.featcal_config([self.expert("one", blocks=100, length=100), self.expert("two")])
        plan = self.plan(config)
        self.assertEqual(plan["fitted"], {"matrices": 7, "norms": 4})
        self.assertEqual(plan["tokens"], 10240)
        self.assertEqual(plan["disk_bytes"], 0)
        self.assertGreater(plan["flops"], 0)
        line = "featcal: 7 matrices, 4 norms on up to 10240 tokens of 2 experts"
        self.assertIn(line, self.aimerge("plan", self.config(config)).stdout)
        planned = self.aimerge("merge", self.config(config), "--out", self.folder / "out", "--dry-run")
        self.assertIn(line, planned.stderr)
        self.assertFalse((self.folder / "out").exists())

    def test_hidden_states_on_disk(self):
        """Below a limit that the merge itself keeps to."""
        self.make("qwen3", num_hidden_layers=1, intermediate_size=400)
        config = self.featcal_config([self.expert("one", blocks=111, length=150, micro_batch=7), self.expert("two")])
        limit, all_in_memory = ("--memory-limit", "56MB"), self.plan(config)
        planned = self.plan(config, *limit)
        self.assertLess(planned["memory_bytes"], 56e6)
        self.assertGreater(planned["disk_bytes"], 0)
        self.assertEqual(planned["disk_bytes"] + planned["memory_bytes"], all_in_memory["memory_bytes"])

        whole = file_bytes(self.merged("whole", config))
        scratch, limited, seen = self.folder / "scratch", self.folder / "limited", set()
        scratch.mkdir()
        process = subprocess.Popen([BINARY, "merge", self.config(config), "--out", limited, "--threads", "1", *limit], cwd=self.folder,
                                   stderr=subprocess.PIPE, text=True, env=environment(self.cache, AIMERGE_SCRATCH_DIR=str(scratch)))
        while process.poll() is None:
            seen.update(scratch.iterdir())
            time.sleep(0.005)
        _, errors = process.communicate()
        self.assertEqual(process.returncode, 0, errors)
        if not ON_GPU:  # which puts them into the machine's memory
            self.assertTrue(seen, "nothing was put on disk")
        self.assertEqual(list(scratch.iterdir()), [])
        self.assert_same(file_bytes(limited), whole)

    def test_a_memory_limit_that_is_too_small(self):
        self.make("qwen3", num_hidden_layers=1, intermediate_size=1500)
        config = self.featcal_config()
        for limit, message in (("60MB", "--memory-limit 60.0 MB is too small: featcal takes"), ("20kB", "--memory-limit")):
            with self.subTest(limit):
                options = (self.config(config), "--out", self.folder / "out", "--memory-limit", limit, "--threads", 1)
                self.assertIn(message, self.aimerge("merge", *options, expect=2).stderr)
                self.assertFalse((self.folder / "out").exists())


@unittest.skipUnless(LIBRARY, "AIMERGE_FAIL_IO is not set")
class Disturbed(FeatcalTest):
    """On a disk that takes so long for a call that there is time to disturb the fit."""

    def setUp(self):
        super().setUp()
        self.make("qwen2", num_hidden_layers=4)
        plain = self.plain_config("task_arithmetic", aim={"omega": [1.0, 0.4], "calibration": self.text("base")})
        self.path = self.config(self.featcal_config(plain=plain), "disturbed.yaml")
        self.out = self.folder / "work" / "out"
        self.out.parent.mkdir()

    def bytes_of(self, out):
        return {omega: file_bytes(out / omega) for omega in ("omega-1.0", "omega-0.4")}

    def disturb(self, number, ranks=0, layer=1):
        """Sends a signal, to one rank of several, when tensors of a layer are stored, and not all yet. @return the exit code"""
        slow = environment(self.cache, LD_PRELOAD=LIBRARY, FAIL_IO_UNDER=str(self.out.parent), FAIL_IO_SLOW="5000")
        command = [*launcher(ranks), BINARY, "merge", self.path, "--out", self.out, "--threads", "1"]
        with subprocess.Popen(command, cwd=self.folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=slow) as process:
            deadline = time.monotonic() + 60
            while f"layers.{layer}.self_attn.k_proj" not in self.journal() and process.poll() is None and time.monotonic() < deadline:
                time.sleep(0.005)
            self.assertIsNone(process.poll())
            os.kill(ranks_of(process)[-1] if ranks else process.pid, number)
            process.communicate(timeout=60)
        self.assertFalse(self.out.exists())
        self.assertNotIn("layers.3.mlp.down_proj", self.journal())
        return process.returncode

    def journal(self):
        return "".join(path.read_text() for path in self.out.parent.glob("out.partial/journal-*"))

    def finish(self, **keywords):
        again = self.aimerge("merge", self.path, "--out", self.out, "--threads", 1, **keywords)
        self.assertRegex(again.stderr, "(?i)continu")
        self.assertEqual({path.name for path in self.out.parent.iterdir()}, {"out"})
        self.aimerge("merge", self.path, "--out", self.folder / "whole", "--threads", 1)
        self.assert_same(self.bytes_of(self.out), self.bytes_of(self.folder / "whole"))
        self.aimerge("verify", self.out / "omega-0.4")

    def test_killed(self):
        self.assertEqual(self.disturb(signal.SIGKILL), -signal.SIGKILL)
        before = self.journal()
        self.assertIn("layers.0.mlp.down_proj", before)
        self.finish()

    def test_killed_twice_and_continued_by_other_ranks(self):
        self.disturb(signal.SIGKILL, layer=0)
        self.assertNotEqual(self.disturb(signal.SIGKILL, ranks=2, layer=2), 0)
        self.finish(ranks=3)

    def test_interrupted(self):
        for layer, number in enumerate((signal.SIGINT, signal.SIGTERM)):
            with self.subTest(number.name):
                self.assertEqual(self.disturb(number, layer=layer), 75)
        self.finish()

    def test_inputs_that_have_changed_since(self):
        """What is there is made anew, and not mixed with what other inputs give."""
        self.make("llama", experts=("one", "two", "three"), num_hidden_layers=4)
        tokens = self.text("three")
        expert = {"model": str(self.models["three"]), "calibration": tokens}
        config = self.featcal_config([self.expert("one"), expert], base={"model": str(self.models["base"])}, rho=0.5)
        self.path = self.config(config, "disturbed.yaml")
        for what in ("tokens", "three", "base"):
            with self.subTest(what):
                self.disturb(signal.SIGKILL)
                if what == "tokens":
                    make_texts(tokens["token_ids"], 10, 24, 99)
                else:
                    shutil.copytree(self.changed(what, f"other-{what}", **{"model.layers.0.self_attn.q_proj.weight": 1.0}),
                                    self.models[what], dirs_exist_ok=True)
                fresh = self.folder / f"fresh-{what}"
                said = self.aimerge("merge", self.path, "--out", self.out, "--threads", 1).stderr
                self.aimerge("merge", self.path, "--out", fresh, "--threads", 1)
                again = file_bytes(self.out)
                shutil.rmtree(self.out)
                self.assert_same(again, file_bytes(fresh), said)


class Texts(FeatcalTest):
    """With the tokenizer of the golden family."""

    def setUp(self):
        super().setUp()
        root = GOLDENS / "family_f32"
        self.models = {"base": root / "base", "one": root / "expert_a", "two": root / "expert_b"}
        words = ["the merge of models", "a layer is solved", "features of experts", "text without end", "numbers 1 2 3"]
        draws = np.random.default_rng(3)
        for name in ("base", "one", "two"):
            lines = [{"prompt": " ".join(draws.choice(words, 8)), "answer": " ".join(draws.choice(words, 4))} for _ in range(12)]
            (self.folder / f"{name}.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))

    def corpus(self, name, **keys):
        return {"corpus": str(self.folder / f"{name}.jsonl"), "text_key": ["prompt", "answer"], "sequences": 6, "sequence_length": 40,
                "dtype": "float32", **keys}

    def test_the_command_is_a_config(self):
        plain = {"merge_method": "passthrough", "models": [{"model": str(self.models["one"])}]}
        experts = [{"model": str(self.models[name]), "calibration": self.corpus(name)} for name in ("one", "two")]
        texts = ("--text-key", "prompt,answer", "--sequences", 6, "--sequence-length", 40, "--dtype", "float32", "--threads", 1)
        named = [word for name in ("one", "two") for word in ("--expert", f"{name}={self.models[name]}:{self.folder / name}.jsonl")]
        for base, options, featcal in (
                ("without", (), {}),
                ("with", ("--base", self.models["base"], "--rho", 0.5, "--alpha", 0.75, "--lambda", 0.1),
                 {"base": {"model": str(self.models["base"])}, "rho": 0.5, "alpha": 0.75, "lambda": 0.1}),
                ("text", ("--base", self.models["base"], "--base-text", self.folder / "base.jsonl"),
                 {"base": {"model": str(self.models["base"]), "calibration": self.corpus("base")}})):
            with self.subTest(base=base):
                out = self.folder / f"command-{base}"
                printed = self.aimerge("featcal", self.models["one"], *named, *options, *texts, "--out", out).stderr
                want = file_bytes(self.merged(f"config-{base}", {**plain, "featcal": {"experts": experts, **featcal}}))
                self.assert_same(file_bytes(out), want)
                self.assertIn("merge_method: passthrough", printed)
                self.assertNotIn("Warning", printed)  # of libtorch's
        self.assertIn(self.manifest(out)["config"].strip(), printed)
        self.aimerge("verify", out)
        again = self.merged("again", self.manifest(out)["config"])
        self.assert_same(file_bytes(again), file_bytes(out))

    def test_the_commands_mistakes(self):
        expert = f"one={self.models['one']}:{self.folder / 'one.jsonl'}"
        for arguments, message in (((), "--expert"),
                                   (("--expert", "one"), "expected NAME=MODEL:TEXT"),
                                   (("--expert", f"one={self.models['one']}:"), "expected NAME=MODEL:TEXT"),
                                   (("--expert", expert, "--rho", 0.5), "about a base"),
                                   (("--expert", expert, "--base-text", self.folder / "one.jsonl"), "--base"),
                                   (("--expert", expert, "--lambda", 0), "lambda must be above 0"),
                                   (("--expert", expert, "--dtype", "float8"), "float8")):
            with self.subTest(message):
                refused = self.aimerge("featcal", self.models["one"], *arguments, "--out", self.folder / "out", expect=2)
                self.assertIn(message, refused.stderr)

    def test_a_short_corpus_is_used_as_far_as_it_goes(self):
        experts = [{"model": str(self.models[name]), "calibration": self.corpus(name, sequences=500)} for name in ("one", "two")]
        config = {**self.plain_config(), "featcal": {"experts": experts}}
        out = self.folder / "short"
        said = self.aimerge("merge", self.config(config), "--out", out, "--threads", 1).stderr
        found = [int(number) for number in re.findall(r"shorter than asked for.*: (\d+) sequences of 40 tokens instead of 500 of 40", said)]
        self.assertEqual(len(found), 2)
        self.assertEqual(self.tokens(out), 40 * sum(found))
        for expert, sequences in zip(experts, found):
            self.assertGreater(sequences, 6)
            expert["calibration"]["sequences"] = sequences
        exact = self.aimerge("merge", self.config(config), "--out", self.folder / "exact", "--threads", 1).stderr
        self.assertNotIn("shorter", exact)
        self.assert_same(file_bytes(self.folder / "exact"), file_bytes(out))

        (self.folder / "one.jsonl").write_text('{"prompt": "a layer", "answer": " is solved"}\n')
        said = self.aimerge("merge", self.config(config), "--out", self.folder / "line", "--threads", 1).stderr
        (length,) = re.findall(r"one\.jsonl: shorter than asked for.*: 1 sequences of (\d+) tokens", said)
        self.assertLess(int(length), 40)
        self.assertEqual(self.tokens(self.folder / "line"), int(length) + 40 * found[1])
        (self.folder / "one.jsonl").write_text("\n")
        self.aimerge("merge", self.config(config), "--out", self.folder / "none", expect=3)

    def test_regmean_uses_a_short_corpus_too(self):
        config = {**self.plain_config("regmean"), "calibration": self.corpus("one", sequences=500)}
        for entry in config["models"]:
            del entry["parameters"]
        said = self.aimerge("merge", self.config(config), "--out", self.folder / "out").stderr
        self.assertIn("shorter than asked for", said)
        self.aimerge("verify", self.folder / "out")


class Refusals(FeatcalTest):
    def setUp(self):
        super().setUp()
        self.make()

    def refused(self, config, message, expect, *options):
        out = self.folder / "out"
        result = self.aimerge("merge", self.config(config), "--out", out, "--threads", 1, *options, expect=None)
        was_written = out.exists()
        shutil.rmtree(out, ignore_errors=True)
        shutil.rmtree(self.folder / "out.partial", ignore_errors=True)
        self.assertEqual((result.returncode, was_written), (expect, False), result.stderr)
        lines = [line for line in result.stderr.splitlines() if line.startswith("aimerge:")]
        self.assertEqual(len(lines), 1, result.stderr)
        self.assertRegex(lines[0], message)
        return lines[0]

    def test_settings(self):
        for settings, message in (({"lambda": 0}, "featcal.lambda must be above 0"),
                                  ({"lambda": -1}, "featcal.lambda must be a number of at least 0"),
                                  ({"lambda": "much"}, "featcal.lambda.*much"),
                                  ({"rho": -0.5}, "featcal.rho must be a number of at least 0"),
                                  ({"alpha": 1.5}, "featcal.alpha must be a number of at least 0 and at most 1, found '1.5'"),
                                  ({"lamda": 0.1}, "lamda.*lambda"),
                                  ({"modules": ["nothing"]}, "no module of the layers has nothing in its name"),
                                  ({"modules": []}, "featcal.modules"),
                                  ({"base": {"weigth": 1}}, "weigth.*weight")):
            with self.subTest(settings):
                self.refused(self.featcal_config(**settings), message, 2)

    def test_experts(self):
        one, two = self.expert("one"), self.expert("two")
        other_dtype = {**two, "calibration": {**two["calibration"], "dtype": "bfloat16"}}
        for experts, message in (([], "featcal.experts must be a list"),
                                 ([{**one, "weight": -1}], r"featcal.experts\[0\].weight must be a number of at least 0"),
                                 ([{"model": str(self.models["one"])}], "featcal runs every expert on texts of its own"),
                                 ([{"calibration": one["calibration"]}], "needs a 'model'"),
                                 ([one, one], "is listed twice"),
                                 ([one, other_dtype], "must be run in one dtype")):
            with self.subTest(message):
                self.refused({**self.plain_config(), "featcal": {"experts": experts}}, message, 2)

    def test_what_it_does_not_go_with(self):
        sliced = self.plain_config()
        sliced["slices"] = [{"sources": [{"model": str(self.models["one"]), "layer_range": [first, first + 1]}]} for first in (0, 1)]
        del sliced["models"]
        sliced["merge_method"] = "passthrough"
        self.refused(self.featcal_config(plain=sliced), "featcal needs whole models", 2)
        self.refused(self.featcal_config(), "use --io direct", 2, "--io", "scatter")
        self.refused(self.featcal_config(rho=0.5), "need a base", 2)

    def test_models_of_other_kinds(self):
        wide = make_models(self.folder / "wide", intermediate_size=64)["one"]
        deep = make_models(self.folder / "deep", num_hidden_layers=3)["one"]
        words = make_models(self.folder / "words", vocab_size=103)["one"]
        shallow = make_models(self.folder / "shallow", num_hidden_layers=1)["one"]
        for folder, message in ((wide, "wide/one.*featcal fits models of one size"), (deep, "deep/one.*(layers|size)"),
                                (shallow, "shallow/one.*featcal fits models of one size"), (words, "words/one.*one vocabulary")):
            with self.subTest(folder.parent.name):
                self.refused(self.featcal_config([{**self.expert("one"), "model": str(folder)}]), message, 3)

    @needs_peers
    def test_models_that_the_decoder_does_not_run(self):
        bloom = transformers.BloomConfig(vocab_size=101, hidden_size=32, n_layer=2, n_head=4)
        gpt2 = transformers.GPT2Config(vocab_size=101, n_embd=32, n_layer=2, n_head=4, n_positions=96)
        for name, model, message in (("bloom", transformers.BloomForCausalLM(bloom), "bloom.*the decoder runs"),
                                     ("gpt2", transformers.GPT2LMHeadModel(gpt2), "gpt2.*ln_1 is a layer norm; featcal fits")):
            folder = self.folder / name
            model.save_pretrained(folder)
            plain = {"merge_method": "linear", "models": [{"model": str(folder), "parameters": {"weight": 1}}]}
            self.refused(self.featcal_config([{**self.expert("one"), "model": str(folder)}], plain), message, 3)
        self.refused(self.featcal_config([{**self.expert("one"), "model": str(self.folder / "bloom")}]), "bloom.*the decoder runs", 3)

    def test_values_that_are_no_numbers(self):
        for tensor in ("model.layers.1.mlp.up_proj.weight", "model.layers.0.input_layernorm.weight", "model.layers.1.mlp.down_proj.weight"):
            for name in ("two", "base"):
                with self.subTest(tensor=tensor, model=name):
                    folder = self.changed(name, f"damaged-{name}-{len(tensor)}", **{tensor: np.nan})
                    if name == "two":
                        config = self.featcal_config([self.expert("one"), {**self.expert("two"), "model": str(folder)}])
                    else:
                        config = self.featcal_config(base={"model": str(folder)}, rho=0.5)
                    line = self.refused(config, "NaN", 3)
                    self.assertIn(str(folder), line)

    def test_values_beyond_what_the_output_holds(self):
        """Merged they fit, and fitted to one expert they do not."""
        huge = self.changed("one", "huge", **{"model.layers.1.mlp.down_proj.weight": 7e4})
        plain = {**self.plain_config(), "out_dtype": "float16"}
        plain["models"][0]["model"] = str(huge)
        config = self.featcal_config([{**self.expert("one", blocks=20), "model": str(huge)}], plain, alpha=0, **{"lambda": 1e-6})
        self.refused(config, "model.layers.1.mlp.down_proj.weight: a fitted value is beyond what float16 can hold", 3)

    def test_texts(self):
        good = self.expert("one")
        outside = self.folder / "outside.safetensors"
        save_file({"input_ids": np.full((2, 8), 101)}, outside)
        long = self.folder / "long.safetensors"
        save_file({"input_ids": np.full((2, 300), 5)}, long)
        for path, message in ((outside, "101"), (long, "max_position_embeddings is 256"), (self.folder / "absent.safetensors", "absent")):
            with self.subTest(path.name):
                entry = {**good, "calibration": {**good["calibration"], "token_ids": str(path)}}
                self.refused(self.featcal_config([entry]), message, 3)


if __name__ == "__main__":
    unittest.main()

"""The command line as users of mergekit and of the AIM repository type it: merges without a config file, `mergekit-yaml`, their options, sizes."""
import argparse
import hashlib
import importlib.machinery
import importlib.util
import json
import os
import pathlib
import shutil
import stat
import subprocess
import sys

from aimerge_command import BINARY, GOLDENS, AimergeTest, environment

ROOT = pathlib.Path(__file__).resolve().parents[2]
SCRIPT = ROOT / "src/tools/mergekit-yaml"
FAMILY = GOLDENS / "family_f32"
BASE, A, B, C = (str(FAMILY / name) for name in ("base", "expert_a", "expert_b", "expert_c"))
OF_C = ("--set", "tokenizer_source=base")  # C has a token more
TEXT = "The quick brown fox jumps over the lazy dog.\n" * 60

# Every option of `mergekit-yaml --help` of mergekit 0.1.5, with a value where it takes one.
SWITCHES = ("allow-crimes", "unsafe-truncate-embeddings", "cuda", "low-cpu-memory", "copy-tokenizer", "clone-tensors", "trust-remote-code",
            "lazy-unpickle", "write-model-card", "safe-serialization", "quiet", "read-to-gpu", "multi-gpu", "async-write")
MERGEKIT_OPTIONS = [
    *(f"--{name}" for name in SWITCHES), *(f"--no-{name}" for name in SWITCHES),
    "--gpu-rich", "-v", "-vv", "--transformers-cache DIR", "--lora-merge-cache DIR", "--lora-merge-dtype bfloat16", "--device cuda",
    "--device cpu", "--out-shard-size 1B", "--random-seed 42", "--num-threads 8", "-j 8", "-j8", "--write-threads 4"]


def digests(folder):
    """Of the weights and their index: short where they differ."""
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
            for pattern in ("*.safetensors", "*.index.json") for path in sorted(pathlib.Path(folder).rglob(pattern))}


def script():
    """src/tools/mergekit-yaml as a module."""
    loader = importlib.machinery.SourceFileLoader("mergekit_yaml", str(SCRIPT))
    module = importlib.util.module_from_spec(importlib.util.spec_from_loader("mergekit_yaml", loader))
    loader.exec_module(module)
    return module


class CommandTest(AimergeTest):
    def setUp(self):
        super().setUp()
        self.out = self.folder / "out"

    def refused(self, *arguments, saying, code=2):
        result = self.aimerge(*arguments, expect=code)
        for text in [saying] if isinstance(saying, str) else saying:
            self.assertIn(text, result.stderr)
        self.assertFalse(self.out.exists())
        self.assertEqual(len([line for line in result.stderr.splitlines() if line.startswith("aimerge: ")]), 1, result.stderr)
        return result.stderr

    def of_config(self, config, *options):
        """digests() of a merge from a file."""
        out = self.folder / f"by-file-{len(list(self.folder.iterdir()))}"
        self.aimerge("merge", self.config(config), "--out", out, *options)
        return digests(out)


class WithoutConfig(CommandTest):
    """aimerge merge --method."""

    def models(self, *values, **others):
        names = (A, B, C)[:len(values)] if values else (A, B, C)
        return {"models": [{"model": name, **({"parameters": value} if value else {})}
                           for name, value in zip(names, values or ({}, {}, {}))], **others}

    def assert_same(self, options, config, *common, **keywords):
        """The options give the bytes of the config, written by hand, and of the config that they print and write."""
        out = self.folder / "by-options"
        result = self.aimerge("merge", *options, "--out", out, *common, **keywords)
        printed = next(out.rglob("mergekit_config.yml")).read_text()
        self.assertIn(printed, result.stderr)
        self.assertTrue(digests(out))
        self.assertEqual(digests(out), self.of_config(config, *common))
        self.assertEqual(digests(out), self.of_config(printed))
        shutil.rmtree(out)

    def test_gives_the_bytes_of_the_config_that_it_stands_for(self):
        cases = {
            "per model": (["--method", "dare_ties", "--base", BASE, "--models", f"{A},{B},{C}", "--weight", "0.5,0.25,1", "--density", "0.5,1,0.7",
                           "--param", "lambda=0.8", "--param", "rescale_mode=inverse_density", "--dtype", "bfloat16"],
                          self.models({"weight": 0.5, "density": 0.5}, {"weight": 0.25, "density": 1}, {"weight": 1, "density": 0.7},
                                      merge_method="dare_ties", base_model=BASE, dtype="bfloat16",
                                      parameters={"lambda": 0.8, "rescale_mode": "inverse_density"})),
            "one value": (["--method", "ties", "--base", BASE, "--models", A, "--models", f"{B},{C}", "--weight", "0.5", "--density", "0.5"],
                          self.models(merge_method="ties", base_model=BASE, parameters={"weight": 0.5, "density": 0.5})),
            "blanks": (["--method", "linear", "--models", A, B, "--weight", "-1", "2", "--param", "normalize=false"],
                       self.models({"weight": -1}, {"weight": 2}, merge_method="linear", parameters={"normalize": False})),
            "a parameter of the models": (["--method", "breadcrumbs", "--base", BASE, "--models", f"{A},{B}", "--weight", "1", "--density", "0.9",
                                           "--param", "gamma=0.01,0.05"],
                                          self.models({"gamma": 0.01}, {"gamma": 0.05}, merge_method="breadcrumbs", base_model=BASE,
                                                      parameters={"weight": 1, "density": 0.9})),
            "slerp": (["--method", "slerp", "--base", BASE, "--models", A, "--param", "t=0.3"],
                      self.models({}, merge_method="slerp", base_model=BASE, parameters={"t": 0.3})),
            "no parameters": (["--method", "karcher", "--models", f"{A},{B}"], self.models({}, {}, merge_method="karcher")),
        }
        for name, (options, config) in cases.items():
            with self.subTest(name):
                self.assert_same(options, config, *OF_C)
        with self.subTest("other settings, on ranks"):
            options, config = cases["per model"]
            self.assert_same([*options, "--set", "seed=7"], config | {"seed": 7}, *OF_C, ranks=2)

    def test_with_aim(self):
        corpus = self.folder / "a corpus: #1.txt"
        corpus.write_text(TEXT)
        options = ["--method", "task_arithmetic", "--base", BASE, "--models", f"{A},{B}", "--weight", "1"]
        config = self.models({}, {}, merge_method="task_arithmetic", base_model=BASE, parameters={"weight": 1})
        for name, given, aim in (
                ("one", ["--omega", "0.4"], {"omega": 0.4}),
                ("several", ["--omega", "0.2,0.4", "--preset", "reference-code"], {"omega": [0.2, 0.4], "preset": "reference-code"})):
            with self.subTest(name):
                self.assert_same([*options, *given, "--corpus", corpus], config | {"aim": aim | {"calibration": {"corpus": str(corpus)}}},
                                 "--set", "aim.calibration.dtype=float32", "--set", "aim.calibration.sequence_length=64")
        log = self.folder / "log.h5"
        self.aimerge("calibrate", self.config(config | {"aim": {"calibration": {"corpus": str(corpus), "dtype": "float32", "sequence_length": 64}}}),
                     "--out", log)
        self.assert_same([*options, "--omega", "0.4", "--statistics", log], config | {"aim": {"omega": 0.4, "statistics": str(log)}})

    def test_a_corpus_for_methods_that_run_the_experts(self):
        corpus = self.folder / "corpus.jsonl"
        corpus.write_text(json.dumps({"body": TEXT}) + "\n")
        self.assert_same(["--method", "regmean", "--base", BASE, "--models", f"{A},{B}", "--corpus", corpus, "--text-key", "body"],
                         self.models({}, {}, merge_method="regmean", base_model=BASE,
                                     calibration={"corpus": str(corpus), "text_key": "body"}),
                         "--set", "calibration.dtype=float32", "--set", "calibration.sequence_length=64")

    def test_names_of_any_kind(self):
        names = ["it's \"a\": #model", "with, comma", "- {x}", "back\\slash\tand ü"]
        for name, source in zip(names, (A, B, C, BASE)):
            shutil.copytree(source, self.folder / name)
        *experts, base = (str(self.folder / name) for name in names)
        models = [word for name in experts for word in ("--models", name)]
        self.assert_same(["--method", "ties", "--base", base, *models, "--weight", "1"],
                         {"merge_method": "ties", "base_model": base, "parameters": {"weight": 1}, "models": [{"model": name} for name in experts]}, *OF_C)

    def test_the_plan(self):
        options = ["--method", "ties", "--base", BASE, "--models", f"{A},{B}", "--weight", "1,2"]
        config = self.models({"weight": 1}, {"weight": 2}, merge_method="ties", base_model=BASE)
        made = self.aimerge("plan", *options, "--json")
        self.assertEqual(made.stdout, self.aimerge("plan", self.config(config), "--json").stdout)
        self.assertIn("merge_method: ties\n", made.stderr)

    def test_what_is_wrong_names_the_option(self):
        ties = ("merge", "--method", "ties", "--base", BASE, "--models", f"{A},{B}", "--out", self.out)
        rows = [
            ((*ties, "--weight", "1,2,3"), "--weight: 3 values for the 2 models of --models; give one for all, or one for each"),
            ((*ties, "--weight", "1", "--param", "lamda=1"),
             "--param lamda: the method ties has no parameter 'lamda'; it has weight, density, lambda, normalize, rescale, int8_mask; did you mean 'lambda'?"),
            ((*ties, "--weight", "1", "--param", "lambda=1,2"), "--param lambda: ties takes one 'lambda' for all models, found 2"),
            ((*ties, "--weight", "1", "--param", "weight=2"), "'weight' is given by --weight already"),
            ((*ties, "--weight", "1", "--param", "lambda"), "--param lambda: expected NAME=VALUE"),
            ((*ties, "--weight", "1", "--density", "2"), ["parameters: {weight: 1, density: 2}", "--method:", "'density' is 2; it must be"]),
            ((*ties, "--weight", "much"), ["weight: much", "must be a finite number, found 'much'"]),
            ((*ties, "--weight", "null"), "must be a finite number, found 'null'"),
            ((*ties, "--weight", "1}\nmodels: []"), "must be a finite number, found '1}\\nmodels: []'"),
            (ties, "--weight is missing: ties needs 'weight'"),
            ((*ties, "--weight", "1", "--corpus", "text.txt"), "--corpus: ties measures nothing"),
            ((*ties, "--weight", "1", "--preset", "paper"), "--preset is about AIM: give --omega"),
            ((*ties, "--weight", "1", "--dtype", "bf16"), "dtype must be one of bfloat16, float16, float32, found 'bf16'"),
            ((*ties, "--weight", "1", "--models", "x,,y"), "--models x,,y: a name is empty"),
            (("merge", "--method", "slerp", "--base", BASE, "--models", A, "--weight", "1", "--out", self.out),
             "--weight: the method slerp has no parameter 'weight'; it has t"),
            (("merge", "--method", "slerp", "--base", BASE, "--models", A, "--out", self.out), "--param t=VALUE is missing: slerp needs 't'"),
            (("merge", "--method", "ties", "--models", A, "--weight", "1", "--out", self.out), "--base is missing: ties needs"),
            (("merge", "--method", "linear", "--models", A, "--weight", "1", "--omega", "0.4", "--out", self.out), "--base is missing: AIM needs"),
            (("merge", "--method", "ties", "--base", BASE, "--weight", "1", "--out", self.out), "--models is missing"),
            (("merge", "--method", "tise", "--base", BASE, "--models", A, "--out", self.out), "--method: there is no merge method 'tise'; did you mean 'ties'?"),
            (("merge", "c.yaml", "--method", "ties", "--out", self.out), "'c.yaml' is a config, and --method stands for one: give one of them"),
            (("merge", "c.yaml", "--models", A, "--out", self.out), "--models requires --method"),
            (("merge", "c.yaml", "--omega", "0.4", "--out", self.out), ["--omega,", "belong to --method", "--set aim.omega=0.4"]),
            (("merge", "--out", self.out), "give a CONFIG, or --method METHOD --base BASE --models A,B in its place"),
            (("plan",), "give a CONFIG, or --method METHOD"),
        ]
        for arguments, saying in rows:
            with self.subTest(arguments=arguments[1:]):
                self.refused(*arguments, saying=saying)


class PlaceOfTheOutput(CommandTest):
    def test_behind_the_config(self):
        config = self.config({"merge_method": "linear", "models": [{"model": A}], "parameters": {"weight": 1}})
        expected = self.of_config(config.read_text())
        for arguments in ([self.out], [self.out, "--out", self.out]):
            self.aimerge("merge", config, *arguments, "--overwrite")
            self.assertEqual(digests(self.out), expected)
        shutil.rmtree(self.out)
        self.refused("merge", config, self.folder / "other", "--out", self.out, saying=["two folders to write", "/other", f"--out '{self.out}'"])
        self.refused("merge", config, saying="the folder to write is missing: aimerge merge CONFIG OUT, or --out OUT")
        self.refused("merge", config, self.out, "third", saying="merge does not expect 'third'")
        self.assertFalse((self.folder / "other").exists())


class UnknownOptions(CommandTest):
    def known_to_merge(self):
        return self.aimerge("merge", "--help").stdout

    def test_every_option_of_mergekit_is_answered(self):
        known, module = self.known_to_merge(), script()
        for option in MERGEKIT_OPTIONS:
            name, *value = option.split()
            shown = name if name.startswith("--") else name[:2]
            if f"{shown} " in known or f"{shown}\n" in known:
                continue  # aimerge has it, too
            with self.subTest(option):
                said = self.refused("merge", "c.yml", "out", name, *value, saying=f"merge has no option {shown}: ")
                self.assertNotIn("did you mean", said)
                self.assert_agrees(said, self.translated(module, option))

    def translated(self, module, option):
        try:
            return module.translate(module.parser().parse_args(["c.yml", "out", *option.split()]))
        except module.Refused as refused:
            return str(refused)

    def assert_agrees(self, said, translated):
        """What aimerge answers is what mergekit-yaml does."""
        if isinstance(translated, str):
            self.assertIn("safetensors only", said)
            return
        options, variables, notices = translated
        for word in options:
            if word.startswith("--"):
                self.assertIn(word, said)
        for name in variables:
            self.assertIn(name, said)
        if notices and not options:
            self.assertRegex(said, "not needed here|always written")
        if not options and not variables and not notices:
            self.assertIn("not needed here", said)

    def test_others_by_the_nearest(self):
        for options, saying in (
                (["--thread", "2"], "merge has no option --thread: did you mean --threads? (see aimerge merge --help)"),
                (["--over-write"], "--over-write: did you mean --overwrite?"),
                (["--base-model=x"], "--base-model: did you mean --base?"),
                (["--frobnicate"], "merge has no option --frobnicate (see"),
                (["--lambda", "0.5"], "--lambda: a method's parameter is written --param lambda=VALUE (see"),
                (["--cuda", "--thread=2", "-j", "3"], ["--cuda: here it is --device cuda; --thread: did you mean --threads?; -j: here it is --threads"]),
        ):
            with self.subTest(options=options):
                self.refused("merge", "c.yml", "out", *options, saying=saying)
        self.refused("inspect", "model", "--cuda", saying="inspect has no option --cuda (see aimerge inspect --help)")

    def test_no_command(self):
        for words, saying in (
                (["config.yml", "out"], "a command is missing; a config is merged by: aimerge merge config.yml OUT"),
                (["my merge.yaml", "out", "--cuda"], "a config is merged by: aimerge merge my merge.yaml OUT"),
                (["mrge", "x"], "there is no command 'mrge'; did you mean 'merge'? (see aimerge --help)"),
                (["frobnicate"], "there is no command 'frobnicate'; there are plan, calibrate, merge,"),
                (["moe", "x"], "there is no command 'moe': aimerge does not build mixtures of experts"),
                (["mergekit-extract-lora"], "aimerge does not make adapters"),
                ([], "A subcommand is required"),
                (["--cuda"], "a command is missing (see aimerge --help)"),
        ):
            with self.subTest(words=words):
                self.refused(*words, saying=saying)


class Sizes(CommandTest):
    def test_few_bytes_are_refused(self):
        for option, size, saying in (
                ("--max-shard-size", "1B", "'1B' counts single bytes: for 1 billion bytes, which mergekit writes so, give 1GB"),
                ("--max-shard-size", "500", "'500' has no unit, so it counts single bytes: give 500MB or 500GB"),
                ("--max-shard-size", "1M", "'1M' is not a size (did you mean 1MB?)"),
                ("--max-shard-size", "0", "--max-shard-size is 0"),
                ("--memory-limit", "24B", "give 24GB"),
        ):
            with self.subTest(option=option, size=size):
                self.refused("merge", self.config(self.merge_config()), self.out, option, size, saying=saying)


class ForeignConfigs(CommandTest):
    def test_are_answered_by_what_there_is_here(self):
        moe = f"base_model: {BASE}\ngate_mode: hidden\nexperts:\n  - source_model: {A}\n    positive_prompts: [code]\n"
        evolve = f"genome:\n  models: [{A}, {B}]\n  merge_method: dare_ties\n  layer_granularity: 8\ntasks: [{{name: gsm8k}}]\n"
        for text, saying in (
                (moe, [":2:1: 'gate_mode' is a key of mergekit-moe", "does not build one"]),
                (moe.replace("gate_mode: hidden\n", ""), ":2:1: 'experts' is a key of mergekit-moe"),
                (evolve, [":1:1: 'genome' is a key of mergekit-evolve", "`aimerge sweep`"]),
                ("layer_slices: [{model: a, start: 0, end: 2}]\n", "'layer_slices' is a key of bakllama; write 'slices'"),
                ((ROOT / "configs/smollm2-table1.yaml").read_text(), "is a key of sweep configs; run it by `aimerge sweep`"),
        ):
            with self.subTest(text=text[:40]):
                self.refused("merge", self.config(text), self.out, saying=saying)


class MergekitYaml(CommandTest):
    """src/tools/mergekit-yaml."""

    def script(self, *arguments, expect=0, program=SCRIPT, **variables):
        result = subprocess.run([sys.executable, str(program), *map(str, arguments)], cwd=self.folder, text=True, capture_output=True, timeout=120,
                                env=environment(self.cache, **variables))
        self.assertEqual(result.returncode, expect, result.stderr)
        return result.stderr

    def installed(self):
        """Beside the binary, as the build leaves it."""
        return pathlib.Path(BINARY).parent / "mergekit-yaml"

    def beside(self, program):
        """The script beside another aimerge."""
        folder = self.folder / "bin"
        folder.mkdir(exist_ok=True)
        aimerge = folder / "aimerge"
        aimerge.write_text(program)
        aimerge.chmod(aimerge.stat().st_mode | stat.S_IXUSR)
        link = folder / "mergekit-yaml"
        link.unlink(missing_ok=True)
        link.symlink_to(SCRIPT)
        return link

    def test_merges_as_aimerge_does(self):
        config = {"merge_method": "dare_ties", "base_model": BASE, "dtype": "float32", "parameters": {"weight": 0.5, "density": 0.5},
                  "models": [{"model": A}, {"model": B}]}
        path = self.config(config, "mergekit config.yml")
        self.assertTrue(os.access(self.installed(), os.X_OK))
        said = self.script(path, self.out, "--random-seed", "7", "--lazy-unpickle", "--copy-tokenizer", "--out-shard-size", "100K", "-j", "1",
                           program=self.installed())
        self.assertIn("mergekit-yaml: without effect: --lazy-unpickle (weights are merged piece by piece, and no pickle is executed)\n", said)
        self.assertIn(f"mergekit-yaml: {BINARY} merge '{path}' {self.out} --max-shard-size 100kB --set seed=7 --threads 1\n", said)
        expected = self.of_config(config | {"seed": 7}, "--max-shard-size", "100kB")
        self.assertEqual(digests(self.out), expected)
        self.assertGreater(len(expected), 3)
        with self.subTest("again, over the result"):
            self.assertIn("--overwrite", self.script(path, self.out, "--no-cuda", program=self.installed()))
            self.assertEqual(digests(self.out), self.of_config(config))

    def test_what_is_passed_on(self):
        program = self.beside('#!/bin/sh\nfor word; do echo "[$word]"; done >&2\necho "cache=$HF_HUB_CACHE gpu=$CUDA_VISIBLE_DEVICES" >&2\nexit 75\n')
        for options, passed in (
                ("", []),
                ("--cuda", ["--device", "cuda"]),
                ("--gpu-rich", ["--device", "cuda"]),
                ("--cuda --no-cuda", ["--device", "cpu"]),
                ("--cuda --device cpu", ["--device", "cpu"]),
                ("--device auto --quiet", ["--device", "auto", "--progress", "none", "--log-level", "warn"]),
                ("-v", ["--log-level", "info"]),
                ("-vv --quiet", ["--progress", "none", "--log-level", "debug"]),
                ("--out-shard-size 1B", ["--max-shard-size", "1GB"]),
                ("--out-shard-size 1234", ["--max-shard-size", "1.234kB"]),
                ("--out-shard-size 1000001", ["--max-shard-size", "1000001"]),
                ("--out-shard-size 0", ["--max-shard-size", "1000TB"]),
                ("--allow-crimes --no-lazy-unpickle", ["--allow-crimes"]),
                ("--unsafe-truncate-embeddings --num-threads 3", ["--set", "unsafe_truncate_embeddings=true", "--threads", "3"]),
                ("--no-copy-tokenizer --no-write-model-card", []),
        ):
            with self.subTest(options):
                said = self.script("c.yml", "out", *options.split(), program=program, expect=75)
                self.assertEqual([line[1:-1] for line in said.splitlines() if line.startswith("[")], ["merge", "c.yml", "out", *passed])
        said = self.script("c.yml", "out", "--no-copy-tokenizer", "--trust-remote-code", "--lora-merge-dtype", "bfloat16", program=program, expect=75)
        self.assertIn("without effect: --no-copy-tokenizer (it is written all the same), --trust-remote-code (no code of a model is run), "
                      "--lora-merge-dtype (adapters are applied in float32 and not rounded)\n", said)
        said = self.script("c.yml", "out", "--transformers-cache", "my cache", "--device", "cuda:1", program=program, expect=75,
                           CUDA_VISIBLE_DEVICES="4,6")
        self.assertIn("cache=my cache gpu=6\n", said)
        self.assertIn("CUDA_VISIBLE_DEVICES=6 HF_HUB_CACHE='my cache' ", said)
        self.assertEqual(self.script("c.yml", "out", "--lazy-unpickle", program=program, expect=75, OMPI_COMM_WORLD_RANK="1").count("mergekit-yaml:"), 0)

    def test_every_option_of_mergekit_is_understood(self):
        module = script()
        for option in MERGEKIT_OPTIONS:
            with self.subTest(option):
                given = module.parser().parse_args(["c.yml", "out", *option.split()])
                if option == "--no-safe-serialization":
                    self.assertRaisesRegex(module.Refused, "safetensors only", module.translate, given)
                else:
                    module.translate(given)
        for size in ("big", "1.5B", "", "-1", "1BB"):
            self.assertRaises(argparse.ArgumentTypeError, module.shard_size, size)

    def test_what_cannot_be(self):
        program = self.beside("#!/bin/sh\nexit 0\n")
        for options, saying in (
                (["--no-safe-serialization"], "--no-safe-serialization: aimerge writes safetensors only; leave the option out"),
                (["--device", "mps"], "--device mps: aimerge computes on cpu or cuda"),
                (["--device", "cuda:x"], "--device cuda:x: aimerge computes on cpu or cuda"),
                (["--memory-limit", "4GB"], "mergekit 0.1.5 has no --memory-limit 4GB; with options of aimerge run `aimerge merge CONFIG OUT`"),
                (["--out-shard-size", "1GB"], "'1GB' is not a size"),
        ):
            with self.subTest(options=options):
                self.assertIn(saying, self.script("c.yml", "out", *options, program=program, expect=2))

    def test_a_folder_with_anything_else_is_not_replaced(self):
        program = self.beside("#!/bin/sh\nexit 0\n")
        self.out.mkdir()
        self.assertIn("--overwrite", self.script("c.yml", self.out, program=program))
        (self.out / "config.json").write_text("{}")
        self.assertIn("holds config.json; aimerge replaces a folder as a whole", self.script("c.yml", self.out, program=program, expect=2))
        (self.out / "mergekit_config.yml").write_text("")
        self.assertIn("--overwrite", self.script("c.yml", self.out, program=program))
        (self.out / "notes").mkdir()
        self.assertIn("holds notes; aimerge replaces", self.script("c.yml", self.out, program=program, expect=2))


if __name__ == "__main__":
    import unittest
    unittest.main()

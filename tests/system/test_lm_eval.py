"""Scoring with lm-eval: the command lines, the paper's prompts, and the numbers of `aimerge evaluate` against lm-eval's own.

lm-eval is large, so what it says about tests/data/lm_eval/items.jsonl is kept there as goldens.json (made by lm_eval_run.py).
Where it is installed (./launch/setup.sh --lm-eval) it is run here too.
"""
import importlib.util
import json
import os
import pathlib
import subprocess
import sys
import unittest

import lm_eval_run
from aimerge_command import AimergeTest

FAMILY = pathlib.Path(os.environ["AIMERGE_FAMILY"])
TASKS = lm_eval_run.ROOT / "configs" / "lm-eval"
HAS_LM_EVAL = importlib.util.find_spec("lm_eval") is not None


class CommandLines(AimergeTest):
    """src/tools/score_with_lm_eval.py, without running anything."""

    def score(self, *arguments, expect=0):
        result = subprocess.run([sys.executable, lm_eval_run.SCORE, "--out", "scores", *map(str, arguments)], cwd=self.folder,
                                text=True, capture_output=True)
        self.assertEqual(result.returncode, expect, result.stdout + result.stderr)
        return result

    def checkpoint(self, name):
        folder = self.folder / name
        folder.mkdir(parents=True)
        (folder / "config.json").write_text("{}")
        return folder

    def test_all_benchmarks_in_one_command_per_model(self):
        self.checkpoint("merged")
        lines = self.score("merged", "--dry-run", "--run-model-code").stdout.splitlines()
        self.assertEqual(len(lines), 1)
        for part in ("HF_ALLOW_CODE_EVAL=1 ", "--model hf", f"--model_args pretrained={self.folder / 'merged'},dtype=auto",
                     "--tasks humaneval,mbpp,mmlu,ifeval,gsm8k,gsm8k_paper_prompt,minerva_math,math_paper_prompt",
                     f"--include_path {TASKS}", "--output_path scores/merged", "--confirm_run_unsafe_code"):
            self.assertIn(part, lines[0])

    def test_vllm_with_tensor_parallelism(self):
        self.checkpoint("merged")
        line = self.score("m=merged", "--dry-run", "--benchmarks", "mmlu", "--backend", "vllm", "--tensor-parallel", 4).stdout
        self.assertIn(f"--model vllm --model_args pretrained={self.folder / 'merged'},dtype=auto,tensor_parallel_size=4 ", line)
        self.assertIn("--output_path scores/m ", line)
        self.assertNotIn("unsafe", line)

    def test_models_may_stand_behind_options(self):
        self.checkpoint("a")
        self.checkpoint("b")
        lines = self.score("a", "--dry-run", "--backend", "hf", "b", "--benchmarks", "mmlu").stdout.splitlines()
        self.assertEqual([line.split("--output_path ")[1].split()[0] for line in lines], ["scores/a", "scores/b"])

    def test_a_sweep_stands_for_its_finished_checkpoints(self):
        for name in ("ties-a+b-omega-0.4", "ties-a+b-omega-1.0"):
            self.checkpoint(f"sweep/{name}")
        (self.folder / "sweep" / "points.csv").write_text("model,kind,status\nbase,base,done\nties-a+b-omega-0.4,merged,done\n"
                                                          "ties-a+b-omega-1.0,merged,failed\n")
        lines = self.score("sweep", "--dry-run", "--benchmarks", "mmlu").stdout.splitlines()
        self.assertEqual(len(lines), 1)
        self.assertIn("scores/ties-a+b-omega-0.4 ", lines[0])

    def test_only_what_is_missing_is_run(self):
        for name in ("one", "two"):
            self.checkpoint(name)
            results = self.folder / "scores" / name / "model"
            results.mkdir(parents=True)
            tasks = {"mmlu": {}, "gsm8k": {}} if name == "one" else {"mmlu": {}, "gsm8k": {}, "gsm8k_paper_prompt": {}}
            (results / "results_2026-01-01T00-00-00.json").write_text(json.dumps({"results": tasks}))
        lines = self.score("one", "two", "--dry-run", "--benchmarks", "mmlu,gsm8k").stdout.splitlines()
        self.assertEqual(len(lines), 1)
        self.assertIn("--tasks gsm8k_paper_prompt ", lines[0])

    def test_mistakes_are_named(self):
        self.checkpoint("merged")
        for arguments, code, message in [
                (["merged"], 2, "humaneval, mbpp: these run code that the model writes"),
                (["nowhere", "--benchmarks", "mmlu"], 3, "nowhere: neither a checkpoint (config.json) nor a sweep's folder"),
                (["merged", "x/../merged", "--benchmarks", "mmlu"], 3, "neither a checkpoint"),
                (["merged", "./merged", "--benchmarks", "mmlu"], 2, "two models are called 'merged'"),
                (["a/b=merged", "--benchmarks", "mmlu"], 2, "'a/b': a model's name"),
                (["merged", "--benchmarks", "mnlu"], 2, "unknown benchmark 'mnlu'; choose from humaneval"),
                (["merged", "--benchmarks", "mmlu", "--tensor-parallel", "2"], 2, "--tensor-parallel is for --backend vllm")]:
            with self.subTest(arguments=arguments):
                self.assertIn(message, self.score(*arguments, "--dry-run", expect=code).stderr)


def load_final_answer():
    spec = importlib.util.spec_from_file_location("final_answer", TASKS / "final_answer.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class PaperPrompt(unittest.TestCase):
    def test_final_answer_of_gsm8k(self):
        score = load_final_answer().score_gsm8k
        for text, right in [("3 + 4 = 7. The answer is: 7.", 1), ("The answer is: 7", 1), ("The answer is: $7.00", 1),
                            ("The answer is: 6. No. The answer is: 7", 1), ("The answer is: 14/2", 1), ("The answer is: 6.9", 1),
                            ("The answer is 7", 0), ("7", 0), ("The answer is: 8", 0), ("The answer is: -7", 0),
                            ("The answer is: 7/0", 0), ("The answer is: none", 0), ("The answer is: 7. The answer is: 8", 0)]:
            with self.subTest(text=text):
                self.assertEqual(score({"answer": "so\n#### 7"}, [text]), {"exact_match": float(right)})
        self.assertEqual(score({"answer": "#### 1,234"}, ["The answer is: 1,234 dollars"]), {"exact_match": 1.0})

    @unittest.skipUnless(HAS_LM_EVAL, "lm-eval, whose comparison of LaTeX is used, is not installed: ./launch/setup.sh --lm-eval")
    def test_final_answer_of_math(self):
        score = load_final_answer().score_math
        document = {"solution": r"It is $\boxed{\frac{1}{2}}$."}
        for text, right in [("The answer is: \\frac{1}{2}.", 1), ("The answer is: \\dfrac12.\n\nMore.", 1), ("The answer is: 0.5", 1),
                            ("The answer is: \\frac{1}{3}.", 0), (r"\boxed{\frac{1}{2}}", 0)]:
            with self.subTest(text=text):
                self.assertEqual(score(document, [text]), {"exact_match": float(right)})


@unittest.skipUnless(HAS_LM_EVAL, "lm-eval is not installed: ./launch/setup.sh --lm-eval")
class WithLmEval(AimergeTest):
    def python(self, *arguments):
        return subprocess.run([sys.executable, *map(str, arguments)], cwd=self.folder, text=True, capture_output=True, check=True,
                              env=lm_eval_run.environment(self.folder), timeout=300).stdout

    def test_every_option_is_one_of_lm_eval(self):
        (self.folder / "config.json").write_text("{}")
        command = self.python(lm_eval_run.SCORE, f"m={self.folder}", "--out", "out", "--dry-run", "--run-model-code", "--device",
                              "cuda:0", "--limit", "5")
        offered = self.python("-m", "lm_eval", "run", "--help")
        for option in {word for word in command.split() if word.startswith("--")}:
            self.assertIn(option, offered)

    def test_the_paper_tasks_read_the_public_data_sets(self):
        """Small data sets in the public ones' layout, found by their names because they lie in the current folder."""
        write_data_set(self.folder / "openai/gsm8k", {"main": [{"question": "How many are 3 and 4?", "answer": "so\n#### 7"}]})
        write_data_set(self.folder / "EleutherAI/hendrycks_math",
                       {subject: [{"problem": f"Half, in {subject}?", "solution": r"$\boxed{\frac{1}{2}}$"}]
                        for subject in load_final_answer().SUBJECTS})
        (self.folder / "use.py").write_text(USE_TASKS)
        said = json.loads(self.python("use.py", TASKS).splitlines()[-1])
        prompt = ("Below is an instruction that describes a task. Write a response that appropriately completes the request.\n\n"
                  "### Instruction:\n{}\n\n### Response: Let's think step by step.")
        self.assertEqual(said["gsm8k_paper_prompt"], {"prompts": [prompt.format("How many are 3 and 4?")], "right": 1.0, "wrong": 0.0})
        self.assertEqual(len(said["math_paper_prompt"]["prompts"]), 7)
        self.assertEqual(said["math_paper_prompt"]["prompts"][0], prompt.format("Half, in algebra?"))
        self.assertEqual((said["math_paper_prompt"]["right"], said["math_paper_prompt"]["wrong"]), (1.0, 0.0))

    def test_lm_eval_says_what_the_goldens_say_and_is_not_run_twice(self):
        results = lm_eval_run.run(FAMILY / "base", self.folder)
        goldens = json.loads((lm_eval_run.DATA / "goldens.json").read_text())
        for task in ("requests", "choices"):
            for got, want in zip(lm_eval_run.samples(self.folder, task), goldens[task], strict=True):
                for (value, greedy), (wanted, wanted_greedy) in zip(got, want, strict=True):
                    self.assertAlmostEqual(value, wanted, delta=1e-3)
                    self.assertEqual(greedy, wanted_greedy)
        self.assertEqual(set(results["results"]), {"requests", "choices"})
        again = self.python(*lm_eval_run.score_command([f"base={FAMILY / 'base'}"], self.folder / "out", self.folder / "tasks")[1:])
        self.assertEqual(again, "")


    def test_a_suite_of_its_tasks_is_the_one_that_is_kept(self):
        lm_eval_run.write_suite(self.folder, self.folder / "suite.jsonl")
        self.assertEqual((self.folder / "suite.jsonl").read_text(), (lm_eval_run.DATA / "suite.jsonl").read_text())
        scores, goldens = lm_eval_run.suite_scores(FAMILY, self.folder), json.loads((lm_eval_run.DATA / "suite_goldens.json").read_text())
        for task, rows in goldens.items():
            for got, want in zip(scores[task], rows, strict=True):
                self.assertEqual((got["acc"], got["acc_norm"]), (want["acc"], want["acc_norm"]))

    def test_requests_and_plain_choices_come_back_as_the_items_they_were_made_of(self):
        lm_eval_run.write_tasks(self.folder)
        self.python(lm_eval_run.WRITE_SUITE, "requests", "choices", "--include", self.folder, "--out", "suite.jsonl")
        self.assertEqual([json.loads(line) for line in (self.folder / "suite.jsonl").read_text().splitlines()], lm_eval_run.items())

    def test_what_is_no_suite_is_refused(self):
        (self.folder / "written.yaml").write_text("task: written\ndataset_path: json\ntest_split: test\noutput_type: generate_until\n"
                                                  f"dataset_kwargs: {{data_files: {{test: {lm_eval_run.DATA / 'blanks.jsonl'}}}}}\n"
                                                  "doc_to_text: first\ndoc_to_target: end\n")
        for task, message in (("written", "its items are of the kind generate_until"), ("no_such_task", "no_such_task: lm-eval cannot load it")):
            result = subprocess.run([sys.executable, lm_eval_run.WRITE_SUITE, task, "--include", self.folder, "--out", self.folder / "s.jsonl"],
                                    text=True, capture_output=True, env=lm_eval_run.environment(self.folder))
            self.assertEqual(result.returncode, 3, result.stderr)
            self.assertIn(message, result.stderr)
            self.assertFalse((self.folder / "s.jsonl").exists())


class EvaluateSaysWhatLmEvalSays(AimergeTest):
    def goldens(self):
        return json.loads((lm_eval_run.DATA / "goldens.json").read_text())

    def test_values_and_greedy_flags(self):
        samples = self.folder / "samples.jsonl"
        self.aimerge("evaluate", FAMILY / "base", "--suite", lm_eval_run.DATA / "items.jsonl", "--dtype", "float32", "--samples", samples,
                     ranks=2, timeout=300)
        wanted = [request for task in ("requests", "choices") for item in self.goldens()[task] for request in item]
        got = []
        for row in map(json.loads, samples.read_text().splitlines()):
            values, greedy = row["loglikelihood"], row["is_greedy"]
            got += zip(values, greedy, strict=True) if isinstance(values, list) else [(values, greedy)]
        self.assertEqual(len(got), len(wanted))
        for number, ((value, greedy), (wanted_value, wanted_greedy)) in enumerate(zip(got, wanted)):
            self.assertAlmostEqual(value, wanted_value, delta=1e-3, msg=f"request {number}")
            self.assertEqual(greedy, wanted_greedy, f"request {number}")


    def test_acc_and_acc_norm_of_a_suite_from_its_tasks(self):
        samples = self.folder / "samples.jsonl"
        self.aimerge("evaluate", FAMILY / "base", "--suite", lm_eval_run.DATA / "suite.jsonl", "--dtype", "float32", "--samples", samples, timeout=300)
        goldens = json.loads((lm_eval_run.DATA / "suite_goldens.json").read_text())
        got = list(map(json.loads, samples.read_text().splitlines()))
        wanted = [(task, row) for task, rows in goldens.items() for row in rows]
        self.assertEqual([row["task"] for row in got], [task for task, _ in wanted])
        for row, (_, want) in zip(got, wanted):
            for value, wanted_value in zip(row["loglikelihood"], want["loglikelihood"], strict=True):
                self.assertAlmostEqual(value, wanted_value, delta=1e-3, msg=row["place"])
            self.assertEqual((row["acc"], row["acc_norm"]), (want["acc"], want["acc_norm"]), row["place"])


USE_TASKS = """
import json, sys
from lm_eval.tasks import TaskManager, get_task_dict
answers = {"gsm8k_paper_prompt": ("The answer is: 7.", "The answer is: 8."),
           "math_paper_prompt": ("The answer is: 0.5.", "The answer is: 5.")}
said = {}
for name, task in get_task_dict(list(answers), TaskManager(include_path=sys.argv[1])).items():
    documents = list(task.test_docs())
    right, wrong = (task.process_results(documents[0], [answer])["exact_match"] for answer in answers[name])
    said[name] = {"prompts": [task.doc_to_text(document) for document in documents], "right": right, "wrong": wrong}
print(json.dumps(said))
"""


def write_data_set(folder, configurations):
    folder.mkdir(parents=True)
    header = "---\nconfigs:\n"
    for name, rows in configurations.items():
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        header += f"- config_name: {name}\n  data_files:\n  - {{split: test, path: {name}.jsonl}}\n"
    (folder / "README.md").write_text(header + "---\n")


if __name__ == "__main__":
    unittest.main()

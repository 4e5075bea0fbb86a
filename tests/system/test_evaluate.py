"""`aimerge evaluate`: log-likelihoods of the golden family, the real family's published scores, bits over ranks."""
import json
import os
import pathlib

from aimerge_command import GOLDENS, AimergeTest

FAMILY = pathlib.Path(os.environ["AIMERGE_FAMILY"])
SUITES = pathlib.Path(__file__).resolve().parents[2] / "configs" / "smollm2"


class GoldenFamily(AimergeTest):
    def suite(self):
        self.requests = json.loads((GOLDENS / "loglikelihood.json").read_text())
        path = self.folder / "requests.jsonl"
        path.write_text("".join(json.dumps({"task": "t", "context_ids": r["context"], "continuation_ids": r["continuation"]}) + "\n"
                                for r in self.requests))
        return path

    def evaluate(self, model, *arguments, **options):
        samples = self.folder / "samples.jsonl"
        result = self.aimerge("evaluate", model, "--suite", self.suite(), "--json", "--samples", samples, *arguments, **options)
        return json.loads(result.stdout), samples.read_text()

    def test_log_likelihoods_are_the_goldens(self):
        for model in ("base", "expert_a"):
            scores, samples = self.evaluate(GOLDENS / "family_f32" / model)
            rows = [json.loads(line) for line in samples.splitlines()]
            self.assertEqual(len(rows), len(self.requests))
            greedy = 0
            for row, request in zip(rows, self.requests):
                wanted = request["results"][model]
                self.assertAlmostEqual(row["loglikelihood"], wanted["loglikelihood"], delta=1e-4)
                self.assertEqual(row["is_greedy"], wanted["is_greedy"])
                self.assertEqual(row["tokens"], len(request["continuation"]))
                greedy += wanted["is_greedy"]
            self.assertEqual(scores["tasks"]["t"]["metric"], "exact_match")
            self.assertAlmostEqual(scores["tasks"]["t"]["score"], greedy / len(rows))

    def test_bits_are_the_same_for_any_ranks(self):
        model = GOLDENS / "family_f32" / "base"
        for dtype in ("float32", "bfloat16"):
            alone = self.evaluate(model, "--dtype", dtype, "--threads", 1)[1]
            for ranks in (2, 3):
                self.assertEqual(self.evaluate(model, "--dtype", dtype, "--threads", 1, ranks=ranks)[1], alone)

    def test_mistakes_are_named(self):
        model = GOLDENS / "family_f32" / "base"
        bad = self.folder / "bad.jsonl"
        for line, message in [('{"task": "t"}', 'bad.jsonl:1: has no key "prompt"'),
                              ('{"task": "t", "context_ids": [1], "continuation_ids": [70000]}', "bad.jsonl:1: token id 70000 is outside"),
                              ('{"task": "t", "text_ids": [5]}', "bad.jsonl:1: the text has 1 tokens")]:
            bad.write_text(line + "\n")
            with self.subTest(line=line):
                self.assertIn(message, self.aimerge("evaluate", model, "--suite", bad, expect=3).stderr)
        self.assertIn("no-such.jsonl", self.aimerge("evaluate", model, "--suite", "no-such.jsonl", expect=3).stderr)
        self.aimerge("evaluate", model, expect=2)


class RealFamily(AimergeTest):
    def test_scores_of_the_base_are_the_published_ones(self):
        suites = [SUITES / "suites" / f"{task}.jsonl" for task in ("math", "code", "instruct", "mc")] + [SUITES / "general.txt"]
        arguments = [argument for suite in suites for argument in ("--suite", suite)]
        result = self.aimerge("evaluate", FAMILY / "base", *arguments, "--multiple-choice", "acc", "--json", ranks=2, timeout=600)
        tasks = json.loads(result.stdout)["tasks"]
        self.assertEqual({task: tasks[task]["items"] for task in tasks},
                         {"math": 60, "code": 60, "instruct": 60, "mc": 104, "general": 1})
        for task, hits, items in [("math", 7, 60), ("code", 5, 60), ("instruct", 5, 60), ("mc", 83, 104)]:
            self.assertAlmostEqual(tasks[task]["score"], hits / items, delta=1.01 / items, msg=task)
        self.assertAlmostEqual(tasks["general"]["score"], 24.848, delta=0.002 * 24.848)

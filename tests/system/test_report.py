"""aimerge report on the paper's printed tables and on the points of a small sweep."""
import csv
import html
import io
import json
import pathlib
import re
import unittest

from aimerge_command import GOLDENS, AimergeTest

PRINTED = pathlib.Path(__file__).resolve().parents[2] / "configs" / "paper" / "printed"

# Two methods, three omegas, a perplexity, a point that failed, quoted fields.
POINTS = """model,kind,method,combination,omega,aim,status,seconds,error,scored_by,math,code,general:ppl
base,base,,,,,done,1.5,,aimerge,10,20,24.8
code,expert,,code,,,done,1.5,,aimerge,15,60,30
math,expert,,,,,done,1.5,,aimerge,50,10,28
ties-code-math-1,merged,ties,code+math,1,no,done,2,,aimerge,40,50,40
ties-code-math-0.6,merged,ties,code+math,0.6,yes,done,2,,aimerge,44,50,35
ties-code-math-0.4,merged,ties,code+math,0.4,yes,done,2,,aimerge,45,55,30
"linear, all",merged,linear,code+math,1,no,failed,0,"disk ""/x"" full, stopped",,,,
"""
NO_FIGURES = {"AIMERGE_PYTHON": "/no/such/python"}


class ReportTest(AimergeTest):

    def sweep(self, text=POINTS):
        folder = self.folder / "sweep"
        folder.mkdir(exist_ok=True)
        (folder / "points.csv").write_text(text)
        return folder

    def gains(self, *arguments):
        result = self.aimerge("report", "--json", *arguments)
        return {row["model"]: row["hv_gain"] for row in json.loads(result.stdout)["merges"]}

    def read_csv(self, path):
        with open(path, newline="", encoding="utf-8") as file:
            return list(csv.DictReader(file))

    def without_scripts(self, page):
        return re.sub(r"<script.*?</script>", "", page, flags=re.DOTALL)

    def assert_self_contained(self, page):
        self.assertEqual([], re.findall(r"<script[^>]* src", page))
        page = self.without_scripts(page)
        self.assertNotIn("http", page)
        self.assertEqual([], re.findall(r'(?:src|href)="(?!#)', page))
        self.assertNotIn("@import", page)
        self.assertEqual([], re.findall(r"url\((?!#)", page))
        names = re.findall(r'\bid="([^"]+)"', page)
        self.assertEqual(len(names), len(set(names)), "an id is there twice")

    def test_table_2_is_reproduced_to_the_fourth_decimal(self):
        gains = self.gains("--scores", PRINTED / "table2.csv")
        printed = self.read_csv(PRINTED / "table2-gains.csv")
        self.assertEqual(len(printed), 30)
        for row in printed:
            self.assertEqual(f"{gains[row['model']]:.4f}", row["hv_gain"], row["model"])

    def test_tables_1_and_3_follow_from_the_populations_that_were_used(self):
        for table in ("table1", "table3"):
            gains = self.gains("--scores", PRINTED / f"{table}.csv", "--population", "as-printed")
            printed = self.read_csv(PRINTED / f"{table}-gains.csv")
            self.assertEqual(len(printed), 40)
            for row in printed:
                self.assertLessEqual(abs(gains[row["model"]] - float(row["hv_gain"])), 0.005, row["model"])

    def test_the_paper_beside_itself(self):
        result = self.aimerge("report", "--scores", PRINTED / "table2.csv", "--compare-paper", "2", "--out", "r", **NO_FIGURES)
        self.assertIn("34 of the 34 printed rows", result.stdout)
        for row in self.read_csv(self.folder / "r" / "tables" / "paper-table2.csv"):
            self.assertEqual(float(row["gsm8k"]), float(row["gsm8k_printed"]))
        by_default = self.aimerge("report", "--scores", PRINTED / "table1.csv", "--compare-paper", **NO_FIGURES)
        self.assertIn("44 of the 44 printed rows", by_default.stdout)

    def test_a_sweep_becomes_tables_pictures_and_one_page(self):
        sweep = self.sweep()

        result = self.aimerge("report", sweep)

        report = sweep / "report"
        page = (report / "report.html").read_text(encoding="utf-8")
        self.assert_self_contained(page)
        figures = {"hv-gain", "hv-gain-over-omega", "benchmarks-over-omega-code-math"}
        self.assertEqual({path.stem for path in (report / "figures").glob("*.svg")}, figures)
        self.assertEqual(self.without_scripts(page).count("<svg"), len(figures))
        self.assertIn('id="figure-gain"', page)
        for name in figures:
            self.assertTrue((report / "figures" / f"{name}.png").read_bytes().startswith(b"\x89PNG"))
        for suffix in ("md", "csv", "tex"):
            self.assertEqual({path.stem for path in (report / "tables").glob(f"*.{suffix}")},
                             {"aim", "ablation", "omega-code-math", "pareto", "scores", "missing"})
        self.assertIn("Merges with and without AIM", result.stdout)
        self.assertIn('disk "/x" full, stopped', result.stdout)
        self.assertIn("percent, 0 to 100", page)
        self.assertIn("figures/hv-gain.svg", (report / "report.md").read_text(encoding="utf-8"))

    def test_the_ablation_table_has_changes_and_gains(self):
        self.aimerge("report", self.sweep(), **NO_FIGURES)

        rows = self.read_csv(self.folder / "sweep" / "report" / "tables" / "ablation.csv")
        with_aim = [row for row in rows if row["aim"] == "yes"]
        self.assertEqual([row["method"] for row in with_aim], ["ties"])
        self.assertAlmostEqual(float(with_aim[0]["math_change_pct"]), 12.5)
        self.assertAlmostEqual(float(with_aim[0]["general:ppl_change_pct"]), -25)
        # [0, .45] x [0, .55] without what code [.15, .6] and math [.5, .1] cover.
        self.assertAlmostEqual(float(with_aim[0]["hv_gain"]), (0.45 * 0.55 - 0.15 * 0.55 - 0.45 * 0.1 + 0.15 * 0.1) ** 0.5, 12)

    def test_without_matplotlib_everything_else_is_written(self):
        sweep = self.sweep()
        result = self.aimerge("report", sweep, **NO_FIGURES)
        self.assertIn("the report has no figures", result.stderr)
        self.assertIn("launch/setup.sh", result.stderr)
        self.assertIn("report.html has no interactive figure", result.stderr)
        page = (sweep / "report" / "report.html").read_text(encoding="utf-8")
        self.assertNotIn("<svg", page)
        self.assertIn("The interactive figure is missing: ", page)
        self.assertIn("AIM changed HV gain by", page)
        self.assertIn("<td", page)
        self.assertTrue((sweep / "report" / "tables" / "ablation.tex").is_file())

    def test_the_answer_comes_first(self):
        sweep = self.sweep()

        result = self.aimerge("report", sweep, **NO_FIGURES)

        # HV gains as in the ablation's test: without AIM sqrt(.2 - .075 - .04 + .015), with sqrt(.116) and sqrt(.135).
        lines = ["Best of 3 merges by HV gain: ties of code + math with AIM (\u03C9 0.4), 0.3674 (without AIM 0.3162).",
                 "AIM changed HV gain by +0.0378 on average, from 0.3162 to 0.3540 (its standard error is not known, because points.csv "
                 "does not say how many items the scores rest on): of 2 pairs of a merge with AIM and the same without, 2 improved, "
                 "0 got worse.",
                 "Next is ties of code + math with AIM (\u03C9 0.6), 0.3406: 0.0268 less."]
        self.assertEqual(result.stdout.splitlines()[:3], lines)
        markdown = (sweep / "report" / "report.md").read_text(encoding="utf-8").splitlines()
        self.assertEqual(markdown[2:7], [lines[0], "", lines[1], "", "- " + lines[2]])
        page = (sweep / "report" / "report.html").read_text(encoding="utf-8")
        first = lines[0].replace("\u03C9 ", "\u03C9&nbsp;")
        self.assertIn(f'</h1>\n<p class="answer">{first}</p>\n<p class="answer">{lines[1]}</p>\n', page)
        self.assertIn("the sweep's journal does not have the configs of its merges", page)
        answer = json.loads(self.aimerge("report", sweep, "--json").stdout)
        self.assertEqual(answer["best"][0]["model"], "ties-code-math-0.4")
        self.assertEqual([answer["aim"][key] for key in ("pairs", "improved", "worse", "mean_change_stderr")], [2, 2, 0, None])
        self.assertAlmostEqual(answer["aim"]["mean_change"], (0.116 ** 0.5 + 0.135 ** 0.5) / 2 - 0.1 ** 0.5, 12)
        self.assertEqual(answer["items"], {"math": None, "code": None})

    def test_standard_errors_are_a_bootstrap_over_items_drawn_alike_for_all_models(self):
        import numpy as np
        random = np.random.default_rng(7)
        items = {"math": 30, "code": 50}
        share = {"base": (0.1, 0.1), "code": (0.2, 0.7), "math": (0.6, 0.2), "p": (0.5, 0.5), "q": (0.6, 0.65), "r": (0.45, 0.6),
                 "u": (0.4, 0.4), "v": (0.5, 0.5)}
        right = {model: {task: random.random(items[task]) < rate for task, rate in zip(items, rates)} for model, rates in share.items()}
        merges = {"p": ("ties", "1", "no"), "q": ("ties", "0.4", "yes"), "r": ("ties", "0.7", "yes"), "u": ("linear", "1", "no"),
                  "v": ("linear", "0.4", "yes")}
        rows, journal = ["model,kind,method,combination,omega,aim,status,math,code"], []
        for model, outcomes in right.items():
            scores = {task: float(outcomes[task].sum()) / items[task] for task in items}
            kind = f"merged,{merges[model][0]},code+math,{merges[model][1]},{merges[model][2]}" if model in merges else \
                "base,,,," if model == "base" else "expert,,,,"
            rows.append(f"{model},{kind},done,{100 * scores['math']!r},{100 * scores['code']!r}")
            journal.append(json.dumps({"point": model, "key": "k", "status": "done", "seconds": 1, "error": "", "scored_by": "", "scores": [
                {"task": task, "metric": "acc", "value": scores[task], "stderr": 0, "items": items[task],
                 "outcomes": "".join("01"[int(x)] for x in outcomes[task])} for task in items]}))
        sweep = self.sweep("\n".join(rows) + "\n")
        (sweep / "journal").write_text("\n".join(journal) + "\n")

        answer = json.loads(self.aimerge("report", sweep, "--json").stdout)

        drawn = {}
        for number, (task, count) in enumerate(items.items()):
            generator = np.random.MT19937()
            generator._legacy_seeding(number)
            taken = (generator.random_raw(1000 * count) * np.uint64(count) >> np.uint64(32)).reshape(1000, count)
            drawn[task] = {model: right[model][task][taken].mean(axis=1) for model in right}

        def gains(model):  # of a rectangle without those of the two experts
            x, y = (drawn[task][model] for task in items)
            parts = [(np.minimum(x, drawn["math"][e]), np.minimum(y, drawn["code"][e])) for e in ("code", "math")]
            both = np.minimum(parts[0][0], parts[1][0]) * np.minimum(parts[0][1], parts[1][1])
            return np.maximum(0, x * y - sum(a * b for a, b in parts) + both) ** 0.5

        change = (gains("q") + gains("r") + gains("v")) / 3 - (2 * gains("p") + gains("u")) / 3
        self.assertAlmostEqual(answer["aim"]["mean_change_stderr"], change.std(ddof=1), 9)
        lead = gains(answer["best"][0]["model"]) - gains(answer["next"]["model"])
        self.assertAlmostEqual(answer["next"]["difference_stderr"], lead.std(ddof=1), 9)
        self.assertEqual(answer["items"], items)
        said = self.aimerge("report", sweep, **NO_FIGURES).stdout
        self.assertIn(f"(standard error {change.std(ddof=1):.4f}, paired over 30 items of math, 50 of code): of 3 pairs", said)

    def test_json_alone_writes_nothing(self):
        gains = self.gains(self.sweep())
        self.assertEqual(list(gains), ["ties-code-math-1", "ties-code-math-0.6", "ties-code-math-0.4", "linear, all"])
        self.assertIsNone(gains["linear, all"])
        self.assertFalse((self.folder / "sweep" / "report").exists())

    def test_scale_is_said_or_guessed_and_told(self):
        scores = self.folder / "s.csv"
        scores.write_text("model,kind,method,combination,omega,aim,x\ncode,expert,,,,,0.5\nm,merged,ties,code,1,no,1\n")
        guessed = self.aimerge("report", "--scores", scores, "--json")
        self.assertEqual(json.loads(guessed.stdout)["merges"][0]["hv_gain"], 0.5)
        self.assertIn("--scale 100", guessed.stderr)
        said = self.aimerge("report", "--scores", scores, "--json", "--scale", "100")
        self.assertAlmostEqual(json.loads(said.stdout)["merges"][0]["hv_gain"], 0.005, 15)
        self.assertNotIn("--scale", said.stderr)

    def test_results_of_lm_eval_are_joined_by_model(self):
        sweep = self.sweep("model,kind,method,combination,omega,aim,status\nbase,base,,,,,done\ncode,expert,,code,,,done\n"
                           "m,merged,ties,code,1,no,done\n")
        for model, score in (("base", 0.25), ("code", 0.5), ("m", 0.75)):
            folder = self.folder / "lm-eval" / model / "some__model"
            folder.mkdir(parents=True)
            (folder / "results_2026-01-01T00-00-00.json").write_text(json.dumps(
                {"results": {"gsm8k": {"exact_match,strict-match": score}}, "n-shot": {"gsm8k": 5},
                 "config": {"model": "vllm", "limit": None}, "lm_eval_version": "0.4.9"}))

        self.assertEqual(self.gains(sweep, "--lm-eval", "lm-eval"), {"m": 0.25})
        self.aimerge("report", sweep, "--lm-eval", "lm-eval", **NO_FIGURES)

        rows = self.read_csv(sweep / "report" / "tables" / "scores.csv")
        self.assertEqual([row["gsm8k"] for row in rows], ["25", "50", "75"])
        self.assertEqual(rows[2]["scored_by"], "lm-eval 0.4.9, vllm: gsm8k exact_match (strict-match) 5-shot")

    def test_a_statistics_log_becomes_a_heat_map(self):
        log = self.folder / "stats.h5"
        self.aimerge("calibrate", self.config(self.merge_config(omega=0.4)), "--out", log)

        self.aimerge("report", self.sweep(), "--statistics", log)

        figures = json.loads((self.folder / "sweep" / "report" / "figures" / "data.json").read_text())
        heat_map = figures[-1]
        self.assertEqual(heat_map["kind"], "activations")
        self.assertEqual(heat_map["modules"][:2], ["input_layernorm", "q_proj"])
        self.assertEqual(heat_map["layers"], list(range(len(heat_map["mean_abs"]))))
        import h5py
        with h5py.File(log) as file:
            want = float(file["statistics/model.layers.0.self_attn.q_proj/mean_abs"][:].astype("float64").mean())
        self.assertAlmostEqual(heat_map["mean_abs"][0][1], want, 12)
        self.assertTrue((self.folder / "sweep" / "report" / "figures" / "activations.png").is_file())

    def test_a_sweep_that_was_run_is_reported_as_it_is(self):
        family = GOLDENS / "family_f32"
        suite = self.folder / "suite.jsonl"
        requests = json.loads((GOLDENS / "loglikelihood.json").read_text())
        suite.write_text("".join(json.dumps({"task": "t", "context_ids": r["context"], "continuation_ids": r["continuation"]}) + "\n"
                                 for r in requests) + json.dumps({"task": "text", "text_ids": list(range(2, 120))}) + "\n")
        self.aimerge("sweep", self.config({
            "base_model": str(family / "base"), "experts": {name: str(family / f"expert_{name}") for name in "ab"},
            "methods": ["task_arithmetic", {"merge_method": "ties", "parameters": {"density": 0.5}}], "omega": [1.0, 0.7, 0.4],
            "dtype": "float32", "aim": {"calibration": {"token_ids": str(self.blocks()), "sequences": 8, "dtype": "float32"}},
            "evaluation": {"suites": [str(suite)], "block_length": 32}, "output": {"directory": "run", "keep": "scores"}}))

        self.aimerge("report", "run")

        points = self.read_csv(self.folder / "run" / "points.csv")
        rows = self.read_csv(self.folder / "run" / "report" / "tables" / "scores.csv")
        self.assertEqual([row["model"] for row in rows], [point["model"] for point in points])
        for row, point in zip(rows, points):
            self.assertEqual(float(row["t"]), float(point["t"]))
            self.assertEqual(float(row["text:ppl"]), float(point["text:ppl"]))
            self.assertEqual(row["hv_gain"] != "", row["kind"] == "merged")
        figures = {path.stem for path in (self.folder / "run" / "report" / "figures").glob("*.svg")}
        self.assertLessEqual({"hv-gain", "benchmarks-over-omega-a-b", "activations"}, figures)
        self.assert_config_makes_the_point_again(suite, next(point for point in points if point["aim"] == "yes"))

    def assert_config_makes_the_point_again(self, suite, point):
        page = (self.folder / "run" / "report" / "report.html").read_text(encoding="utf-8")
        found = re.search(f'data-model="{re.escape(point["model"])}"><summary>[^<]*</summary><pre>(.*?)</pre>', page, re.DOTALL)
        (self.folder / "again.yaml").write_text(html.unescape(found.group(1)))
        self.aimerge("merge", "again.yaml", "--out", "again")
        result = self.aimerge("evaluate", "again", "--suite", suite, "--block-length", "32", "--json")
        tasks = json.loads(result.stdout)["tasks"]
        self.assertEqual(100 * tasks["t"]["score"], float(point["t"]))
        self.assertAlmostEqual(tasks["text"]["score"] / float(point["text:ppl"]), 1, 12)

    def test_many_methods_times_omegas(self):
        out = io.StringIO()
        writer = csv.writer(out)
        writer.writerow("model,kind,method,combination,omega,aim,a,b,c".split(","))
        writer.writerow(["base", "base", "", "", "", "", 10, 10, 10])
        for index, expert in enumerate(("code", "math", "instruct")):
            writer.writerow([expert, "expert", "", expert, "", "", *(40 if i == index else 12 for i in range(3))])
        for m in range(16):
            for w in range(11):
                omega = w / 10
                scores = (30 + m * omega / 2, 30 + 3 * omega - m / 4, 35 - m * (1 - omega) / 3)
                writer.writerow([f"m{m}-{omega}", "merged", f"method_{m}", "code+math+instruct", omega, "yes" if w < 10 else "no", *scores])
        (self.folder / "many.csv").write_text(out.getvalue())

        self.aimerge("report", "--scores", "many.csv")

        self.assertEqual(len(self.read_csv(self.folder / "report" / "tables" / "omega-code-math-instruct.csv")), 16 * 11)

    def test_the_papers_sweeps_are_valid_but_for_models_that_are_not_here(self):
        for table in ("table1.yaml", "table2.yaml", "table3.yaml"):
            result = self.aimerge("sweep", PRINTED.parent / table, "--dry-run", expect=3, HF_HUB_CACHE=str(self.folder))
            self.assertIn("hf download unsloth/llama-2-13b", result.stderr)

    def test_dry_run_writes_nothing(self):
        result = self.aimerge("report", self.sweep(), "--dry-run")
        self.assertIn("points.csv", result.stdout)
        self.assertFalse((self.folder / "sweep" / "report").exists())

    def test_what_is_wrong_is_said_on_one_line(self):
        (self.folder / "bad.csv").write_text("model,kind,method,combination,omega,aim,x\nm,merged,ties,code,7,yes,1\n")
        (self.folder / "bare.csv").write_text("model,kind,method,combination,omega,aim\nm,merged,ties,code,0.4,yes\n")
        for arguments, code, message in (
                ([], 2, "the folder of a sweep, or --scores FILE.csv"),
                ([self.folder, "--scores", "bad.csv"], 2, "the folder of a sweep, or --scores FILE.csv"),
                ([self.folder], 3, "no points.csv"),
                (["--scores", "none.csv"], 3, "none.csv"),
                (["--scores", "bad.csv"], 3, "bad.csv: line 2: column `omega`: expected a number in [0, 1], found '7'"),
                (["--scores", "bare.csv"], 3, "bare.csv: there is no column with scores"),
                (["--scores", "bad.csv", "--scale", "10"], 2, "--scale"),
                (["--scores", "bad.csv", "--population", "mine"], 2, "--population"),
                (["--scores", "bad.csv", "--compare-paper", "4"], 2, "--compare-paper")):
            result = self.aimerge("report", *arguments, expect=code)
            self.assertIn(message, result.stderr)
            self.assertEqual(len(result.stderr.strip().splitlines()), 1, result.stderr)


if __name__ == "__main__":
    unittest.main()

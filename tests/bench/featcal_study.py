#!/usr/bin/env python3
"""What feature calibration (featcal) does to merges of the SmolLM2 family, beside AIM and RegMean: the tables of docs/results.md.

    build/venv/bin/python tests/bench/featcal_study.py main examples controls

Every experiment prints a Markdown table. Merges are fitted on generated examples (src/tools/task_examples.py) and scored on the
items of configs/smollm2/suites, which are not among them. Points that several experiments have in common are made once:
all of them lie in one sweep folder. A point that needs a fit takes 40 to 70 seconds of two cores.

The standard errors are bootstraps: the right answers of every model in every task are drawn anew, 1,000 times, as many items as the
task has, for base, experts and merge independently. Of a row that stands for several choices of the texts, the scores are means, the standard
error is the mean of theirs, and the last column has the least and the greatest HV gain.

Experiments:
"""
import argparse
import dataclasses
import itertools
import json
import os
import pathlib
import statistics

import numpy as np

from featcal_points import (CONFIGS, EXAMPLES, FIRST, FOLDER, SECOND, SEQUENCE_LENGTH, Fit, Merge, Point, Scored, Texts, aimerge, examples, ordered,
                            regmean, run)
from hv_gain import compared, gain_of, standard_error
from measure import AIMERGE, ROOT, table

PLAIN_INSTRUCTIONS = pathlib.Path("tests") / "bench" / "plain_instructions.jsonl"
PERPLEXITY = "general:ppl"
SEEDS = (1, 2, 3)

PLAIN = Merge("weight-0.6", parameters=(("weight", 0.6),))
AIM_PAPER = Merge("weight-1-mean_abs", omega=0.4)
AIM_TOP = Merge("weight-1-top-0.2", omega=0.1, aim=(("shape", "top:0.2"),))


@dataclasses.dataclass
class Row:
    title: str
    points: list  # scored alike and differing in their texts alone


# ---- tables

def items_of(family):
    counts = {}
    for suite in family.suites:
        if suite.endswith(".jsonl"):
            lines = (ROOT / suite).read_text().splitlines()
            counts[json.loads(lines[0])["task"]] = len(lines)
    return counts


def model_cells(scored, family, tasks):
    cells = [[f"{name} alone", *(f"{scored.models[name][task]:.1f}" for task in tasks), f"{scored.models[name][PERPLEXITY]:.1f}"]
             for name in ["base", *family.experts]]
    best = {task: max(scores[task] for scores in scored.models.values()) for task in tasks}
    ideal = gain_of(best, scored.models, list(family.experts))
    return cells + [["the best of each task", *(f"{best[task]:.1f}" for task in tasks), "", f"{ideal:.3f}"]]


def print_table(rows, scored, family, with_models=False):
    tasks = compared(scored.models["base"])
    cells = model_cells(scored, family, tasks) if with_models else []
    cells += [row_cells(row, scored, family, tasks) for row in rows]
    several = any(len(row.points) > 1 for row in rows)
    header = ["", *tasks, "perplexity", "HV gain", *(["by texts"] if several else [])]
    print(table(header, [line[:len(header)] + [""] * (len(header) - len(line)) for line in cells]) + "\n", flush=True)


def row_cells(row, scored, family, tasks):
    found = [scored.points[point] for point in row.points]
    experts = [ordered(point.experts, family) for point in row.points]
    gains = [gain_of(scores, scored.models, names) for scores, names in zip(found, experts)]
    errors = [standard_error(scores, scored.models, names, items_of(family)) for scores, names in zip(found, experts)]
    means = [statistics.mean(scores[task] for scores in found) for task in tasks]
    perplexity = statistics.mean(scores[PERPLEXITY] for scores in found)
    cells = [row.title, *(f"{mean:.1f}" for mean in means), f"{perplexity:.1f}", f"{statistics.mean(gains):.3f} ± {statistics.mean(errors):.3f}"]
    return cells + ([f"{min(gains):.3f} to {max(gains):.3f}"] if len(gains) > 1 else [])


def show(rows, name, arguments, family=FIRST, with_models=False):
    scored = run([point for row in rows for point in row.points], family, name, arguments)
    if not arguments.dry_run:
        print_table(rows, scored, family, with_models)


# ---- experiments

def main_rows(family, seeds):
    texts = [examples(seed=seed, family=family) for seed in seeds]
    fitted = lambda merge: [Point(merge, Fit(of)) for of in texts]
    return [Row("task_arithmetic, weights 0.6", [Point(PLAIN)]), Row("AIM as published, ω 0.4", [Point(AIM_PAPER)]),
            Row("AIM `top:0.2`, ω 0.1", [Point(AIM_TOP)]), Row("regmean", [Point(regmean(of)) for of in texts]),
            Row("task_arithmetic, fitted", fitted(PLAIN)), Row("regmean, fitted", [Point(regmean(of), Fit(of)) for of in texts]),
            Row("AIM `top:0.2`, fitted", fitted(AIM_TOP))]


def run_main(arguments):
    """merges with and without a fit, the fit on three choices of examples"""
    show(main_rows(FIRST, SEEDS), "main", arguments, with_models=True)


def run_dtypes(arguments):
    """the fit in bfloat16 and in float32"""
    for dtype in ("bfloat16", "float32"):
        rows = [Row(f"AIM `top:0.2`, fitted in {dtype}", [Point(AIM_TOP, Fit(examples()))])]
        show(rows, f"dtypes-{dtype}", argparse.Namespace(**{**vars(arguments), "dtype": dtype}))


def run_examples(arguments):
    """how many examples of each task, and questions without answers"""
    rows = [Row("AIM `top:0.2`, not fitted", [Point(AIM_TOP)])]
    # 15 examples are two sequences and a half: with shorter ones less is left over. 200 are long, and their choice matters less.
    for count, length, seeds in ((5, SEQUENCE_LENGTH, SEEDS), (15, 128, SEEDS), (60, SEQUENCE_LENGTH, SEEDS), (200, SEQUENCE_LENGTH, SEEDS[:1])):
        rows.append(Row(f"{count} examples per task", [Point(AIM_TOP, Fit(examples(count, seed, length=length))) for seed in seeds]))
    rows.append(Row(f"{EXAMPLES} questions per task, no answers", [Point(AIM_TOP, Fit(examples(keys=("prompt",))))]))
    show(rows, "examples", arguments)


def random_ids(family, sequences):
    """Token ids without any sense, other ones for every task"""
    folder = FOLDER / "texts" / "random"
    (ROOT / folder).mkdir(parents=True, exist_ok=True)
    vocabulary = json.loads((ROOT / family.base / "config.json").read_text())["vocab_size"]
    random = np.random.default_rng(1)
    for task in family.experts:
        np.save(ROOT / folder / f"{task}.npy", random.integers(0, vocabulary, (sequences, SEQUENCE_LENGTH)))
    return Texts("random", tuple((task, str(folder / f"{task}.npy")) for task in family.experts), sequences=sequences)


def base_as_teacher(family):
    """A name for every task: featcal lists no model twice."""
    for task in family.experts:
        link = ROOT / FOLDER / f"base-on-{task}"
        if not link.is_symlink():
            link.symlink_to(ROOT / family.base)
    return tuple((task, str(FOLDER / f"base-on-{task}")) for task in family.experts)


def run_controls(arguments):
    """experts on each other's texts, the base in place of every expert, random tokens"""
    own = examples()
    tasks = list(FIRST.experts)
    crossed = tuple(zip(tasks, [FIRST.experts[task] for task in tasks[1:] + tasks[:1]]))
    rows = [Row("AIM `top:0.2`, not fitted", [Point(AIM_TOP)]), Row("experts on their own texts", [Point(AIM_TOP, Fit(own))]),
            Row("experts on the next one's texts", [Point(AIM_TOP, Fit(dataclasses.replace(own, name="crossed"), teachers=crossed))]),
            Row("the base in place of every expert", [Point(AIM_TOP, Fit(dataclasses.replace(own, name="by-base"), teachers=base_as_teacher(FIRST)))]),
            Row("experts on random tokens", [Point(AIM_TOP, Fit(random_ids(FIRST, 7)))])]
    show(rows, "controls", arguments)


def run_second(arguments):
    """another family: experts trained in full, for other tasks"""
    show(main_rows(SECOND, SEEDS[:1]), "second", arguments, SECOND, with_models=True)


def run_parameters(arguments):
    """lambda, rho and alpha"""
    fitted = lambda title, *settings: Row(title, [Point(AIM_TOP, Fit(examples(), settings))])
    rows = [fitted(f"λ {value}", ("lambda", value)) for value in (0.001, 0.003, 0.01, 0.05, 0.2)]
    rows += [fitted(f"λ 0.01, ρ {value}", ("lambda", 0.01), ("rho", value)) for value in (0.5, 2)]
    rows += [fitted(f"λ 0.01, α {value}", ("lambda", 0.01), ("alpha", value)) for value in (0, 0.3)]
    rows += [fitted("λ 0.05, ρ 2, α 0.3: the paper's", ("lambda", 0.05), ("rho", 2), ("alpha", 0.3))]
    show(rows, "parameters", arguments)


def fitted_then_relaxed(omegas, arguments):
    """{omega: scores} of task arithmetic that is fitted first and held back by AIM then: a config of two documents"""
    texts = examples()
    first = {"name": "fitted", "merge_method": "task_arithmetic", "base_model": FIRST.base, "dtype": "bfloat16", "parameters": {"weight": 0.6},
             "models": [{"model": model} for model in FIRST.experts.values()],
             "featcal": Fit(texts).section(FIRST, list(FIRST.experts), arguments.dtype)}
    aim = {"omega": list(omegas), "calibration": {"corpus": str(CONFIGS / "calibration.txt"), "sequences": 32, "sequence_length": 256,
                                                  "shuffle": False, "dtype": "float32"}}
    second = {"merge_method": "task_arithmetic", "base_model": FIRST.base, "dtype": "bfloat16", "models": [{"model": "fitted"}],
              "parameters": {"weight": 1.0}, "aim": aim}
    config, out, log = FOLDER / "order.yaml", FOLDER / "fitted-then-relaxed", ROOT / FOLDER / "order.log"
    (ROOT / config).write_text(json.dumps(first, indent=1) + "\n---\n" + json.dumps(second, indent=1) + "\n")
    aimerge(arguments, log, "merge", config, "--out", out, "--overwrite", "--threads", arguments.threads, "--progress", "none")
    return {omega: evaluated(out / f"omega-{omega}", arguments, log) for omega in omegas}


def evaluated(model, arguments, log):
    suites = [word for suite in FIRST.suites for word in ("--suite", suite)]
    said = aimerge(arguments, log, "evaluate", model, *suites, "--dtype", arguments.evaluation_dtype, "--multiple-choice", "acc", "--json",
                   "--threads", arguments.threads, "--progress", "none")
    scores = {}
    for task, of in json.loads(said)["tasks"].items():
        is_text = of["metric"] == "perplexity"
        scores[f"{task}:ppl" if is_text else task] = of["score"] if is_text else 100 * of["score"]
    return scores


def run_order(arguments):
    """AIM before the fit and behind it"""
    fit = Fit(examples())
    relaxed = dataclasses.replace(PLAIN, omega=0.4, name="weight-0.6-mean_abs")
    rows = [Row("weights 0.6, fitted", [Point(PLAIN, fit)]), Row("weights 0.6, AIM ω 0.4, then fitted", [Point(relaxed, fit)]),
            Row("weights 1, AIM ω 0.4, then fitted", [Point(AIM_PAPER, fit)]), Row("weights 1, AIM `top:0.2` ω 0.1, then fitted", [Point(AIM_TOP, fit)])]
    scored = run([point for row in rows for point in row.points], FIRST, "order", arguments)
    if arguments.dry_run:
        return
    for omega, scores in fitted_then_relaxed((0.8, 0.4), arguments).items():
        point = Point(PLAIN.with_omega(omega), fit)
        scored.points[point] = scores
        rows.append(Row(f"weights 0.6, fitted, then AIM ω {omega}", [point]))
    print_table(rows, scored, FIRST)


def run_methods(arguments):
    """what is fitted: other methods below"""
    texts = examples()
    half = (("density", 0.5),)
    merges = {"weights 1": Merge("weight-1"), "ties, density 0.5": Merge("ties", "ties", half), "breadcrumbs_ties": Merge("breadcrumbs_ties", "breadcrumbs_ties"),
              "widen": Merge("widen", "widen"), "regmean": regmean(texts), "the base itself": Merge("weight-0", parameters=(("weight", 0.0),))}
    rows = []
    for title, merge in merges.items():
        rows += [Row(title, [Point(merge)]), Row(f"{title}, fitted", [Point(merge, Fit(texts))])]
    show(rows, "methods", arguments)


def run_combinations(arguments):
    """every combination of two or more experts"""
    rows = []
    for experts in (("code", "instruct"), ("code", "math"), ("instruct", "math"), tuple(FIRST.experts)):
        name = "+".join(ordered(experts, FIRST))
        rows += [Row(f"{name}, AIM `top:0.2`", [Point(AIM_TOP, None, experts)]), Row(f"{name}, fitted", [Point(AIM_TOP, Fit(examples()), experts)])]
    scored = Scored({}, {})
    for experts, points in itertools.groupby([point for row in rows for point in row.points], lambda point: point.experts):
        found = run(list(points), FIRST, f"combinations-{'+'.join(experts)}", arguments)
        scored.points.update(found.points)
        scored.models.update(found.models)
    if not arguments.dry_run:
        print_table(rows, scored, FIRST)


def run_aim(arguments):
    """statistic, shape and omega of the AIM before the fit"""
    settings = {"mean_abs": (), "mean_abs `top:0.1`": (("shape", "top:0.1"),), "mean_abs `top:0.2`": (("shape", "top:0.2"),),
                "rms `top:0.2`": (("statistic", "rms"), ("shape", "top:0.2")), "mean_abs `quantile:0.99`": (("normalisation", "quantile:0.99"),)}
    omegas = (0.4, 0.1)
    fit = Fit(examples())
    plain = Merge("weight-1")
    grid = {title: [plain] + [Merge("-".join(["weight-1", *(str(value).replace(":", "-") for _, value in aim or (("", "mean_abs"),))]), omega=omega, aim=aim)
                              for omega in omegas] for title, aim in settings.items()}
    scored = run([Point(merge, of) for merges in grid.values() for merge in merges for of in (None, fit)], FIRST, "aim", arguments)
    if arguments.dry_run:
        return
    gain = lambda merge, of: gain_of(scored.points[Point(merge, of)], scored.models, list(FIRST.experts))
    cell = lambda merge: f"{gain(merge, None):.3f} → {gain(merge, fit):.3f}"
    print(table(["HV gain before and after the fit", "ω 1", *(f"{omega}" for omega in omegas)],
                [[title, *map(cell, merges)] for title, merges in grid.items()]) + "\n", flush=True)


def run_texts(arguments):
    """other texts than those of the tasks, the same for every expert"""
    own = examples()
    same = lambda name, file, **settings: Texts(name, tuple((task, str(file)) for task in FIRST.experts), **settings)
    rows = [Row("AIM `top:0.2`, not fitted", [Point(AIM_TOP)]), Row("examples of the tasks", [Point(AIM_TOP, Fit(own))]),
            Row("40 other instructions with answers", [Point(AIM_TOP, Fit(same("plain", PLAIN_INSTRUCTIONS)))]),
            Row("general prose", [Point(AIM_TOP, Fit(same("general", CONFIGS / "calibration.txt", sequences=7)))]),
            Row("random tokens", [Point(AIM_TOP, Fit(random_ids(FIRST, 7)))])]
    show(rows, "texts", arguments)


EXPERIMENTS = {"main": run_main, "dtypes": run_dtypes, "examples": run_examples, "controls": run_controls, "second": run_second, "parameters": run_parameters,
               "order": run_order, "methods": run_methods, "combinations": run_combinations, "aim": run_aim, "texts": run_texts}


def main():
    names = "\n".join(f"    {name:13} {experiment.__doc__}" for name, experiment in EXPERIMENTS.items())
    parser = argparse.ArgumentParser(description=__doc__ + names, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="+", choices=EXPERIMENTS, metavar="NAME", help="experiments")
    parser.add_argument("--binary", type=pathlib.Path, default=AIMERGE, help="aimerge (default: %(default)s)")
    parser.add_argument("--dtype", choices=["bfloat16", "float32"], default="bfloat16", help="in which the experts and the fitted model are run")
    parser.add_argument("--evaluation-dtype", choices=["bfloat16", "float32"], default="bfloat16")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--check", action="store_true", help="hold the HV gains against those of aimerge report")
    parser.add_argument("--dry-run", action="store_true", help="check the configs, make nothing")
    arguments = parser.parse_args()
    (ROOT / FOLDER).mkdir(parents=True, exist_ok=True)
    for name in arguments.names:
        print(f"### {name}: {EXPERIMENTS[name].__doc__}\n", flush=True)
        EXPERIMENTS[name](arguments)


if __name__ == "__main__":
    main()

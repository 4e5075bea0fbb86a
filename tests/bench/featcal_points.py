"""Merges with and without feature calibration (featcal), and the sweeps that make and score them: what featcal_study.py is built of.

All points of a family lie in one sweep folder, under names that say how they are made. So a point that several experiments have in
common is made once, and a study that was stopped goes on where it was.
"""
import csv
import dataclasses
import itertools
import json
import pathlib
import subprocess
import sys

from hv_gain import gain_of
from measure import ROOT

sys.path.insert(0, str(ROOT / "src" / "tools"))
import task_examples

FOLDER = pathlib.Path("build") / "featcal-study"  # relative to ROOT, where commands run
CONFIGS = pathlib.Path("configs") / "smollm2"
EXAMPLES = 60  # of each task
SEQUENCE_LENGTH = 256
MOST_SEQUENCES = 64  # more than any text fills


@dataclasses.dataclass(frozen=True)
class Family:
    """Base, experts by the names of their tasks, and what scores them"""
    name: str
    base: str
    experts: dict
    suites: list

    def example_files(self, count, seed):
        """{task: file} of examples, written if they are not there."""
        folder = FOLDER / "texts" / f"{self.name}-{count}-{seed}"
        if not (ROOT / folder).is_dir():
            self.write_examples(ROOT / folder, count, seed)
        return {task: str(folder / f"{task}.jsonl") for task in self.experts}


class FirstFamily(Family):
    def write_examples(self, folder, count, seed):
        task_examples.write_examples(folder, count, seed)


class SecondFamily(Family):
    def write_examples(self, folder, count, seed):
        folder.mkdir(parents=True)
        for task, model in self.experts.items():
            lines = (ROOT / model).with_name("texts").joinpath(f"{task}.jsonl").read_text().splitlines(True)
            first = (seed - 1) * count  # a seed has examples of its own
            if len(lines) < first + count:
                sys.exit(f"{model}: {len(lines)} examples are too few for seed {seed} of {count}")
            (folder / f"{task}.jsonl").write_text("".join(lines[first:first + count]))


GENERAL_SUITES = [str(CONFIGS / "suites" / "mc.jsonl"), str(CONFIGS / "general.txt")]
FIRST = FirstFamily("smollm2", "build/family/base", {task: f"build/family/{task}" for task in ("code", "instruct", "math")},
                    [str(CONFIGS / "suites" / f"{task}.jsonl") for task in ("math", "code", "instruct")] + GENERAL_SUITES)
SECOND = SecondFamily("second", "build/family/base", {task: f"build/second-family/{task}" for task in ("dates", "records", "passive")},
                      [f"build/second-family/suites/{task}.jsonl" for task in ("dates", "records", "passive")] + GENERAL_SUITES)


@dataclasses.dataclass(frozen=True)
class Texts:
    """What each expert is run on. A name belongs to one content."""
    name: str
    files: tuple  # (task, file or token ids)
    keys: tuple = ("prompt", "target")
    length: int = SEQUENCE_LENGTH
    sequences: int = MOST_SEQUENCES

    def calibration(self, task, dtype):
        file = dict(self.files)[task]
        text = {"token_ids": file} if file.endswith(".npy") else {"corpus": file}
        if file.endswith(".jsonl"):
            text["text_key"] = list(self.keys)
        return {**text, "sequences": self.sequences, "sequence_length": self.length, "shuffle": False, "dtype": dtype}


def examples(count=EXAMPLES, seed=1, family=FIRST, keys=("prompt", "target"), length=SEQUENCE_LENGTH):
    suffix = "" if len(keys) == 2 else "-questions"
    return Texts(f"{count}.{seed}{suffix}", tuple(family.example_files(count, seed).items()), keys, length)


@dataclasses.dataclass(frozen=True)
class Merge:
    """How three experts are merged, without a fit"""
    name: str
    method: str = "task_arithmetic"
    parameters: tuple = ()
    omega: float = 1.0
    aim: tuple = ()  # what differs from the paper's
    texts: Texts = None  # that the method itself measures the experts on

    def with_omega(self, omega):
        return dataclasses.replace(self, omega=omega)


def regmean(texts):
    return Merge(f"regmean-{texts.name}", method="regmean", texts=texts)


@dataclasses.dataclass(frozen=True)
class Fit:
    texts: Texts
    settings: tuple = (("lambda", 0.01),)
    teachers: tuple = ()  # (task of the texts, model); without them every expert on its own task's

    @property
    def name(self):
        changed = [f"{key}-{value}" for key, value in self.settings if (key, value) != ("lambda", 0.01)]
        return "-".join(["fit", self.texts.name, *changed])

    def section(self, family, experts, dtype):
        teachers = self.teachers or [(task, family.experts[task]) for task in experts]
        return {**dict(self.settings), "experts": [{"model": model, "calibration": self.texts.calibration(task, dtype)} for task, model in teachers]}


@dataclasses.dataclass(frozen=True)
class Point:
    merge: Merge
    fit: Fit = None
    experts: tuple = ()  # of the family; without them all

    @property
    def label(self):
        return self.merge.name + ("-" + self.fit.name if self.fit else "")


# ---- running points

def ordered(names, family):
    """In the order of the family, which is that of a combination's name."""
    return [name for name in family.experts if not names or name in names]


def method_entry(point, family, dtype):
    entry = {"merge_method": point.merge.method, "name": point.label}
    if point.merge.parameters:
        entry["parameters"] = dict(point.merge.parameters)
    if point.merge.aim and point.merge.omega < 1:
        entry["aim"] = dict(point.merge.aim)
    if point.fit:
        entry["featcal"] = point.fit.section(family, ordered(point.experts, family), dtype)
    return entry


def sweep_config(points, family, arguments):
    """@param points of one omega, one combination of experts and, where their methods measure the experts, one choice of texts"""
    first = points[0]
    measured_on = first.merge.texts
    experts = {task: {"model": model, "calibration": measured_on.calibration(task, arguments.dtype)} if measured_on else model
               for task, model in family.experts.items()}
    aim = {"calibration": {"corpus": str(CONFIGS / "calibration.txt"), "sequences": 32, "sequence_length": 256, "shuffle": False, "dtype": "float32"}}
    return {"base_model": family.base, "experts": experts, "combinations": [ordered(first.experts, family)],
            "methods": [method_entry(point, family, arguments.dtype) for point in points], "omega": [first.merge.omega], "dtype": "bfloat16", "aim": aim,
            "evaluation": {"suites": family.suites, "dtype": arguments.evaluation_dtype, "multiple_choice": "acc"},
            "output": {"directory": str(sweep_folder(family, arguments)), "keep": "checkpoints" if measured_on else "scores"}}


def sweep_folder(family, arguments):
    return FOLDER / f"{family.name}-{arguments.dtype}-{arguments.evaluation_dtype}"


def aimerge(arguments, log, *words):
    """Standard output of a command; what it says on the way is appended to the log."""
    command = [str(arguments.binary), *map(str, words)]
    with open(log, "a") as output:
        print("$", *command, file=output, flush=True)
        done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=output, text=True)
    if done.returncode:
        sys.exit(f"{' '.join(command)}\nended with {done.returncode}:\n{pathlib.Path(log).read_text()[-3000:]}")
    return done.stdout


def read_points(path):
    """{(label, combination): row}; of base and experts ("", name)"""
    with open(path, newline="") as file:
        return {(row["method"], row["combination"] or row["model"]): row for row in csv.DictReader(file)}


def scores_of(row):
    """Of 100; perplexities as they are."""
    named = {name: value for name, value in row.items() if name not in ("model", "kind", "method", "combination", "omega", "aim", "status", "seconds",
                                                                        "error", "scored_by")}
    return {name: float(value) for name, value in named.items()}


@dataclasses.dataclass
class Scored:
    """Points and the base and experts that they are held against"""
    points: dict  # {Point: scores}
    models: dict  # {name: scores}


def run(points, family, name, arguments):
    scored = Scored({}, {})
    kind = lambda point: (point.merge.texts.name if point.merge.texts else "", point.merge.omega, ordered(point.experts, family))
    points = sorted(dict.fromkeys(points), key=kind)
    for number, (_, group) in enumerate(itertools.groupby(points, kind)):
        group = list(group)
        config = ROOT / FOLDER / f"{name}-{number}.yaml"
        config.write_text(json.dumps(sweep_config(group, family, arguments), indent=1) + "\n")
        log = ROOT / FOLDER / f"{name}.log"
        if arguments.dry_run:
            print(aimerge(arguments, log, "sweep", config.relative_to(ROOT), "--dry-run", "--progress", "none"))
            continue
        aimerge(arguments, log, "sweep", config.relative_to(ROOT), "--threads", arguments.threads, "--progress", "none")
        folder = ROOT / sweep_folder(family, arguments)
        rows = read_points(folder / "points.csv")
        scored.models.update({model: scores_of(rows["", model]) for model in ["base", *family.experts]})
        combination = "+".join(ordered(group[0].experts, family))
        scored.points.update({point: scores_of(rows[point.label, combination]) for point in group})
        if arguments.check:
            check_gains(group, scored, family, folder, combination, arguments, log)
    return scored


def check_gains(points, scored, family, folder, combination, arguments, log):
    """HV gains are those of aimerge report."""
    found = {entry["model"]: entry["hv_gain"] for entry in json.loads(aimerge(arguments, log, "report", folder.relative_to(ROOT), "--json"))["merges"]}
    for point in points:
        name = f"{point.label}-{combination}-omega-{point.merge.omega}"
        mine = gain_of(scored.points[point], scored.models, ordered(point.experts, family))
        if abs(mine - found[name]) > 1e-9:
            sys.exit(f"{name}: HV gain {mine} here, {found[name]} in the report")

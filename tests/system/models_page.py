"""The page docs/models.md, made of what the checks of all families have found."""
import pathlib
import re

from model_families import FAMILIES

ROOT = pathlib.Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs/models.md"

HEAD_OF_PAGE = """# Model types

What aimerge does with the model types of transformers. The table is the result of a test. With
transformers {version}, `tests/system/test_models.py` makes a tiny random model of every family and
two experts of it. It merges them in the ways below and compares every tensor with a computation in
numpy. Do not edit the table; write it again with

    build/venv/bin/python tests/system/test_models.py --write

| column | yes means |
| --- | --- |
| merge | two merges have the right values in all tensors: task_arithmetic with weights that change over the layers, each layer at its own depth of its own stack; and ties with density 0.5, for mixtures of experts per expert |
| slices | layers [0, n − 1) of one expert and [1, n) of another give a model that transformers loads without a missing or an unexpected tensor, with the right layers. `modules`: so for its text decoder, under `modules: {{text_decoder: {{slices: …}}}}`. Refused: the command ends with a message that says why |
| tokenizers | an expert whose tokens have other ids is merged row by row of the same token, with `tokenizer_source: base`. "–": the model has no vocabulary |
| AIM | native: `aim.calibration` runs the model by itself. Recorded: with the statistics of `src/tools/record_statistics.py`, every matrix that the model multiplies by is relaxed as the formula says, or named in the output as one that is not (image towers, which token ids do not run) |

"no" means that the test's comparison fails. A model type that is not listed is merged, too: names
and layers are found in `config.json` and the file, and what is not understood is an error of the
request that needs it.

| model type | class | merge | slices | tokenizers | AIM | remarks |
| --- | --- | --- | --- | --- | --- | --- |
"""


def merge_cell(outcomes):
    return "yes" if all(outcomes[check].state == "done" for check in ("gradients", "ties")) else "no"


def slices_cell(outcomes):
    states = [outcomes[check].state for check in ("slices", "modules")]
    if "failed" in states:
        return "no"
    if states[1] == "done":
        return "`modules`"
    return {"done": "yes", "refused": "refused"}[states[0]]


def tokenizers_cell(outcomes):
    return {"done": "yes", "none": "–", "failed": "no"}[outcomes["tokenizers"].state]


def aim_cell(outcomes):
    ways = [word for check, word in (("native", "native"), ("recorded", "recorded")) if outcomes[check].state == "done"]
    return ", ".join(ways) or ("refused" if outcomes["recorded"].state == "refused" else "no")


def remarks_cell(name, result):
    _, _, variant = name.partition(", ")
    remarks = [variant] if variant else []
    if slices_cell(result["outcomes"]) == "refused":
        remarks.append(f"slices: {FAMILIES[name].slices.reason}")
    if not FAMILIES[name].recordable and result["outcomes"]["recorded"].state == "refused":
        remarks.append("AIM: token ids alone do not run it")
    return "; ".join(remarks)


def transformers_version():
    text = (ROOT / "src/tools/requirements-test.txt").read_text()
    return re.search(r"^transformers==([\d.]+)", text, re.MULTILINE)[1]


def page(results):
    rows = []
    for name, result in results.items():
        cells = (f"`{result['model_type']}`", f"`{result['class']}`", merge_cell(result["outcomes"]), slices_cell(result["outcomes"]),
                 tokenizers_cell(result["outcomes"]), aim_cell(result["outcomes"]), remarks_cell(name, result))
        rows.append(f"| {' | '.join(cells)} |\n")
    return HEAD_OF_PAGE.format(version=transformers_version()) + "".join(rows)

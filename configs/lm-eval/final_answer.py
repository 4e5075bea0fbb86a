"""How an answer to the paper's zero-shot chain-of-thought prompt is read and compared; the functions of the tasks beside this file.

WizardMath ends its solutions with "The answer is: X". As in the evaluations the paper follows (WizardMath, DARE), only what
follows the last such phrase counts, and a text without it is wrong.
"""
import fractions
import re

PHRASE = "The answer is: "
SUBJECTS = ("algebra", "counting_and_probability", "geometry", "intermediate_algebra", "number_theory", "prealgebra", "precalculus")
# Digits with at most one '.', ',' or '/' inside, as those evaluations read them: of "1,234,567" they see 1,234.
NUMBER = re.compile(r"[-+]?\d*[.,/]?\d+")


def after_phrase(text):
    """What follows the last "The answer is: ", or None."""
    _, phrase, answer = text.rpartition(PHRASE)
    return answer.strip() if phrase else None


def whole_number(text):
    """The first number in a text as a whole number (a fraction or decimal number is rounded), or None."""
    found = NUMBER.search(text)
    if not found:
        return None
    number = found.group().replace(",", "")
    try:
        return round(float(fractions.Fraction(number)))
    except ZeroDivisionError:
        return None


def score_gsm8k(doc, results):
    answer = after_phrase(results[0])
    wanted = int(doc["answer"].split("#### ")[-1].replace(",", ""))
    return {"exact_match": float(answer is not None and whole_number(answer) == wanted)}


def score_math(doc, results):
    """Equal after the normalisation of LaTeX that lm-eval's hendrycks_math applies to both sides."""
    from lm_eval.tasks.hendrycks_math import utils
    answer = after_phrase(results[0])
    if answer is None:
        return {"exact_match": 0.0}
    answer = answer.split(".\n")[0].strip().removesuffix(".").strip()
    wanted = utils.remove_boxed(utils.last_boxed_only_string(doc["solution"]))
    return {"exact_match": float(utils.is_equiv(answer, wanted))}


def load_math(**_):
    """The seven subjects of MATH as one data set."""
    import datasets
    subjects = [datasets.load_dataset("EleutherAI/hendrycks_math", name, split="test") for name in SUBJECTS]
    return {"test": datasets.concatenate_datasets(subjects)}

"""HV gain of a merge over base and experts, as `aimerge report` computes it, and its standard error.

Scores are {task: of 100}; perplexities, whose names end with :ppl, do not count.
"""
import itertools

import numpy as np

DRAWS = 1000


def volume_gains(point, population):
    """HV gain of every draw, by inclusion and exclusion.

    @param point [draws, tasks], from 0 to 1
    @param population [models, draws, tasks]
    """
    shared = np.minimum(point, population)
    volume = np.prod(point, axis=-1)
    for size in range(1, len(shared) + 1):
        for models in itertools.combinations(shared, size):
            volume = volume + (-1) ** size * np.prod(np.min(models, axis=0), axis=-1)
    return np.maximum(volume, 0) ** (1 / point.shape[-1])


def compared(scores):
    return [name for name in scores if not name.endswith(":ppl")]


def population_of(models, experts):
    """Base and experts; of two experts these alone, as in the report."""
    return [models[name] for name in ([*(["base"] if len(experts) > 2 else []), *experts])]


def gain_of(scores, models, experts):
    shares = lambda of: np.array([[of[name] / 100 for name in compared(scores)]])
    return float(volume_gains(shares(scores), np.stack([shares(of) for of in population_of(models, experts)]))[0])


def standard_error(scores, models, experts, items):
    """The right answers of every model in every task are drawn anew, independently, as many items as the task has.

    @param items {task: number of items}
    """
    random = np.random.default_rng(0)
    tasks = compared(scores)
    draw = lambda of: np.stack([random.binomial(items[name], min(1, of[name] / 100), DRAWS) / items[name] for name in tasks], axis=-1)
    return float(np.std(volume_gains(draw(scores), np.stack([draw(of) for of in population_of(models, experts)])), ddof=1))

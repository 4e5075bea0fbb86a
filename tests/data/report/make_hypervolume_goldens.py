"""Writes hypervolume.json beside this script: random sets of points and their exact hypervolumes by moocore 0.3.2
(https://multi-objective.github.io/moocore), maximisation, reference point 0.

    pip install moocore==0.3.2 numpy==2.4.6
    python make_hypervolume_goldens.py
"""
import importlib.metadata
import json
import pathlib

import moocore
import numpy as np

VERSION = importlib.metadata.version("moocore")


def hypervolume(points):
    return float(moocore.hypervolume(np.array(points), ref=np.zeros(len(points[0])), maximise=True))


def on_a_sphere(random, count, dimensions):
    """Points of which none dominates another."""
    points = np.abs(random.normal(size=(count, dimensions)))
    return points / np.linalg.norm(points, axis=1, keepdims=True)


def cases():
    random = np.random.default_rng(20250204)
    for dimensions in range(2, 9):
        for count in (1, 2, 4, 7, 11, 16):
            yield "uniform", random.random((count, dimensions))
        for count in (4, 8, 14):
            yield "front", on_a_sphere(random, count, dimensions)
        points = random.random((6, dimensions))
        points[1] = points[0]                      # a duplicate
        points[2] = points[3] * 0.5                # a dominated point
        points[4, 0] = 0                           # zero scores
        points[5] = 0
        yield "duplicate, dominated, zero", points
        yield "grid", random.integers(0, 4, (9, dimensions)) / 4      # many equal coordinates


def main():
    records = []
    for kind, points in cases():
        points = points.tolist()
        records.append({"kind": kind, "points": points, "hypervolume": hypervolume(points),
                        "without_last": hypervolume(points[:-1]) if len(points) > 1 else 0.0})
    text = ",\n".join(json.dumps(record) for record in records)
    path = pathlib.Path(__file__).with_name("hypervolume.json")
    path.write_text('{"library": "moocore %s", "cases": [\n%s\n]}\n' % (VERSION, text))


if __name__ == "__main__":
    main()

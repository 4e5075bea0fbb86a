"""Merges tiny models of many model types, of every kind of names and layers, and compares the results with numpy (model_checks.py); writes and checks
the table of docs/models.md.

    build/venv/bin/python tests/system/test_models.py --write

AIMERGE_BINARY names another binary than build/aimerge, by its whole path.
AIMERGE_TEST_FAMILIES=gpt2,llama4_text limits a run of the tests to some families (and leaves out the table).
"""
import os
import pathlib
import sys
import unittest

ROOT = pathlib.Path(__file__).resolve().parents[2]
os.environ.setdefault("AIMERGE_BINARY", str(ROOT / "build/aimerge"))
os.environ.setdefault("AIMERGE_TEST_DATA", str(ROOT / "tests/data"))
os.environ.setdefault("OMP_NUM_THREADS", "1")  # the tensors are small, and two families run at a time

import numpy as np

import recorded_statistics as recorded
from model_checks import run_all
from model_families import FAMILIES
from models_page import PAGE, page
from peers import needs_peers


def chosen():
    names = os.environ.get("AIMERGE_TEST_FAMILIES")
    return names.split(",") if names else list(FAMILIES)


class Formula(unittest.TestCase):
    """Importances of two experts on paper: the first has seen 100 tokens, as many as the block's input counts for, the second none."""

    OWN, TOKENS, BLOCK_INPUT = np.array([[2.0, 4.0], [0.0, 0.0]]), [100, 0], np.array([4.0, 2.0])

    def test_gate_and_up_are_blended_with_the_blocks_input(self):
        got = recorded.importance_of_experts(self.OWN, self.TOKENS, "gate_proj", self.BLOCK_INPUT)
        np.testing.assert_array_equal(got, [[1, 1], [1, 0.5]])

    def test_without_a_router_the_blocks_input_is_the_mean_over_tokens(self):
        got = recorded.importance_of_experts(self.OWN, self.TOKENS, "w1", None)
        np.testing.assert_array_equal(got, [[0.5, 1], [0.5, 1]])

    def test_down_without_tokens_is_as_important_as_the_others(self):
        got = recorded.importance_of_experts(self.OWN, self.TOKENS, "down_proj", self.BLOCK_INPUT)
        np.testing.assert_array_equal(got, [[0.5, 1], [0.5, 1]])


@needs_peers
class ModelTypes(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.results = run_all(chosen())

    def check(self, check):
        for name, result in self.results.items():
            with self.subTest(family=name):
                outcome = result["outcomes"][check]
                self.assertNotEqual(outcome.state, "failed", outcome.why)

    def test_gradients_go_by_the_depth_of_each_stack(self):
        self.check("gradients")

    def test_ties_trims_every_parameter_and_every_expert(self):
        self.check("ties")

    def test_slices_are_right_or_refused(self):
        self.check("slices")

    def test_slices_of_a_text_decoder(self):
        self.check("modules")

    def test_tokens_are_matched_by_their_text(self):
        self.check("tokenizers")

    def test_recorded_statistics_relax_what_the_model_multiplies_by(self):
        self.check("recorded")

    def test_only_what_the_decoder_runs_is_calibrated(self):
        self.check("native")

    def test_the_table_is_what_was_found(self):
        if list(self.results) != list(FAMILIES):
            self.skipTest("only some families have run")
        self.assertGreaterEqual(len({result["model_type"] for result in self.results.values()}), 60)
        self.maxDiff = None
        self.assertEqual(PAGE.read_text(), page(self.results), "write it anew: python tests/system/test_models.py --write")


if __name__ == "__main__":
    if "--write" in sys.argv:
        PAGE.write_text(page(run_all(list(FAMILIES))))
        print(f"{PAGE}: {len(FAMILIES)} families")
    else:
        unittest.main()

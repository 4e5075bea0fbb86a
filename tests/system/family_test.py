"""Tests on folders of tiny models of some family (model_families.py)."""
import json

from safetensors.numpy import load_file, save_file

import model_families as families
import recorded_statistics as recorded
from aimerge_command import AimergeTest
from peers import needs_peers, torch, transformers


@needs_peers
class FamilyTest(AimergeTest):
    def setUp(self):
        super().setUp()
        torch.set_num_threads(1)
        transformers.logging.set_verbosity_error()
        transformers.logging.disable_progress_bar()

    def make(self, name):
        """The folder that has base, expert_1 and expert_2 of a family; its name says nothing that a message should say."""
        folder = self.folder / f"models-{len(list(self.folder.iterdir()))}"
        with recorded.quiet():
            families.make(name, folder)
        return folder

    def tensors(self, folder):
        return {place: families.read(folder / place) for place in ("base", "expert_1", "expert_2")}

    def token_ids(self):
        return str(recorded.token_ids(self.folder))

    def calibration(self):
        return {"token_ids": self.token_ids(), "sequences": 4, "dtype": "float32"}

    def merge_of(self, folder, method="task_arithmetic", of_expert={"weight": 1.0}, **keys):
        """A config that merges expert_1 into base."""
        return {"merge_method": method, "base_model": str(folder / "base"),
                "models": [{"model": str(folder / "expert_1"), "parameters": of_expert}], **keys}

    def merged(self, config, name="out"):
        out = self.folder / name
        self.aimerge("merge", self.config(config, f"{name}.yaml"), "--out", out)
        return families.read(out)

    def edit_config(self, folder, **changes):
        path = folder / "config.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), **changes}, indent=1))

    def assert_refused(self, result, *patterns):
        self.assertIn(result.returncode, (2, 3), result.stderr)
        for pattern in patterns:
            self.assertRegex(result.stderr, pattern)

    def edit_tensors(self, folder, change):
        """@param change makes {name: array} from {name: array}"""
        path = folder / "model.safetensors"
        save_file(change(load_file(path)), path, metadata={"format": "pt"})

"""aim.calibration.sequential: the statistics against forward hooks on the base's layers, fed by the model that was merged."""
import unittest

import h5py
import numpy as np
from safetensors.numpy import load_file

from aimerge_command import GOLDENS, AimergeTest, file_bytes
from peers import needs_peers, torch, transformers

BASE = GOLDENS / "family_f32/base"


def load(folder):
    return transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager").eval()


class Sequential(AimergeTest):
    def sequential_config(self, sequential=True, method="task_arithmetic", experts=("expert_a", "expert_b"), **aim):
        config = self.merge_config(method, experts, omega=0.2)
        config["aim"].update(aim)
        config["aim"]["calibration"]["sequential"] = sequential
        return config

    def merged(self, name, config, *options, **keywords):
        out = self.folder / name
        self.aimerge("merge", self.config(config), "--out", out, "--threads", 1, *options, **keywords)
        return out

    def statistics(self, out):
        with h5py.File(out / "aimerge_statistics.h5") as file:
            return {name: module["mean_abs"][:] for name, module in file["statistics"].items()}

    def hooked(self, merged_folder):
        """{module: mean |x|} of the base's modules, each layer of it run on what the merged layers below it give."""
        base, merged = load(BASE), load(merged_folder)
        ids = torch.tensor(load_file(self.blocks())["input_ids"].astype(np.int64))
        entering = {}
        for number, layer in enumerate(merged.model.layers):
            layer.register_forward_pre_hook(lambda _, arguments, number=number: entering.__setitem__(number, arguments[0]))
        merged.model.norm.register_forward_pre_hook(lambda _, arguments: entering.__setitem__("norm", arguments[0]))
        sums = {}

        def observe(name):
            return lambda _, arguments: sums.__setitem__(name, sums.get(name, 0) + arguments[0].double().abs().flatten(0, -2).sum(0))

        for name, module in base.named_modules():
            if isinstance(module, torch.nn.Linear) or name.endswith("norm"):
                module.register_forward_pre_hook(observe(name))
        positions = torch.arange(ids.shape[1])[None]
        mask = torch.full((ids.shape[1], ids.shape[1]), -torch.inf).triu(1)[None, None]
        with torch.no_grad():
            for block in ids:
                merged(block[None])
                for number, layer in enumerate(base.model.layers):
                    hidden = entering[number]
                    layer(hidden, attention_mask=mask, position_embeddings=base.model.rotary_emb(hidden, positions))
                base.lm_head(base.model.norm(entering["norm"]))
        return {name: (total / ids.numel()).numpy() for name, total in sums.items()}

    @needs_peers
    def test_layers_see_what_the_merged_layers_below_them_give(self):
        for method in ("task_arithmetic", "ties"):
            with self.subTest(method):
                out = self.merged(method, self.sequential_config(method=method))
                got, wanted = self.statistics(out), self.hooked(out)
                self.assertEqual(set(got), set(wanted))
                for name, want in wanted.items():
                    np.testing.assert_allclose(got[name], want, rtol=2e-4, atol=1e-6, err_msg=name)
                plain = self.statistics(self.merged(f"{method}-plain", self.sequential_config(False, method)))
                for name in ("model.layers.0.self_attn.q_proj", "model.layers.2.mlp.down_proj", "lm_head"):
                    self.assertGreater(np.abs(plain[name] / wanted[name] - 1).max(), 5e-3, name)

    def test_the_same_bytes_on_any_number_of_ranks_and_from_the_cache(self):
        config = self.sequential_config(normalisation="layer")
        alone = self.merged("alone", config)
        for ranks in (2, 3, 4):
            together = self.merged(f"ranks-{ranks}", config, ranks=ranks, AIMERGE_CACHE_DIR=str(self.folder / f"cache-{ranks}"))
            self.assertEqual(file_bytes(together), file_bytes(alone), ranks)
        again = self.aimerge("merge", self.config(config), "--out", self.folder / "again", "--threads", 1)
        self.assertIn("statistics reused from", again.stderr)
        self.assertEqual(file_bytes(self.folder / "again"), file_bytes(alone))

        config["models"][0]["parameters"]["weight"] = 0.9
        other = self.aimerge("merge", self.config(config), "--out", self.folder / "other", "--threads", 1)
        self.assertNotIn("statistics reused from", other.stderr)  # of another merge

    def test_what_it_does_not_go_with_is_refused(self):
        for config, message in ((self.sequential_config(omega=[0.2, 0.4]), "give one omega"),
                                (self.sequential_config(source="mean"), "use source base"),
                                (self.sequential_config(statistic="sensitivity"), "use source base"),
                                (self.sequential_config(normalisation="global"), "leave out normalisation global"),
                                ({**self.sequential_config(method="regmean"), "calibration": {"token_ids": str(self.blocks())}},
                                 "regmean does"),
                                ({**self.sequential_config(experts=("expert_a", "expert_c")), "tokenizer_source": "union"},
                                 "needs models of one vocabulary"),
                                ({**self.sequential_config(), "calibration": {"token_ids": str(self.blocks()), "sequential": True}},
                                 "'sequential' is for aim.calibration")):
            with self.subTest(message):
                refused = self.aimerge("merge", self.config(config), "--out", self.folder / "out", expect=2)
                self.assertIn(message, refused.stderr)
        self.assertIn("part of aimerge merge", self.aimerge("calibrate", self.config(self.sequential_config()), "--out",
                                                            self.folder / "log.h5", expect=2).stderr)
        self.assertIn("use --io direct", self.aimerge("merge", self.config(self.sequential_config()), "--out", self.folder / "out",
                                                      "--io", "scatter", expect=2).stderr)


if __name__ == "__main__":
    unittest.main()

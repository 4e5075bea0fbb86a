"""What a user does wrong: the exit code, a line that names the file and the fault, and no output folder."""
import json
import shutil
import unittest

import numpy as np
from safetensors.numpy import save_file

from aimerge_command import GOLDENS, AimergeTest, read_raw


class BadInput(AimergeTest):
    def refused(self, config, code, *fragments, options=(), ranks=0, command="merge"):
        out = self.folder / "out"
        result = self.aimerge(command, self.config(config), "--out", out, *options, ranks=ranks, expect=code)
        for fragment in fragments:
            self.assertIn(fragment, result.stderr)
        lines = [line for line in result.stderr.splitlines() if line.startswith("aimerge:")]
        self.assertEqual(len(lines), 1, result.stderr)
        self.assertFalse(out.exists())
        self.assertFalse((self.folder / "out.partial").exists())

    def expert(self, name="broken"):
        """A copy of expert_a to be damaged; the config's only expert."""
        folder = self.folder / name
        shutil.copytree(GOLDENS / "family_f32/expert_a", folder)
        for path in folder.iterdir():
            path.chmod(0o644)
        config = self.merge_config(experts=())
        config["models"] = [{"model": str(folder), "parameters": {"weight": 1.0}}]
        return folder, config

    def edit_config(self, folder, **changes):
        path = folder / "config.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))

    def test_truncated_shard(self):
        folder, config = self.expert()
        weights = folder / "model.safetensors"
        weights.write_bytes(weights.read_bytes()[:-1000])
        self.refused(config, 3, "model.safetensors", "1000")

    def test_header_longer_than_the_file(self):
        folder, config = self.expert()
        weights = folder / "model.safetensors"
        weights.write_bytes((10**7).to_bytes(8, "little") + weights.read_bytes()[8:])
        self.refused(config, 3, "model.safetensors", "header")

    def test_overlapping_offsets(self):
        folder, config = self.expert()
        header = json.dumps({"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]},
                             "b": {"dtype": "F32", "shape": [2], "data_offsets": [4, 12]}}).encode()
        (folder / "model.safetensors").write_bytes(len(header).to_bytes(8, "little") + header + bytes(12))
        self.refused(config, 3, "model.safetensors", "overlap")

    def sharded(self, folder):
        """expert_a in two shards with an index."""
        from safetensors.numpy import load_file
        tensors = load_file(folder / "model.safetensors")
        names = sorted(tensors)
        halves = [names[:len(names) // 2], names[len(names) // 2:]]
        index = {"metadata": {"total_size": sum(t.nbytes for t in tensors.values())}, "weight_map": {}}
        for number, half in enumerate(halves, 1):
            file = f"model-0000{number}-of-00002.safetensors"
            save_file({name: tensors[name] for name in half}, folder / file, metadata={"format": "pt"})
            index["weight_map"].update({name: file for name in half})
        (folder / "model.safetensors").unlink()
        (folder / "model.safetensors.index.json").write_text(json.dumps(index))
        return index

    def test_missing_shard(self):
        folder, config = self.expert()
        self.sharded(folder)
        (folder / "model-00002-of-00002.safetensors").unlink()
        self.refused(config, 3, "model-00002-of-00002.safetensors")

    def test_tensor_absent_from_its_shard(self):
        folder, config = self.expert()
        index = self.sharded(folder)
        index["weight_map"]["model.norm.weight"] = "model-00001-of-00002.safetensors"
        (folder / "model.safetensors.index.json").write_text(json.dumps(index))
        self.refused(config, 3, "model.norm.weight", "model-00001-of-00002.safetensors")

    def test_lfs_pointer(self):
        folder, config = self.expert()
        (folder / "model.safetensors").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n")
        self.refused(config, 3, "git-lfs", "git lfs pull")

    def test_other_architecture(self):
        folder, config = self.expert()
        self.edit_config(folder, architectures=["MistralForCausalLM"], model_type="mistral")
        self.refused(config, 3, "MistralForCausalLM", "LlamaForCausalLM")

    def test_other_layer_count(self):
        folder, config = self.expert()
        self.edit_config(folder, num_hidden_layers=4)
        self.refused(config, 3, "layers")

    def test_wrong_shape(self):
        from safetensors.numpy import load_file
        folder, config = self.expert()
        tensors = load_file(folder / "model.safetensors")
        tensors["model.layers.1.mlp.up_proj.weight"] = np.zeros((160, 65), np.float32)
        save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
        self.refused(config, 3, "model.layers.1.mlp.up_proj.weight", "[160, 65]", "[160, 64]")

    def test_vocabularies_that_differ(self):
        self.refused(self.merge_config(experts=("expert_c",)), 3, "model.embed_tokens.weight", "320", "321", "tokenizer_source",
                     "unsafe_truncate_embeddings")

    def test_unknown_key_suggests_the_nearest(self):
        config = self.merge_config(omega=0.4)
        config["aim"]["omgea"] = config["aim"].pop("omega")
        self.refused(config, 2, "omgea", "did you mean 'omega'", "merge.yaml:")

    def test_unknown_parameter(self):
        self.refused(self.merge_config("ties", parameters={"densty": 0.5}), 2, "densty", "density", "merge.yaml:")

    def test_omega_outside_its_range(self):
        for omega in (-0.1, 1.5, [0.2, 2]):
            self.refused(self.merge_config(omega=omega), 2, "omega", "merge.yaml:")

    def test_aim_without_a_base_model(self):
        config = self.merge_config("linear", omega=0.4)
        del config["base_model"]
        self.refused(config, 2, "base_model", "merge.yaml:")

    def test_unknown_method(self):
        self.refused(self.merge_config("taskarithmetic"), 2, "task_arithmetic")

    def test_output_that_exists(self):
        config = self.config(self.merge_config())
        out = self.folder / "out"
        out.mkdir()
        (out / "precious.txt").write_text("keep")
        result = self.aimerge("merge", config, "--out", out, expect=2)
        self.assertIn("--overwrite", result.stderr)
        self.assertEqual((out / "precious.txt").read_text(), "keep")

    def test_output_inside_an_input(self):
        folder, config = self.expert()
        result = self.aimerge("merge", self.config(config), "--out", folder / "merged", expect=2)
        self.assertIn(str(folder), result.stderr)
        self.assertFalse((folder / "merged").exists())

    def calibration(self, **keys):
        config = self.merge_config()
        config["aim"] = {"omega": 0.4, "calibration": {"sequences": 2, "sequence_length": 16, "dtype": "float32", **keys}}
        return config

    def test_empty_corpus(self):
        corpus = self.folder / "corpus.txt"
        corpus.write_text("")
        self.refused(self.calibration(corpus=str(corpus)), 3, "corpus.txt")

    def test_corpus_too_short(self):
        corpus = self.folder / "corpus.txt"
        corpus.write_text("a few words only\n")
        self.refused(self.calibration(corpus=str(corpus)), 3, "corpus.txt", "tokens")

    def test_missing_corpus(self):
        self.refused(self.calibration(corpus=str(self.folder / "absent.txt")), 3, "absent.txt")

    def test_bad_line_of_a_jsonl_corpus(self):
        corpus = self.folder / "corpus.jsonl"
        corpus.write_text('{"text": "one two three"}\n{"text": \n')
        self.refused(self.calibration(corpus=str(corpus)), 3, "corpus.jsonl", "2")

    def test_token_id_beyond_the_vocabulary(self):
        ids = np.zeros((2, 16), np.int64)
        ids[1, 3] = 320
        save_file({"input_ids": ids}, self.folder / "ids.safetensors")
        self.refused(self.calibration(token_ids=str(self.folder / "ids.safetensors")), 3, "ids.safetensors", "320")

    def test_nan_in_activations(self):
        from safetensors.numpy import load_file
        base = self.folder / "base"
        shutil.copytree(GOLDENS / "family_f32/base", base)
        for path in base.iterdir():
            path.chmod(0o644)
        tensors = load_file(base / "model.safetensors")
        tensors["model.layers.1.mlp.up_proj.weight"][3, 5] = np.nan
        save_file(tensors, base / "model.safetensors", metadata={"format": "pt"})
        config = {**self.merge_config(omega=0.4), "base_model": str(base)}
        for ranks in (0, 2):
            self.refused(config, 3, "model.layers.1.mlp.down_proj", ranks=ranks)

    def test_nan_in_an_expert(self):
        from safetensors.numpy import load_file
        folder, config = self.expert()
        tensors = load_file(folder / "model.safetensors")
        tensors["model.layers.2.mlp.up_proj.weight"][3, 5] = np.inf
        save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
        self.refused(config, 3, "model.layers.2.mlp.up_proj.weight", str(folder))

    def test_statistics_of_another_model(self):
        log = self.folder / "stats.h5"
        self.aimerge("calibrate", self.config(self.merge_config(omega=0.4)), "--out", log)
        config = self.merge_config(family="family_bf16")
        config["aim"] = {"omega": 0.4, "statistics": str(log)}
        self.refused(config, 3, "stats.h5", "another")

    def test_hub_model_that_is_not_cached(self):
        config = self.merge_config()
        config["models"][0]["model"] = "some-org/some-model"
        self.refused(config, 3, "some-org/some-model", "download")


if __name__ == "__main__":
    unittest.main()

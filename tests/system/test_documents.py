"""Configs of several documents: each is merged, and later ones take the results of earlier ones by their names."""
import json
import signal
import subprocess
import time

from aimerge_command import BINARY, GOLDENS, AimergeTest, environment, file_bytes

FAMILY = GOLDENS / "family_f32"


def model(name):
    return str(FAMILY / name)


def source(name, **parameters):
    return {"model": name, "parameters": parameters} if parameters else {"model": name}


SUM = {"name": "sum", "merge_method": "linear", "dtype": "float32",
       "models": [source(model("expert_a"), weight=0.25), source(model("expert_b"), weight=0.75)]}
TRIMMED = {"name": "trimmed", "merge_method": "ties", "base_model": model("base"), "dtype": "float32", "tokenizer_source": "sum",
           "models": [source("sum", weight=1, density=0.5), source(model("expert_c"), weight=0.5, density=0.75)]}
LAST = {"merge_method": "slerp", "base_model": {"model": "sum"}, "parameters": {"t": 0.25}, "dtype": "bfloat16",
        "slices": [{"sources": [{"model": "sum", "layer_range": [0, 2]}, {"model": "trimmed", "layer_range": [0, 2]}]}]}


class Documents(AimergeTest):
    def setUp(self):
        super().setUp()
        self.out = self.folder / "out"
        self.intermediate = self.folder / "out.intermediate"

    def documents(self, *documents):
        return self.config("\n---\n".join(json.dumps(document, indent=1) for document in documents), "documents.yaml")

    def merge(self, *documents, options=(), **keywords):
        return self.aimerge("merge", self.documents(*documents), "--out", self.out, *options, **keywords)

    def one_by_one(self, *documents):
        """The bytes of the last, each merged by a command of its own."""
        folders = {}
        for number, document in enumerate(documents):
            text = json.dumps(document)
            for name, folder in folders.items():
                text = text.replace(f'"{name}"', f'"{folder}"')
            out = self.folder / f"alone-{len(list(self.folder.iterdir()))}"
            self.aimerge("merge", self.config(text, "alone.yaml"), "--out", out)
            folders[document.get("name")] = out
        return file_bytes(out)

    def test_give_what_the_same_merges_give_one_by_one(self):
        expected = self.one_by_one(SUM, TRIMMED, LAST)
        for ranks in (0, 3):
            with self.subTest(ranks=ranks):
                result = self.merge(SUM, TRIMMED, LAST, ranks=ranks, options=["--overwrite", "--verify-after"])
                for number, name in enumerate(("sum", "trimmed"), start=1):
                    self.assertIn(f"document {number} of 3: {name} -> {self.intermediate.resolve() / name}\n", result.stderr)
                self.assertIn(f"document 3 of 3 -> {self.out}\n", result.stderr)
                self.assertEqual(file_bytes(self.out), expected)
                self.assertFalse(self.intermediate.exists())
                self.assertFalse((self.folder / "out.partial").exists())

    def test_are_merged_in_the_order_in_which_they_are_used(self):
        expected = self.one_by_one(SUM, TRIMMED, LAST)
        for documents in ((LAST, TRIMMED, SUM), ({**LAST, "name": "top"}, SUM, TRIMMED)):
            result = self.merge(*documents, options=["--overwrite"])
            for number, name in enumerate(("sum", "trimmed"), start=1):
                self.assertIn(f"document {number} of 3: {name} -> {self.intermediate.resolve() / name}\n", result.stderr)
            self.assertEqual(file_bytes(self.out), expected)
        again = self.folder / "again"
        self.aimerge("merge", self.out / "mergekit_config.yml", "--out", again)
        self.assertEqual(file_bytes(again), expected)

        self.merge(LAST, TRIMMED, SUM, options=["--overwrite", "--set", "parameters.t=0.5"])
        self.assertEqual(file_bytes(self.out), self.one_by_one(SUM, TRIMMED, {**LAST, "parameters": {"t": 0.5}}))

        missing = {**LAST, "base_model": "not-there", "merge_method": "linear", "parameters": {"weight": 1}}
        self.merge(missing, TRIMMED, SUM, options=["--overwrite"], expect=3)
        result = self.merge(TRIMMED, LAST, SUM, options=["--overwrite"])
        for name in ("sum", "trimmed"):
            self.assertIn(f"out.intermediate/{name}: complete, from the same document and inputs; reused", result.stderr)
        self.assertEqual(file_bytes(self.out), expected)

    def test_are_recorded_in_the_result_by_name_and_with_what_makes_them_again(self):
        unused = {**SUM, "name": "unused"}
        self.merge(SUM, unused, LAST | {"models": [source("sum")], "merge_method": "linear", "slices": None, "parameters": {
            "weight": 1}})
        manifest = json.loads((self.out / "aimerge_manifest.json").read_text())
        self.assertEqual(manifest["base"]["name"], "sum")
        self.assertNotIn(".intermediate", (self.out / "README.md").read_text() + json.dumps(manifest))
        again = self.folder / "again"
        self.assertNotIn("unused", (self.out / "mergekit_config.yml").read_text())
        self.aimerge("merge", self.out / "mergekit_config.yml", "--out", again)
        self.assertEqual(file_bytes(again), file_bytes(self.out))

    def test_are_taken_over_while_they_and_their_inputs_stay_the_same(self):
        relaxed = {**self.merge_config(omega=0.4), "name": "sum"}
        broken = LAST | {"slices": [{"sources": [source("sum"), source("trimmed"), source("not-there")]}]}
        failed = self.merge(relaxed, TRIMMED, broken, expect=2)
        self.assertIn("slerp needs", failed.stderr)
        self.assertFalse(self.intermediate.exists(), "what the config alone tells is found before the first merge")

        missing = LAST | {"base_model": "not-there", "merge_method": "linear", "parameters": {"weight": 1}}
        failed = self.merge(relaxed, TRIMMED, missing, expect=3)
        self.assertIn("not-there: no such folder", failed.stderr)
        self.assertEqual(sorted(path.name for path in self.intermediate.iterdir()), [".aimerge", "sum", "trimmed"])
        self.assertFalse(self.out.exists())

        changed = {**TRIMMED, "parameters": {"lambda": 0.5}}
        failed = self.merge(relaxed, changed, missing, expect=3)
        self.assertIn("out.intermediate/sum: complete, from the same document and inputs; reused", failed.stderr)
        self.assertNotIn("out.intermediate/trimmed: complete", failed.stderr)

        given = FAMILY / "expert_c"
        copy = self.folder / "expert_c"
        copy.mkdir()
        for path in given.iterdir():
            (copy / path.name).write_bytes(path.read_bytes())
        copied = json.loads(json.dumps(changed).replace(str(given), str(copy)))
        self.merge(relaxed, copied, missing, expect=3)
        (copy / "config.json").touch()
        result = self.merge(relaxed, copied, LAST)
        self.assertIn("out.intermediate/sum: complete", result.stderr)
        self.assertNotIn("out.intermediate/trimmed: complete", result.stderr)
        self.assertEqual(file_bytes(self.out), self.one_by_one(relaxed, copied, LAST))

    def test_survive_being_killed_at_any_time(self):
        expected = self.one_by_one(SUM, TRIMMED, LAST)
        config = self.documents(SUM, TRIMMED, LAST)
        kills = 0
        while not self.out.exists():
            process = subprocess.Popen([BINARY, "merge", str(config), "--out", str(self.out)], cwd=self.folder,
                                       stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                                       env=environment(self.cache))
            time.sleep(0.004 * kills)
            process.send_signal(signal.SIGKILL)
            _, errors = process.communicate(timeout=60)
            self.assertIn(process.returncode, (0, -signal.SIGKILL), errors)
            kills += 1
        self.assertEqual(file_bytes(self.out), expected)
        self.merge(SUM, TRIMMED, LAST, options=["--overwrite"])
        self.assertEqual(file_bytes(self.out), expected)
        left = {path.name for path in self.folder.iterdir() if path.name.startswith("out")}
        self.assertEqual(left, {"out"})

    def test_are_planned_as_far_as_their_models_exist(self):
        for command in (["merge", "--dry-run"], ["plan"]):
            with self.subTest(command[0]):
                result = self.aimerge(*command, self.documents(SUM, TRIMMED, LAST), "--out", self.out)
                self.assertIn("document 1 of 3: sum", result.stderr)
                self.assertIn("its models come from earlier documents (sum)", result.stderr)
                self.assertIn("its models come from earlier documents (sum, trimmed)", result.stderr)
                self.assertEqual((result.stdout + result.stderr).count("rank "), 1)
        self.assertEqual({path.name for path in self.folder.iterdir()} - {"cache"}, {"documents.yaml"})

    def test_are_refused_with_the_place_of_the_mistake(self):
        foreign = self.folder / "out.intermediate/mine"
        last = {"merge_method": "linear", "models": [source("sum", weight=1)]}
        broken_first = {**SUM, "models": [source("not-there", weight=1)]}
        aim = {"base_model": "sum", "aim": {"calibration": {"token_ids": str(self.blocks())}}}
        for row, documents, code, message in [
                ("later name", (TRIMMED, {**SUM, "name": "other"}, last), 3, "sum: no such folder"),
                ("circle", ({**SUM, "models": [source("trimmed", weight=1)]}, TRIMMED, last), 2,
                 "in a circle: 'sum' uses 'trimmed', 'trimmed' uses 'sum' (a folder of that name is ./sum)"),
                ("first model", (broken_first, last), 3, "not-there: no such folder"),
                ("no name", ({**SUM, "name": None}, last), 2, "documents.yaml:1:1: this document needs a 'name'")]:
            with self.subTest(row):
                self.assertIn(message, self.merge(*documents, expect=code).stderr)
                self.assertFalse(self.intermediate.exists())
        refused = self.aimerge("calibrate", self.documents(SUM, aim), "--out", "stats.h5", expect=2)
        self.assertIn("base_model sum is made by another document", refused.stderr)
        foreign.mkdir(parents=True)
        self.assertIn("was not made by aimerge", self.merge(SUM, last, expect=2).stderr)
        inside = {**last, "models": [source(str(foreign), weight=1)]}
        self.assertIn("would replace the input", self.merge(SUM, inside, expect=2).stderr)
        self.aimerge("merge", self.config(self.merge_config()), "--out", self.out)
        self.assertTrue(foreign.exists())

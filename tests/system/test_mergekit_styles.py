"""Configs as people write them for mergekit, merged by mergekit 0.1.5 and by aimerge: the same tensors, tokenizer and config.json, or what is said
of a style in tests/data/mergekit_styles. Random masks are compared by what they keep."""
import dataclasses
import pathlib
import re
import shutil
import tempfile
import unittest

import yaml

from aimerge_command import DATA
from peers import needs_mergekit, torch, transformers

if transformers:
    import mergekit_models
    import mergekit_peer as peer

DOCS = pathlib.Path(__file__).resolve().parents[2] / "docs"


@dataclasses.dataclass(frozen=True)
class Style:
    """A config, and what the two results may differ in."""
    name: str
    about: str                            # what is typical of it
    config: str
    random: bool = False                  # masks are drawn: what is kept is the same in number and size
    close: float = 2e-6                   # largest difference of an element, of the tensor's largest element
    few: float = 0                        # share of elements that may differ by more
    other_dtype: bool = False             # mergekit writes another dtype than the config asks for
    mergekit_prefix: str = ""             # mergekit writes this before names, and leaves tensors out
    except_tensors: str = ""              # names (a regular expression) of tensors that differ, or that one of the two has not
    as_loaded: bool = False               # files by other names, the same model as transformers loads it
    new_tokens_in_any_order: bool = False
    config_keys: tuple = ()               # of config.json that differ
    documented: tuple = ()                # rows of docs/methods.md's table of differences that say so
    warning: str = ""                     # aimerge says this (a regular expression)
    refused: str = ""                     # aimerge does not merge it, and says this
    mergekit_refuses: str = ""            # mergekit does not merge it, and says this
    mergekit_options: dict = dataclasses.field(default_factory=dict)
    aimerge_options: tuple = ()

    def differs(self):
        return bool(self.few or self.other_dtype or self.mergekit_prefix or self.except_tensors or self.as_loaded or self.config_keys or
                    bool(self.refused) != bool(self.mergekit_refuses))


STYLES = [Style(**{key: tuple(value) if isinstance(value, list) else value for key, value in row.items()})
          for path in sorted((DATA / "mergekit_styles").glob("*.yaml")) for row in yaml.safe_load(path.read_text())]


@needs_mergekit
class MergekitStyles(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        torch.set_num_threads(1)
        transformers.logging.set_verbosity_error()
        transformers.logging.disable_progress_bar()
        cls.folder = pathlib.Path(tempfile.mkdtemp(prefix="aimerge-styles-"))
        cls.addClassCleanup(shutil.rmtree, cls.folder, ignore_errors=True)
        with peer.silent():
            mergekit_models.make_all(cls.folder)

    def check(self, style):
        out = self.folder / "results" / style.name
        out.parent.mkdir(exist_ok=True)
        self.addCleanup(shutil.rmtree, out, ignore_errors=True)
        mergekit, aimerge = peer.by_both(style.config, self.folder, out, style.mergekit_options, style.aimerge_options)
        self.check_words(mergekit.folder, mergekit.words, style.mergekit_refuses, "mergekit")
        self.check_words(aimerge.folder, aimerge.words, style.refused, "aimerge")
        if style.warning:
            self.assertRegex(aimerge.words, style.warning)
        if mergekit.folder and aimerge.folder:
            base = list(yaml.safe_load_all(style.config))[-1].get("base_model") if style.random else None
            if differences := peer.compare(mergekit.folder, aimerge.folder, style, base and self.folder / base):
                self.fail("\n".join(differences))

    def check_words(self, merged, words, refusal, program):
        if bool(merged) == bool(refusal):
            self.fail(f"{program} merges this, but is to refuse it: {refusal}" if merged else f"{program} does not merge this: {words[-600:]}")
        if refusal:
            self.assertRegex(words, refusal)


def test_of(style):
    return lambda self: self.check(style)


for style in STYLES:
    setattr(MergekitStyles, f"test_{style.name}", test_of(style))


@needs_mergekit
class Comparison(unittest.TestCase):
    """What the styles rest on: results that are not the same are told apart."""

    def setUp(self):
        torch.manual_seed(1)
        self.want = {"a": torch.randn(200, 100), "b": torch.randn(50)}

    def differences(self, change, base=None, **style):
        got = {name: values.clone() for name, values in self.want.items()}
        change(got)
        return peer.compare_tensors(self.want, got, Style("", "", "", **style), base)

    def test_equal_tensors(self):
        self.assertEqual(self.differences(lambda got: got.update(a=got["a"] * (1 + 1e-7))), [])

    def test_other_tensors(self):
        for change in (lambda got: got.pop("b"), lambda got: got.update(c=got["b"]), lambda got: got.update(b=got["b"].half()),
                       lambda got: got.update(b=got["b"][None]), lambda got: got["a"][3, 4].add_(1e-4),
                       lambda got: got["a"][3, 4].fill_(float("nan"))):
            self.assertEqual(len(self.differences(change)), 1)

    def test_few_elements(self):
        change = lambda count: lambda got: got["a"].view(-1)[:count].add_(1)
        self.assertEqual(self.differences(change(200), few=0.01), [])
        self.assertTrue(self.differences(change(300), few=0.01))

    def test_random_masks(self):
        change = torch.randn(200, 100)
        kept = lambda density, scale: {"a": torch.where(torch.rand(200, 100) < density, change * scale, 0)}
        base = {"a": torch.zeros(200, 100)}
        self.want = kept(0.5, 2)
        differences = lambda *other: self.differences(lambda got: got.update(kept(*other)), base, random=True)
        self.assertEqual(differences(0.5, 2), [])
        self.assertTrue(differences(0.55, 2))
        self.assertTrue(differences(0.5, 1.8))
        self.assertTrue(self.differences(lambda got: None, base, random=True))  # the same masks

    def test_config_keys(self):
        with tempfile.TemporaryDirectory() as place:
            one, two = pathlib.Path(place, "one"), pathlib.Path(place, "two")
            for folder, config in ((one, '{"a": 1, "b": null, "transformers_version": "5"}'), (two, '{"a": true, "c": 0}')):
                folder.mkdir()
                (folder / "config.json").write_text(config)
            self.assertEqual([line.split()[1] for line in peer.compare_configs(one, two, [])], ["a", "b", "c"])


class Table(unittest.TestCase):
    def test_names_are_told_apart(self):
        names = [style.name for style in STYLES]
        self.assertEqual(sorted(set(names)), sorted(names))
        self.assertGreater(len(names), 130)

    def test_differences_are_documented(self):
        section = (DOCS / "methods.md").read_text().split("## Differences from mergekit")[1].split("\n## ")[0]
        topics = re.findall(r"^\| ([^|]+) \|", section, re.MULTILINE)
        for style in STYLES:
            with self.subTest(style.name):
                self.assertLessEqual(set(style.documented), set(topics))
                self.assertTrue(style.documented or not style.differs())


if __name__ == "__main__":
    unittest.main()

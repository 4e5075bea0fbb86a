"""`cmake --install` gives a tree that can be moved and needs neither the sources nor the build: both are hidden while it runs, under an empty
file system that only the command sees."""
import pathlib
import shutil
import subprocess
import sys
import tempfile
import unittest

from aimerge_command import BINARY, GOLDENS, AimergeTest, environment, file_bytes

ROOT = pathlib.Path(__file__).resolve().parents[2]
BUILD = pathlib.Path(BINARY).parents[1]
HIDING = ["unshare", "--map-root-user", "--mount", "sh", "-c", 'mount -t tmpfs none "$0" && exec "$@"', str(ROOT)]
TEXT = "The quick brown fox jumps over the lazy dog.\n" * 60
SCORES = """model,kind,method,combination,omega,aim,status,seconds,error,scored_by,math,code
base,base,,,,,done,1.5,,aimerge,10,20
code,expert,,code,,,done,1.5,,aimerge,15,60
math,expert,,math,,,done,1.5,,aimerge,50,10
plain,merged,ties,code+math,1,no,done,2,,aimerge,40,50
relaxed,merged,ties,code+math,0.4,yes,done,2,,aimerge,45,55
"""


def why_not():
    result = subprocess.run([*HIDING, "true"], capture_output=True, text=True)
    return f"folders cannot be hidden here: {result.stderr.strip()}" if result.returncode else ""


@unittest.skipIf(why_not(), why_not())
class InstalledTree(AimergeTest):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.place = pathlib.Path(tempfile.mkdtemp(prefix="aimerge-installed-"))
        cls.addClassCleanup(shutil.rmtree, cls.place, ignore_errors=True)
        subprocess.run(["cmake", "--install", BUILD, "--prefix", cls.place / "first"], check=True, capture_output=True)
        cls.prefix = (cls.place / "first").rename(cls.place / "moved here")

    def setUp(self):
        super().setUp()
        shutil.copytree(GOLDENS / "family_f32", self.folder / "family")
        (self.folder / "corpus.txt").write_text(TEXT)

    def installed(self, *arguments, program="aimerge", expect=0, **variables):
        """A command of the installed tree, with ROOT empty for it."""
        result = subprocess.run([*HIDING, self.prefix / "bin" / program, *map(str, arguments)], cwd=self.folder, text=True,
                                capture_output=True, timeout=120, env=environment(self.folder / "cache-installed", **variables))
        self.assertEqual(result.returncode, expect, f"{program} {' '.join(map(str, arguments))}\n{result.stdout}\n{result.stderr}")
        return result

    def aim_config(self):
        family = self.folder / "family"
        return self.config({
            "merge_method": "ties", "base_model": str(family / "base"), "dtype": "float32", "parameters": {"density": 0.5},
            "models": [{"model": str(family / name), "parameters": {"weight": 0.7}} for name in ("expert_a", "expert_b")],
            "aim": {"omega": 0.4, "calibration": {"corpus": str(self.folder / "corpus.txt"), "sequences": 8, "sequence_length": 32}}})

    def test_a_merge_with_aim_has_the_bytes_of_the_build(self):
        """Tokens from the bundled package in the distribution's Python, activations from the bundled libtorch."""
        config = self.aim_config()
        self.installed("merge", config, "--out", "installed")
        self.aimerge("merge", config, "--out", "built")
        files = file_bytes(self.folder / "installed")
        self.assertIn("model.safetensors", files)
        self.assertEqual(files, file_bytes(self.folder / "built"))
        self.assertNotEqual(files, file_bytes(self.folder / "family/base"))

    def test_the_engine_is_a_library_for_other_programs(self):
        """docs/examples, built with what `find_package(aimerge)` finds in the moved tree."""
        built = self.folder / "example"
        subprocess.run(["cmake", "-S", ROOT / "docs/examples", "-B", built, f"-DCMAKE_PREFIX_PATH={self.prefix}", "-DCMAKE_BUILD_TYPE=Debug"],
                       check=True, capture_output=True)
        subprocess.run(["cmake", "--build", built], check=True, capture_output=True)
        config = self.aim_config()
        result = subprocess.run([*HIDING, built / "merge_example", config, "library"], cwd=self.folder, text=True, capture_output=True,
                                timeout=120, env=environment(self.folder / "cache-library"), check=True)
        self.assertRegex(result.stdout, r"(?m)^library: \d+ bytes$")
        self.assertRegex(result.stderr, r"(?m)^merge: \d+ of \d+$")
        self.aimerge("merge", config, "--out", "built")
        self.assertEqual(file_bytes(self.folder / "library"), file_bytes(self.folder / "built"))

    def test_what_mergekit_yaml_starts_is_beside_it(self):
        config = self.merge_config("linear")
        config["models"] = [{"model": str(self.folder / "family" / name), "parameters": {"weight": 0.5}} for name in ("expert_a", "expert_b")]
        del config["base_model"]
        result = self.installed(self.config(config), "out", program="mergekit-yaml")
        self.assertIn(str(self.prefix / "bin/aimerge"), result.stderr)
        self.assertTrue((self.folder / "out/model.safetensors").is_file())

    def test_a_report_beside_the_papers_tables(self):
        printed = ROOT / "configs/paper/printed/table2.csv"
        shutil.copy(printed, self.folder)
        result = self.installed("report", "--scores", "table2.csv", "--compare-paper", "2", "--out", "report")
        self.assertIn("34 of the 34 printed rows", result.stdout)

    def test_what_python_lacks_is_said_with_a_command(self):
        """No environment of launch/setup.sh is there to be named."""
        (self.folder / "points.csv").write_text(SCORES)
        without = self.folder / "python"
        without.write_text(f"#!/bin/sh\nexec {pathlib.Path(sys.executable).resolve()} -S -E \"$@\"\n")
        without.chmod(0o755)
        result = self.installed("report", ".", AIMERGE_PYTHON=str(without))
        self.assertIn("has no matplotlib; set AIMERGE_PYTHON to an interpreter with the package `matplotlib`: python3 -m venv ENV && "
                      f"ENV/bin/pip install -r {self.prefix}/share/aimerge/tools/requirements.txt", result.stderr)
        self.assertNotIn("launch/setup.sh", result.stderr)
        self.assertTrue((self.folder / "report/tables/ablation.csv").is_file())
        page = (self.folder / "report/report.html").read_text(encoding="utf-8")
        self.assertIn('id="figure-data"', page)  # its library comes along
        self.assertIn("vegaEmbed", page)

    def test_the_sources_really_are_hidden(self):
        """Else the other tests show nothing."""
        listing = subprocess.run([*HIDING, "ls", "-A", ROOT], capture_output=True, text=True, check=True)
        self.assertEqual(listing.stdout, "")


if __name__ == "__main__":
    unittest.main()

"""--help of every command fits a terminal and has an example that the command understands; the scripts of launch/ answer it, too."""
import pathlib
import re
import shlex
import subprocess
import unittest

from aimerge_command import AimergeTest

ROOT = pathlib.Path(__file__).resolve().parents[2]
WIDTH = 100  # columns


class Help(AimergeTest):
    def commands(self):
        commands = re.findall(r"^  (\w+) {2,}", self.aimerge("--help").stdout.split("Subcommands:")[1], re.MULTILINE)
        self.assertGreaterEqual(len(commands), 11)
        return commands

    def test_width(self):
        for arguments in ([], *([command] for command in self.commands())):
            for line in self.aimerge(*arguments, "--help").stdout.splitlines():
                self.assertLessEqual(len(line), WIDTH, line)

    def test_examples(self):
        for command in self.commands():
            with self.subTest(command=command):
                said = self.aimerge(command, "--help").stdout
                (example,) = re.findall(r"^Example:\n  (?:mpirun .*)?aimerge (.*)$", re.sub(r"\\\n +", "", said), re.MULTILINE)
                name, *arguments = shlex.split(example)
                self.assertEqual(name, command)
                for argument in arguments:
                    if argument.startswith("--"):
                        self.assertRegex(said, rf"\n  (-\w,)?{argument}\b")
                    if argument.startswith("configs/"):
                        self.assertTrue((ROOT / argument).exists(), argument)
                # What is asked for without an option comes first; what stands in brackets may be left out.
                wanted = re.findall(r" (\w+)", re.search(r"^Usage: .*\[OPTIONS\](.*)$", said, re.MULTILINE)[1])
                given = [argument for argument in arguments[:len(wanted)] if not argument.startswith("--")]
                self.assertEqual(len(given), len(wanted))


class Scripts(unittest.TestCase):
    def test_launch(self):
        scripts = sorted((ROOT / "launch").glob("*.sh"))
        self.assertGreaterEqual(len(scripts), 11)
        for script in scripts:
            for option in ("-h", "--help"):
                with self.subTest(script=script.name, option=option):
                    self.assertIn("-h | --help)", script.read_text())  # else it would start to work
                    result = subprocess.run([f"./{script.name}", option], cwd=script.parent, text=True, capture_output=True, timeout=20)
                    self.assertEqual((result.returncode, result.stderr), (0, ""))
                    _, *header = re.findall(r"^# ?(.*)$", script.read_text().split("\nset -")[0], re.MULTILINE)
                    self.assertEqual(result.stdout.splitlines(), header)
                    self.assertIn(f"usage: launch/{script.name}", result.stdout)


if __name__ == "__main__":
    unittest.main()

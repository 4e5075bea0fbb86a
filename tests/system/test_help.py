"""--help of every command has an example that the command understands."""
import pathlib
import re
import shlex
import unittest

from aimerge_command import AimergeTest

ROOT = pathlib.Path(__file__).resolve().parents[2]


class Help(AimergeTest):
    def test_examples(self):
        commands = re.findall(r"^  (\w+) {2,}", self.aimerge("--help").stdout.split("Subcommands:")[1], re.MULTILINE)
        self.assertGreaterEqual(len(commands), 11)
        for command in commands:
            with self.subTest(command=command):
                said = self.aimerge(command, "--help").stdout
                (example,) = re.findall(r"^Example:\n  (?:mpirun .*)?aimerge (.*)$", said, re.MULTILINE)
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


if __name__ == "__main__":
    unittest.main()

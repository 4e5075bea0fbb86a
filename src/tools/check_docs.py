#!/usr/bin/env python3
"""Checks README.md and docs/*.md against the repository and the program.

usage: check_docs.py [--root FOLDER] [--aimerge BINARY]
  --root     the repository (default: the one this script is in)
  --aimerge  the program whose commands and options the docs name (default: build/aimerge below the root)

Prints a line per finding and ends with exit code 1 if there is any. It checks that
- relative links lead to files that exist, and their anchors to headings;
- paths of the repository (docs/, configs/, src/tools/, ...) in backticks and code exist, but for those that the page lists in
  a comment <!-- not in the repository: PATH PATH -->;
- `aimerge COMMAND --option` exists, and so does every option that is named by itself;
- prose has at most 100 columns; tables, code and lines of one long word may have more;
- tests that are named in backticks (`core_test`, `system.test_docs`) are declared in a CMakeLists.txt below tests/;
- names of packages (aimerge_1.2.3_amd64.deb) and docs/CITATION.cff have the version of CMakeLists.txt;
- a row of figures in a table of README.md is also, word for word, in docs/benchmarks.md;
- a time or size in README.md (4 GB, half a minute) is, word for word, in the section "The demo" of docs/benchmarks.md;
- README.md has the right number of merge methods, and docs/methods.md has each in a table and in a heading.
"""
import argparse
import functools
import json
import pathlib
import re
import subprocess
import sys
import unicodedata

COLUMNS = 100
KINDS = ("system", "gpu", "arm64", "package")  # of system tests (tests/system/CMakeLists.txt)
QUANTITY = re.compile(r"\b(?:[\d.]+|half an?|two|three|four|five|six|seven|eight|nine|ten)\s+(?:[kMGT]B|(?:second|minute|hour)s?)\b")
# Folders of the repository; what builds and runs make (build/, runs/, merged/) is not there to be checked.
FOLDERS = ("configs", "docs", "include", "launch", "slurm", "src", "tests", ".ci")
# Programs of the repository: an option that the docs name by itself may be one of theirs.
SCRIPTS = ("launch/*", "slurm/*", "src/tools/*", "tests/bench/*.py", "tests/system/*.py", "tests/fuzz/*.sh")
# Options of programs that are not ours.
FOREIGN_OPTIONS = {
    "--array", "--bind-to", "--cluster", "--cpus", "--cpus-per-task", "--gpus-per-node", "--gpus-per-task", "--hostfile", "--kill-on-bad-exit",
    "--label-regex", "--lazy", "--local-dir", "--map-by", "--mca", "--mpi", "--nodes", "--ntasks-per-node", "--nv", "--oversubscribe",
    "--async-write", "--clone-tensors", "--merged_model", "--pretrained_model_name", "--save_path",
    "--partition", "--preset", "--repo-type", "--requeue", "--signal", "--target", "--time", "--trace", "--build", "--gtest_filter"}


def blocks(text):
    """(number, line, kind) of every line: prose, table, heading or code."""
    fenced, previous, in_list = False, "", False
    for number, line in enumerate(text.splitlines(), 1):
        stripped = line.strip()
        if stripped.startswith("```"):
            fenced = not fenced
            kind = "code"
        elif fenced:
            kind = "code"
        elif stripped.startswith("|"):
            kind = "table"
        elif re.match(r"#{1,6} ", line):
            kind, in_list = "heading", False
        elif line.startswith("    ") and (not in_list or line.startswith("      ")) and (not previous or previous == "code"):
            kind = "code"
        else:
            kind = "prose"
            in_list = bool(re.match(r"\s*([-*]|\d+\.) ", line)) or (in_list and (not stripped or line.startswith(" ")))
        previous = "" if not stripped and not fenced else kind
        yield number, line, kind


def width(line):
    return sum(not unicodedata.combining(character) for character in line)


def anchor(heading):
    """As GitHub makes it: links by their text, punctuation dropped, blanks as hyphens."""
    text = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).strip().lower()
    return re.sub(r"[^\w\- ]", "", text).replace(" ", "-")


@functools.cache
def anchors(path):
    found, count = set(), {}
    for _, line, kind in blocks(path.read_text(encoding="utf-8")):
        if kind == "heading":
            name = anchor(line.lstrip("#"))
            found.add(f"{name}-{count[name]}" if name in count else name)
            count[name] = count.get(name, 0) + 1
    return found


def declared_tests(root):
    """Tests as CTest names them, but for the numbers of ranks, and those of the system tests also without their kind."""
    names = set()
    for path in root.glob("tests/**/CMakeLists.txt"):
        text = re.sub(r"#.*", "", path.read_text(encoding="utf-8"))
        names.update(re.findall(r"\baimerge_test\(\s*(\w+)", text))
        for name, arguments in re.findall(r"\baimerge_system_test\(\s*(\w+)([^)]*)\)", text):
            kinds = arguments.partition("KINDS")[2].split()
            names.update([name, *(f"{kind}.{name}" for kind in KINDS if kind in (kinds or ["system"]))])
    return names


def version(root):
    path = root / "CMakeLists.txt"
    found = re.search(r"project\(\w+ VERSION ([\d.]+)", path.read_text(encoding="utf-8") if path.exists() else "")
    return found[1] if found else None


def quantities(text):
    """(place, text) of times and sizes: `half a minute`."""
    return [(found.start(), " ".join(found[0].split())) for found in QUANTITY.finditer(text)]


def options_in(text):
    return set(re.findall(r"(?<![\w-])--[a-z][\w-]*", text))


class Program:
    """What `aimerge --help` and the help of each command say."""

    def __init__(self, binary):
        self.binary = binary
        subcommands = self.output("--help").split("Subcommands:")[1]
        names = re.findall(r"^  ([a-z]\w*)", subcommands, re.MULTILINE)
        self.options = {name: options_in(self.output(name, "--help")) for name in names}
        self.options[""] = options_in(self.output("--help"))
        self.methods = [method["name"] for method in json.loads(self.output("methods", "--json"))]

    def output(self, *arguments):
        try:
            return subprocess.run([self.binary, *arguments], check=True, capture_output=True, text=True).stdout
        except FileNotFoundError:
            sys.exit(f"{self.binary} is not there: build it, or name another one by --aimerge")


class Page:
    def __init__(self, root, path):
        self.root, self.path, self.findings = root, path, []
        self.name = str(path.relative_to(root))
        self.text = path.read_text(encoding="utf-8")
        self.lines = list(blocks(self.text))

    def say(self, number, finding):
        self.findings.append(f"{self.name}:{number}: {finding}")

    def check_links(self):
        for number, line, kind in self.lines:
            if kind == "code":
                continue
            for target in re.findall(r"\]\(([^)\s]+)\)", re.sub(r"`[^`]*`", "", line)):
                if re.match(r"[a-z]+:", target):
                    continue
                file, _, fragment = target.partition("#")
                path = (self.path.parent / file).resolve() if file else self.path
                if not path.exists():
                    self.say(number, f"the link {target} leads to no file")
                elif fragment and fragment not in anchors(path):
                    self.say(number, f"the link {target} leads to no heading")

    def code(self):
        """(number, text) of code lines, and of the spans in backticks of all other lines, also those that go over a line's end.
        Messages, which are the first cells of tables of them, are not commands."""
        prose, messages = [], False
        for number, line, kind in self.lines:
            if kind == "code":
                yield number, line
            messages = kind == "table" and (messages or line.startswith("| message |"))
            prose.append("" if kind == "code" else re.sub(r"^\| [^|]* \|", "|", line) if messages else line)
        prose = "\n".join(prose)
        for span in re.finditer(r"`([^`]+)`", prose):
            yield prose.count("\n", 0, span.start()) + 1, " ".join(span[1].split())

    def check_paths(self):
        absent = " ".join(re.findall(r"<!-- not in the repository: ([^>]*) -->", self.text)).split()
        pattern = re.compile(rf"(?<![\w/.$}}-])(?:\./)?((?:{'|'.join(map(re.escape, FOLDERS))})/[\w./*{{}},-]*)")
        for number, code in self.code():
            for path in pattern.findall(code):
                path = path.rstrip(".,")
                if path in absent or re.search(r"[A-Z]{2,}(?!\w*\.(md|cff|txt|json)\b)|\.\.\.", path):  # a placeholder: tables/NAME.csv
                    continue
                choices = re.search(r"\{([^}]*)\}", path)
                for choice in choices[1].split(",") if choices else [""]:
                    one = path[:choices.start()] + choice + path[choices.end():] if choices else path
                    if not any(self.root.glob(one.rstrip("/"))):
                        self.say(number, f"there is no {one}")

    def check_commands(self, program, known_options):
        for number, code in self.code():
            code = re.split(r"\s#\s", code)[0]
            rest = code
            for command in re.finditer(r"(?:^|[|;&] )\s*(?:(?:mpirun|srun) [^|;&]*?)?(?:build/)?aimerge +([a-z][\w-]*)(?![\w.])([^|;&]*)", code):
                name, arguments = command[1], command[2]
                rest = rest.replace(command[0], "")
                if name not in program.options:
                    self.say(number, f"there is no command aimerge {name}")
                    continue
                for option in sorted(options_in(arguments) - program.options[name]):
                    self.say(number, f"aimerge {name} has no option {option}")
            for option in sorted(options_in(rest) - known_options):
                self.say(number, f"no program has the option {option}")

    def check_columns(self):
        for number, line, kind in self.lines:
            if kind == "prose" and width(line) > COLUMNS and " " in line.strip().removeprefix("- "):
                self.say(number, f"{width(line)} columns, at most {COLUMNS}")

    def check_figures(self, benchmarks):
        rows = set(benchmarks.splitlines())
        for number, line, kind in self.lines:
            if kind == "table" and sum(bool(re.fullmatch(r"\s*[\d.]+( ?[a-zA-Z%]+)?\s*", cell)) for cell in line.split("|")) > 1 and line not in rows:
                self.say(number, "these figures are not in docs/benchmarks.md")

    def check_tests(self, declared):
        for number, code in self.code():
            if re.fullmatch(rf"\w+_test|(?:(?:{'|'.join(KINDS)})\.)?test_\w+", code) and code not in declared:
                self.say(number, f"there is no test {code}")

    def check_version(self, version):
        for number, line, _ in self.lines:
            for named in re.findall(r"\baimerge[-_](\d+\.\d+\.\d+)", line):
                if named != version:
                    self.say(number, f"version {named}; CMakeLists.txt has {version}")

    def check_quantities(self, benchmarks):
        section = re.search(r"^## The demo$(.*?)(?=^## |\Z)", benchmarks, re.MULTILINE | re.DOTALL)
        measured = {text for _, text in quantities(section[1])} if section else set()
        for place, text in quantities(self.text):
            if text not in measured:
                self.say(self.text.count("\n", 0, place) + 1, f"{text} is not in the section \"The demo\" of docs/benchmarks.md")

    def check_method_count(self, program):
        for number, line, _ in self.lines:
            for count in re.findall(r"(\d+) merge methods", line):
                if int(count) != len(program.methods):
                    self.say(number, f"{count} merge methods; aimerge methods lists {len(program.methods)}")

    def check_methods(self, program):
        for where, pattern in (("a table", r"^\|.*`{}`.*\|$"), ("a heading", r"^###.*\b{}\b")):
            for method in program.methods:
                if not re.search(pattern.format(method), self.text, re.MULTILINE):
                    self.say(1, f"the method {method} is not in {where}")


def check_citation(root, version):
    path = root / "docs/CITATION.cff"
    cited = re.search(r"^version: *(.*)$", path.read_text(encoding="utf-8"), re.MULTILINE) if path.exists() else None
    if cited and cited[1] != version:
        return [f"docs/CITATION.cff: version {cited[1]}; CMakeLists.txt has {version}"]
    return []


def findings(root, binary):
    program = Program(binary)
    scripts = "\n".join(path.read_text(encoding="utf-8") for pattern in SCRIPTS for path in root.glob(pattern) if path.is_file())
    known_options = set().union(*program.options.values(), options_in(scripts), FOREIGN_OPTIONS)
    path = root / "docs/benchmarks.md"
    benchmarks = path.read_text(encoding="utf-8") if path.exists() else ""
    tests, built = declared_tests(root), version(root)
    found = check_citation(root, built)
    for path in [root / "README.md", *sorted((root / "docs").glob("*.md"))]:
        page = Page(root, path)
        page.check_links()
        page.check_paths()
        page.check_commands(program, known_options)
        page.check_columns()
        page.check_tests(tests)
        page.check_version(built)
        if path.name == "README.md":
            page.check_figures(benchmarks)
            page.check_quantities(benchmarks)
            page.check_method_count(program)
        elif path.name == "methods.md":
            page.check_methods(program)
        found += page.findings
    return found


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", type=pathlib.Path, default=pathlib.Path(__file__).resolve().parents[2])
    parser.add_argument("--aimerge", type=pathlib.Path)
    arguments = parser.parse_args()
    root = arguments.root.resolve()
    found = findings(root, arguments.aimerge or root / "build/aimerge")
    print("\n".join(found) if found else "README.md and docs agree with the repository and the program")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())

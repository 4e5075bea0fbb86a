"""Prints how many lines of every room ran, from the profiles of programs that were built with AIMERGE_COVERAGE.

usage: line_coverage.py BUILD PROFILES [--lines]
  BUILD     build folder, whose bin/ has the programs
  PROFILES  folder of the .profraw files
  --lines   also the lines that did not run, by file
"""
import argparse
import collections
import json
import pathlib
import shutil
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parents[2]


def tool(name):
    """Of LLVM, by its plain name or with the version of clang."""
    version = subprocess.run(["clang", "-dumpversion"], capture_output=True, text=True, check=True).stdout.split(".")[0]
    for candidate in (name, f"{name}-{version}"):
        if shutil.which(candidate):
            return candidate
    sys.exit(f"line_coverage: neither {name} nor {name}-{version} is there; install the package llvm")


def is_program(path):
    """bin/ has scripts, too, which llvm-cov refuses."""
    return path.is_file() and path.open("rb").read(4) == b"\x7fELF"


def exported(build, profiles, *options):
    merged = profiles / "all.profdata"
    subprocess.run([tool("llvm-profdata"), "merge", "-sparse", *profiles.glob("*.profraw"), "-o", merged], check=True)
    programs = [path for path in sorted((build / "bin").iterdir()) if is_program(path) and not path.name.startswith("fuzz_")]
    objects = [argument for path in programs[1:] for argument in ("-object", path)]
    return json.loads(subprocess.run([tool("llvm-cov"), "export", *options, "-instr-profile", merged, programs[0], *objects],
                                     capture_output=True, text=True, check=True).stdout)


def uncovered(segments):
    """The first lines of the regions that never ran. A segment is [line, column, count, has count, begins a region, ...]."""
    return sorted({line for line, _, count, has_count, begins, *_ in segments if has_count and begins and count == 0})


def main():
    parser = argparse.ArgumentParser(usage=__doc__.split("usage: ")[1])
    parser.add_argument("build", type=pathlib.Path)
    parser.add_argument("profiles", type=pathlib.Path)
    parser.add_argument("--lines", action="store_true")
    arguments = parser.parse_args()

    files = exported(arguments.build, arguments.profiles, *([] if arguments.lines else ["-summary-only"]))["data"][0]["files"]
    rooms = collections.defaultdict(lambda: [0, 0])  # lines, those that ran
    for file in files:
        path = pathlib.Path(file["filename"]).resolve()
        if not path.is_relative_to(ROOT) or path.relative_to(ROOT).parts[0] not in ("src", "include"):
            continue
        parts = path.relative_to(ROOT).parts
        lines = file["summary"]["lines"]
        for room in (parts[1] if parts[0] == "src" else parts[2], "all"):
            rooms[room][0] += lines["count"]
            rooms[room][1] += lines["covered"]
        if arguments.lines and lines["covered"] < lines["count"]:
            print(f"{path.relative_to(ROOT)}: {lines['count'] - lines['covered']} of {lines['count']} did not run, at", *uncovered(file["segments"]))
    for room, (count, covered) in sorted(rooms.items(), key=lambda entry: (entry[0] == "all", entry[0])):
        print(f"coverage: {room:<12} {covered:6} of {count:6} lines  {100 * covered / count:5.1f} %")


if __name__ == "__main__":
    main()

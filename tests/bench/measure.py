"""Whole commands, measured: wall time, CPU time and peak resident memory, several rounds, alternating."""
import dataclasses
import os
import pathlib
import platform
import statistics
import subprocess
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
AIMERGE = ROOT / "build" / "aimerge"


@dataclasses.dataclass(frozen=True)
class Measurement:
    seconds: float
    cpu_seconds: float  # user and system, of the command and the processes it waited for
    peak_bytes: int     # resident, of its largest process; mapped pages of files count


def measure(command, log, environment=None):
    """Runs the command to its end, output to `log`. A command that fails ends the benchmark with its last lines."""
    os.sync()  # what earlier commands wrote is theirs to pay for
    with open(log, "wb") as output:
        start = time.perf_counter()
        process = subprocess.Popen([str(word) for word in command], stdout=output, stderr=subprocess.STDOUT, cwd=ROOT,
                                   env={**os.environ, **(environment or {})})
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - start
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        sys.exit(f"{' '.join(map(str, command))}\nended with {process.returncode}:\n{pathlib.Path(log).read_text()[-2000:]}")
    return Measurement(seconds, usage.ru_utime + usage.ru_stime, usage.ru_maxrss * 1024)


def median(measurements):
    names = [field.name for field in dataclasses.fields(Measurement)]
    return Measurement(*(statistics.median(getattr(m, name) for m in measurements) for name in names))


def machine():
    """One line for the head of a table."""
    model = next((line.split(":")[1].strip() for line in open("/proc/cpuinfo") if line.startswith("model name")), platform.machine())
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    load = os.getloadavg()[0]
    return f"{model}, {os.cpu_count()} cores, {memory:.0f} GiB, Linux {platform.release()}, load {load:.1f} at the start"


def table(header, rows):
    """Markdown, aligned to be read as plain text too. The first column is text, the others are numbers."""
    cells = [header, *rows]
    widths = [max(len(row[i]) for row in cells) for i in range(len(header))]
    align = lambda row: "| " + " | ".join(c.ljust(w) if i == 0 else c.rjust(w) for i, (c, w) in enumerate(zip(row, widths))) + " |"
    rule = "| " + " | ".join("-" * w if i == 0 else "-" * (w - 1) + ":" for i, w in enumerate(widths)) + " |"
    return "\n".join([align(header), rule, *map(align, rows)])

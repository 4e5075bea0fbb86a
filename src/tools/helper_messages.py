"""The messages between aimerge and the scripts that read and encode text for it, over the script's standard input and output.

Every message, both ways, is a length (8 bytes, little-endian) and that many bytes. The first byte sent back says what
follows: b"I" what was asked for; b"E" an error in the files or b"S" one in the set-up of Python, as UTF-8 text, after which
the process ends. At the start one b"I" without content tells that the script is ready.
"""
import json
import struct
import sys


class Failure(Exception):
    """A message for the user about the files."""

    kind = b"E"


class SetUpFailure(Failure):
    """A message for the user about this Python installation; aimerge adds what to do."""

    kind = b"S"


def read_exactly(stream, count):
    data = stream.read(count)
    if len(data) != count:
        raise EOFError
    return data


def read_length(stream):
    return struct.unpack("<Q", read_exactly(stream, 8))[0]


def send(stream, kind, payload=b""):
    stream.write(struct.pack("<Q", len(payload) + 1) + kind + payload)
    stream.flush()


def load_json(path):
    try:
        with open(path, encoding="utf-8") as file:
            return json.load(file)
    except (OSError, ValueError) as error:
        raise Failure(f"{path}: {error}") from error


def token_text(entry):
    """A special token as a tokenizer's files have it: a text, or {"content": text}."""
    return entry.get("content") if isinstance(entry, dict) else entry


def missing_package(name, error):
    return SetUpFailure(f"the Python package `{name}` is missing for {sys.executable} ({error})")


def run(start):
    """Answers requests until aimerge closes the socket. `start` gives the function that turns one into its answer, bytes both.

    Returns the exit code.
    """
    requests, answers = sys.stdin.buffer, sys.stdout.buffer
    try:
        answer = start()
        send(answers, b"I")
        while True:
            try:
                request = read_exactly(requests, read_length(requests))
            except EOFError:
                return 0
            send(answers, b"I", answer(memoryview(request)))
    except Failure as failure:
        send(answers, failure.kind, str(failure).encode())
        return 1
    except BrokenPipeError:  # aimerge has ended
        return 1

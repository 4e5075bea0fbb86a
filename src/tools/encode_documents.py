"""Encodes documents with a model folder's tokenizer.json, or vocab.json and merges.txt. Started by aimerge, which talks to it over a socket.

Every message, both ways, is a length (8 bytes, little-endian) and that many bytes. The first byte sent back says what
follows: b"I" ids; b"E" an error in the tokenizer's files or b"S" one in the set-up of Python, as UTF-8 text, after which the
process ends. At the start one b"I" without ids tells that the tokenizer is loaded.

  request   count (8 bytes), then per document its length (8 bytes) and its UTF-8 bytes
  ids       per document the number of tokens (8 bytes) and the ids (int32), in the order of the request

Special tokens are added as transformers adds them: the post-processor of tokenizer.json decides, unless
tokenizer_config.json has add_bos_token or add_eos_token.
"""

import array
import json
import os
import struct
import sys

import vocabulary_and_merges


class Failure(Exception):
    """A message for the user about the tokenizer's files."""

    kind = b"E"


class SetUpFailure(Failure):
    """A message for the user about this Python installation."""

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
    return entry.get("content") if isinstance(entry, dict) else entry


def add_missing_tokens(tokenizer, config, added_token):
    """Adds the tokens of tokenizer_config.json that tokenizer.json lacks, by ascending id, as transformers does."""
    known = tokenizer.get_vocab(with_added_tokens=True)
    for _, entry in sorted(config.get("added_tokens_decoder", {}).items(), key=lambda item: int(item[0])):
        if entry["content"] not in known:
            flags = {key: entry[key] for key in ("single_word", "lstrip", "rstrip", "normalized", "special") if key in entry}
            tokenizer.add_tokens([added_token(entry["content"], **flags)])


def apply_explicit_flags(tokenizer, config, processors, folder):
    """Lets add_bos_token and add_eos_token win over the post-processor, which decides where one is absent."""
    if config.get("add_bos_token") is None and config.get("add_eos_token") is None:
        return
    bos, eos = token_text(config.get("bos_token")), token_text(config.get("eos_token"))
    with_special = tokenizer.encode("a", add_special_tokens=True).tokens
    without_special = tokenizer.encode("a", add_special_tokens=False).tokens
    extra = len(with_special) > len(without_special)
    adds_bos = extra and with_special[0] == bos
    adds_eos = extra and with_special[-1] == eos
    wants_bos = adds_bos if config.get("add_bos_token") is None else bool(config["add_bos_token"])
    wants_eos = adds_eos if config.get("add_eos_token") is None else bool(config["add_eos_token"])
    if (wants_bos, wants_eos) == (adds_bos, adds_eos):
        return
    special = []
    for wanted, token, key in ((wants_bos, bos, "bos"), (wants_eos, eos, "eos")):
        token_id = tokenizer.token_to_id(token) if token else None
        if wanted and token_id is None:
            raise Failure(f"{folder}/tokenizer_config.json: add_{key}_token is true, but {key}_token is {token!r}, which "
                          "the tokenizer does not have")
        if wanted:
            special.append((token, token_id))
    template = [f"{bos}:0"] * wants_bos + ["$A:0"] + [f"{eos}:0"] * wants_eos
    tokenizer.post_processor = processors.TemplateProcessing(single=template, special_tokens=special)


def load_tokenizer(folder):
    try:
        import tokenizers
    except ImportError as error:
        raise SetUpFailure(f"the Python package `tokenizers` is missing for {sys.executable} ({error}): run "
                           "./launch/setup.sh, or set AIMERGE_PYTHON to an interpreter that has it") from error
    path, config_path = (os.path.join(folder, name) for name in ("tokenizer.json", "tokenizer_config.json"))
    config = load_json(config_path) if os.path.exists(config_path) else {}
    try:
        if os.path.exists(path):
            tokenizer = tokenizers.Tokenizer.from_file(path)
        else:
            tokenizer, config = vocabulary_and_merges.tokenizer_from(folder, config, tokenizers)
    except vocabulary_and_merges.UnknownTokenizer as error:
        raise Failure(str(error)) from error
    except Exception as error:  # the library raises plain Exception
        raise Failure(f"{path if os.path.exists(path) else folder}: {error}") from error
    tokenizer.no_truncation()
    tokenizer.no_padding()
    add_missing_tokens(tokenizer, config, tokenizers.AddedToken)
    apply_explicit_flags(tokenizer, config, tokenizers.processors, folder)
    return tokenizer


def serve(tokenizer, requests, answers):
    while True:
        try:
            size = read_length(requests)
        except EOFError:
            return
        request = memoryview(read_exactly(requests, size))
        count, position, documents = struct.unpack_from("<Q", request)[0], 8, []
        for _ in range(count):
            length = struct.unpack_from("<Q", request, position)[0]
            documents.append(str(request[position + 8:position + 8 + length], "utf-8"))
            position += 8 + length
        parts = []
        for encoding in tokenizer.encode_batch(documents, add_special_tokens=True):
            ids = array.array("i", encoding.ids)
            parts += (struct.pack("<Q", len(ids)), ids.tobytes())
        send(answers, b"I", b"".join(parts))


def main():
    requests, answers = sys.stdin.buffer, sys.stdout.buffer
    try:
        tokenizer = load_tokenizer(sys.argv[1])
        send(answers, b"I")
        serve(tokenizer, requests, answers)
    except Failure as failure:
        send(answers, failure.kind, str(failure).encode())
        return 1
    except BrokenPipeError:  # aimerge has ended
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())

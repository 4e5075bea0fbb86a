"""Turns rows with conversations into text by a chat template, as `apply_chat_template` of transformers does it without a
generation prompt. Started by aimerge, which talks to it over a socket; messages are as helper_messages.py has them, JSON both
ways.

  {"template": text}                                            -> {}
  {"keys": [name, ...], "is_instruction": flag, "rows": [text]} -> [{"text": text} or {"error": message}, ...]

A row is the text of a JSON object. Its conversation is the turns under all keys, one after another; a turn is {role, content}
or ShareGPT's {from, value}. With is_instruction the keys are Alpaca's. A `system` text beside the turns comes first, `tools`
go to the template.
"""
import datetime
import json
import os
import sys

from helper_messages import Failure, load_json, missing_package, run, token_text

SPEAKERS = {"system": "system", "human": "user", "user": "user", "gpt": "assistant", "assistant": "assistant", "tool": "tool"}
NAMED_TOKENS = ("bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token")
REASONING = ("reasoning_content", "thinking", "reasoning")


class BadRow(Exception):
    """What is wrong with one conversation."""


def special_tokens(folder):
    """{name: text} for the template, from the tokenizer's files; a model's own names, such as image_token, among them."""
    tokens = {}
    for name in ("special_tokens_map.json", "tokenizer_config.json"):
        path = os.path.join(folder, name)
        entries = load_json(path) if os.path.exists(path) else {}
        extra = entries.get("extra_special_tokens")
        named = {key: entries.get(key) for key in NAMED_TOKENS} | (extra if isinstance(extra, dict) else {})
        tokens |= {key: token_text(value) for key, value in named.items() if value}
    return tokens


def compile_template(text):
    """With the environment of transformers (utils/chat_template_utils.py)."""
    try:
        import jinja2.exceptions
        import jinja2.ext
        import jinja2.nodes
        import jinja2.sandbox
    except ImportError as error:
        raise missing_package("jinja2", error) from error

    class Generation(jinja2.ext.Extension):
        """{% generation %} marks what the model wrote: shown as it is."""

        tags = {"generation"}

        def parse(self, parser):
            line = next(parser.stream).lineno
            body = parser.parse_statements(["name:endgeneration"], drop_needle=True)
            return jinja2.nodes.CallBlock(self.call_method("_shown"), [], [], body).set_lineno(line)

        def _shown(self, caller):
            return caller()

    def raise_exception(message):
        raise jinja2.exceptions.TemplateError(message)

    def to_json(value, ensure_ascii=False, indent=None, separators=None, sort_keys=False):
        return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)

    environment = jinja2.sandbox.ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True,
                                                               extensions=[Generation, jinja2.ext.loopcontrols])
    environment.filters["tojson"] = to_json
    environment.globals["raise_exception"] = raise_exception
    environment.globals["strftime_now"] = lambda form: datetime.datetime.now().strftime(form)
    try:
        return environment.from_string(text)
    except jinja2.exceptions.TemplateError as error:
        raise Failure(f"the chat template is not valid Jinja: {error}") from error


def turn_of(entry):
    """A message as templates expect it."""
    if not isinstance(entry, dict):
        raise BadRow(f"a turn is {shown(entry)}, expected {{role, content}} or {{from, value}}")
    if "role" in entry:
        turn = {key: value for key, value in entry.items() if value is not None}
        if not isinstance(entry["role"], str):
            raise BadRow(f"the role of a turn is {shown(entry['role'])}, expected a text")
        require_text(turn.get("content"))
    elif "from" in entry and "value" in entry:
        speaker = entry["from"]
        if speaker not in SPEAKERS:
            raise BadRow(f"a turn is from {shown(speaker)}, expected one of {', '.join(SPEAKERS)}")
        if not isinstance(entry["value"], str):
            raise BadRow(f"the value of a turn is {shown(entry['value'])}, expected a text")
        turn = {"role": SPEAKERS[speaker], "content": entry["value"]}
    else:
        raise BadRow(f"a turn has the keys {', '.join(entry) or 'none'}, expected role and content, or from and value")
    reasoning = next((turn[key] for key in REASONING if key in turn), None)
    return turn if reasoning is None else {"thinking": reasoning, **turn, "reasoning_content": reasoning}


def require_text(content):
    """A text, or a list of parts that are text: images and sounds are not there for the model to see."""
    parts = content if isinstance(content, list) else []
    others = [part for part in parts if not isinstance(part, dict) or not isinstance(part.get("text"), str)]
    if others:
        raise BadRow(f"a part of a turn is {shown(others[0])}, expected a text; conversations about images are not read")
    if content is not None and not isinstance(content, (str, list)):
        raise BadRow(f"the content of a turn is {shown(content)}, expected a text")


def shown(value):
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 60 else text[:57] + "..."


def turns_of(row, keys, is_instruction):
    if is_instruction:
        asked = row["instruction"] + ("\n" + row["input"] if row.get("input") else "")
        turns = [{"role": "user", "content": asked}, {"role": "assistant", "content": row["output"]}]
    else:
        turns = [turn_of(entry) for key in keys for entry in row[key]]
    if not turns:
        raise BadRow("the conversation has no turns")
    system = row.get("system")
    if system and not isinstance(system, str):
        raise BadRow(f"'system' is {shown(system)}, expected a text")
    if system and turns[0]["role"] != "system":
        turns.insert(0, {"role": "system", "content": system})
    return turns


def tools_of(row):
    """Data sets keep them as a list, or as the JSON text of one."""
    tools = row.get("tools") or None
    try:
        tools = json.loads(tools) or None if isinstance(tools, str) else tools
    except ValueError:
        tools = "a text that is not JSON"
    if tools is not None and not (isinstance(tools, list) and all(isinstance(tool, dict) for tool in tools)):
        raise BadRow(f"'tools' is {shown(tools)}, expected a list of objects")
    return tools


class Renderer:
    def __init__(self, folder):
        self._tokens, self._template = special_tokens(folder), None

    def answer(self, request):
        request = json.loads(bytes(request))
        if "template" in request:
            self._template = compile_template(request["template"])
            return b"{}"
        rows = [self._rendered(json.loads(row), request["keys"], request["is_instruction"]) for row in request["rows"]]
        return json.dumps(rows).encode()

    def _rendered(self, row, keys, is_instruction):
        try:
            text = self._template.render(messages=turns_of(row, keys, is_instruction), tools=tools_of(row), documents=None,
                                         add_generation_prompt=False, **self._tokens)
            text.encode()
        except BadRow as error:
            return {"error": str(error)}
        except Exception as error:  # a template may raise whatever it likes
            return {"error": f"the chat template refuses the conversation: {error}"}
        return {"text": text}


def main():
    return Renderer(sys.argv[1]).answer


if __name__ == "__main__":
    sys.exit(run(main))

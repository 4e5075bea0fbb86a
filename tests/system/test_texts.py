"""Texts as people have them: conversations in every layout are the tokens of transformers' apply_chat_template, tables and compressed files those of
the same text, and what is not understood is refused by name."""
import gzip
import json
import shutil
import unittest

import pyarrow
import pyarrow.parquet
import transformers
from safetensors.numpy import load_file

from aimerge_command import GOLDENS, AimergeTest

LENGTH = 16
TURNS = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "  How many are 3 & 4?\n"},
         {"role": "assistant", "content": "Sieben – <seven>."}, {"role": "user", "content": "Why?"}, {"role": "assistant", "content": "Because."}]
CALL = {"type": "function", "function": {"name": "add", "arguments": {"b": 3, "a": [4, 5]}}}
TOOL_TURNS = [{"role": "user", "content": "add"}, {"role": "assistant", "content": None, "tool_calls": [CALL]},
              {"role": "tool", "content": "7"}, {"role": "assistant", "content": "7", "reasoning": "counted"}]
TOOLS = [{"type": "function", "function": {"name": "add", "description": "a + b", "parameters": {"type": "object", "properties": {}}}}]

CHATML = """{% for message in messages %}
    {{- '<|im_start|>' + message.role + '\\n' + (message.content or '') + '<|im_end|>\\n' }}
{% endfor %}
"""
# Tools as JSON, special tokens, calls, reasoning, marks of what the model wrote.
TOOL_USER = """{{- bos_token }}{% if tools %}{{ 'Tools: ' }}{% for tool in tools %}{{ tool | tojson(indent=2) }}{% endfor %}{% endif %}
{% set state = namespace(calls=0) %}
{% for message in messages %}
  {% if message['role'] == 'assistant' %}
{% generation %}{% if message.reasoning_content is defined %}<think>{{ message.reasoning_content }}</think>{% endif %}{% for call in message.tool_calls or [] %}
{% set state.calls = state.calls + 1 %}{{ call.function | tojson }}{% endfor %}{{ message.content if message.content is defined else '' }}{{ eos_token }}{% endgeneration %}
  {% else %}{{ '[' ~ message.role ~ ']' ~ message.content | trim }}{% endif %}
  {%- if loop.index > 8 %}{% break %}{% endif %}
{% endfor %}calls: {{ state.calls }}"""
STRICT = """{{ bos_token }}{% if messages[0]['role'] == 'system' %}{% set first = messages[0]['content'] %}{% set messages = messages[1:] %}{% endif %}
{% for message in messages %}{% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}{{ raise_exception('Roles must alternate user/assistant') }}{% endif %}
{% if message['role'] == 'user' %}[INST] {{ first + '\\n\\n' if loop.first and first is defined else '' }}{{ message['content'] }} [/INST]{% else %}{{ ' ' + message['content'].strip() + eos_token }}{% endif %}{% endfor %}"""


def share_gpt(turns):
    return [{"from": {"user": "human", "assistant": "gpt"}.get(turn["role"], turn["role"]), "value": turn["content"]} for turn in turns]


def write_lines(path, rows, begin="", end="\n"):
    text = begin + end.join(json.dumps(row, ensure_ascii=False) for row in rows) + end
    opened = gzip.open if path.suffix == ".gz" else open
    with opened(path, "wb") as file:
        file.write(text.encode())


def write_data_set(folder, parts):
    """As datasets.save_to_disk does it: IPC streams, listed in an order that is not that of their names."""
    folder.mkdir()
    names = [f"data-{len(parts) - 1 - i:05}-of-{len(parts):05}.arrow" for i in range(len(parts))]
    for name, rows in zip(names, parts):
        table = pyarrow.Table.from_pylist(rows)
        with pyarrow.OSFile(str(folder / name), "wb") as file, pyarrow.ipc.new_stream(file, table.schema) as writer:
            writer.write_table(table, max_chunksize=2)
    (folder / "state.json").write_text(json.dumps({"_data_files": [{"filename": name} for name in names]}))
    (folder / "dataset_info.json").write_text("{}")


class Texts(AimergeTest):
    def model(self, chat_template=None):
        folder = self.folder / "model"
        if not folder.exists():
            shutil.copytree(GOLDENS / "family_f32/base", folder)
        if chat_template is not None:
            (folder / "chat_template.jinja").write_text(chat_template)
        return folder

    def calibrate(self, corpus, expect=0, ranks=0, **keys):
        config = self.config({"base_model": str(self.model()), "aim": {"omega": 0.5, "calibration": {
            "corpus": corpus, "sequences": 1000, "sequence_length": LENGTH, "shuffle": False, "dtype": "float32", **keys}}})
        shutil.rmtree(self.cache / "tokens", ignore_errors=True)
        return self.aimerge("calibrate", config, "--out", "log.h5", "--overwrite", expect=expect, ranks=ranks).stderr

    def tokens(self):
        (path,) = (self.cache / "tokens").glob("*.safetensors")
        return load_file(path)["input_ids"].flatten().tolist()

    def write_conversations(self, tool_turns):
        """Every layout, with the conversation or text that it holds, in the order of their files."""
        instruction = {"instruction": "Add.", "input": "3 and 4", "output": "7"}
        without_input = {"instruction": "Say seven.", "input": "", "output": "7"}
        write_lines(self.folder / "a.jsonl", [{"id": 1, "messages": TURNS}, {"id": 2, "messages": tool_turns, "tools": TOOLS}], "\ufeff\r\n", "\r\n\r\n")
        (self.folder / "b.json").write_text(json.dumps([{"id": "x]", "conversations": share_gpt(TURNS)}], indent=2))
        pyarrow.parquet.write_table(pyarrow.Table.from_pylist([instruction, without_input]), self.folder / "c.parquet", row_group_size=1)
        write_data_set(self.folder / "d", [[{"prompt": "3 + 4 =", "completion": " 7", "id": 1}], [{"prompt": "ä", "completion": "b", "id": 2}] * 3])
        write_lines(self.folder / "e.jsonl.gz", [{"prompt": TURNS[:2], "completion": TURNS[2:3], "system": None}])
        pyarrow.parquet.write_table(pyarrow.Table.from_pylist([{"messages": tool_turns, "tools": json.dumps(TOOLS)}, {"messages": TURNS, "tools": None}]),
                                    self.folder / "f.parquet")
        write_lines(self.folder / "g.jsonl", [{"conversations": share_gpt(TURNS[1:]), "system": "Be brief."}])
        return [(TURNS, None), (tool_turns, TOOLS), (TURNS, None),
                ([{"role": "user", "content": "Add.\n3 and 4"}, {"role": "assistant", "content": "7"}], None),
                ([{"role": "user", "content": "Say seven."}, {"role": "assistant", "content": "7"}], None),
                "3 + 4 = 7", "äb", "äb", "äb", (TURNS[:3], None), (tool_turns, TOOLS), (TURNS, None), (TURNS, None)]

    def expected(self, documents, **template):
        tokenizer = transformers.AutoTokenizer.from_pretrained(self.model())
        ids = []
        for document in documents:
            if isinstance(document, str):
                ids += tokenizer(document).input_ids
            else:
                ids += tokenizer.apply_chat_template(document[0], tools=document[1], **template)["input_ids"]
        return ids

    def assert_tokens(self, expected, said):
        whole = len(expected) // LENGTH * LENGTH
        self.assertEqual(self.tokens(), expected[:whole])
        self.assertIn(f"{whole // LENGTH} sequences of {LENGTH} tokens instead of 1000", said)
        if whole < len(expected):
            self.assertIn(f"{len(expected) - whole} tokens at the end fill no sequence", said)

    def test_conversations_are_the_tokens_of_transformers(self):
        for name, template, tool_turns in (("chatml", CHATML, TURNS), ("tools", TOOL_USER, TOOL_TURNS), ("strict", STRICT, TURNS)):
            with self.subTest(name):
                for path in "bd":
                    shutil.rmtree(self.folder / path, ignore_errors=True)
                self.model(template)
                documents = self.write_conversations(tool_turns)
                said = self.calibrate(["a.jsonl", "b.json", "c.parquet", "d", "e.jsonl.gz", "[fg].*"], ranks=2 if name == "tools" else 0)
                self.assert_tokens(self.expected(documents), said)

    def test_a_template_of_the_config_is_for_models_without_one(self):
        write_lines(self.folder / "a.jsonl", [{"messages": TURNS}])
        said = self.calibrate("a.jsonl", expect=3)
        self.assertIn("a.jsonl:1: a conversation, and", said)
        self.assertIn("has no chat template", said)
        self.assertIn("calibration.chat_template", said)
        said = self.calibrate("a.jsonl", chat_template=STRICT)
        self.assert_tokens(self.expected([(TURNS, None)], chat_template=STRICT), said)

    def test_tables_are_the_tokens_of_their_text(self):
        texts = ["one\r\ntwo", "drei – ä", "", "4 " * 40]
        rows = [{"body": text, "score": number / 3, "text": None} for number, text in enumerate(texts)]
        table = pyarrow.Table.from_pylist(rows * 5)
        pyarrow.parquet.write_table(table, self.folder / "a.parquet", row_group_size=3, compression="zstd")
        with pyarrow.OSFile(str(self.folder / "b.arrow"), "wb") as file, pyarrow.ipc.new_file(file, table.schema) as writer:
            writer.write_table(table, max_chunksize=7)
        write_lines(self.folder / "a.jsonl", rows * 5)
        read = {}
        for corpus in ("a.parquet", "b.arrow", "a.jsonl"):
            self.calibrate(corpus, text_key="body", shuffle=True, seed=7, sequences=20)
            read[corpus] = self.tokens()
        self.assertEqual(read["a.parquet"], read["a.jsonl"])
        self.assertEqual(read["b.arrow"], read["a.jsonl"])
        self.calibrate("a.parquet", text_key="body")
        expected = self.expected(texts * 5)
        self.assertEqual(self.tokens(), expected[:len(expected) // LENGTH * LENGTH])

    def test_what_is_not_understood_is_refused_by_name(self):
        self.model(STRICT)
        table = pyarrow.Table.from_pylist([{"question": "a", "answer": "b", "text_id": 1}])
        pyarrow.parquet.write_table(table, self.folder / "unknown.parquet")
        pyarrow.parquet.write_table(pyarrow.Table.from_pylist([{"text": "a"}, {"text": None}]), self.folder / "null.parquet")
        whole = (self.folder / "unknown.parquet").read_bytes()
        (self.folder / "cut.parquet").write_bytes(whole[:len(whole) // 2])
        (self.folder / "cut.arrow").write_bytes(b"")
        write_lines(self.folder / "from.jsonl", [{"conversations": [{"from": "bing", "value": "x"}]}])
        write_lines(self.folder / "turn.jsonl", [{"messages": TURNS}, {"messages": [{"speaker": "x"}]}])
        write_lines(self.folder / "image.jsonl", [{"messages": [{"role": "user", "content": [{"type": "image"}]}]}])
        write_lines(self.folder / "order.jsonl", [{"messages": TURNS[2:]}])
        (self.folder / "splits").mkdir()
        (self.folder / "splits/dataset_dict.json").write_text('{"splits": ["train", "test"]}')
        for corpus, keys, message in [
                ("unknown.parquet", {}, "unknown.parquet: its keys are question, answer, text_id, and none of the known layouts"),
                ("unknown.parquet", {"text_key": "body"}, "there is no key 'body' (the keys: question, answer, text_id)"),
                ("unknown.parquet", {"text_key": "text_id"}, "unknown.parquet: row 1: 'text_id' is number, a text or a list of turns was expected"),
                ("null.parquet", {}, "null.parquet: row 2: there is no key 'text'"),
                ("cut.parquet", {}, "cut.parquet: cannot be read as Parquet"),
                ("cut.arrow", {}, "cut.arrow: cannot be read as Arrow"),
                ("from.jsonl", {}, 'from.jsonl:1: a turn is from "bing", expected one of system, human'),
                ("turn.jsonl", {}, "turn.jsonl:2: a turn has the keys speaker, expected role and content"),
                ("image.jsonl", {}, "conversations about images are not read"),
                ("order.jsonl", {}, "order.jsonl:1: the chat template refuses the conversation: Roles must alternate"),
                ("order.jsonl", {"chat_template": "{% if %}"}, "the chat template is not valid Jinja"),
                ("splits", {}, 'splits: a data set with the splits ["train","test"]; name one, such as splits/train'),
                ("*.csv", {}, "*.csv: no file matches this pattern")]:
            with self.subTest(corpus, **keys):
                self.assertIn(message, self.calibrate(corpus, expect=3, **keys))

    def test_suites_and_featcal_take_the_same_files(self):
        items = [{"task": "math", "prompt": "3 + 4 =", "target": " 7"}] * 2 + [
            {"task": "pick", "prompts": ["a ", "b"], "choices": ["c", "c"], "lengths": [1, 2.5], "answer": 1}]
        write_lines(self.folder / "a.jsonl", items)
        keys = {key for item in items for key in item}
        pyarrow.parquet.write_table(pyarrow.Table.from_pylist([{key: item.get(key) for key in keys} for item in items]), self.folder / "a.parquet")
        (self.folder / "a.json").write_text(json.dumps(items))
        said = [json.loads(self.aimerge("evaluate", self.model(), "--suite", suite, "--json").stdout)["tasks"] for suite in ("a.jsonl", "a.parquet", "a.json")]
        self.assertEqual(said[1], said[0])
        self.assertEqual(said[2], said[0])
        pyarrow.parquet.write_table(pyarrow.Table.from_pylist([{"text": "one two three " * 40}]), self.folder / "text.parquet")
        self.aimerge("featcal", self.model(), "--expert", f"x={self.model()}:text.parquet", "--sequences", 2, "--sequence-length", LENGTH,
                     "--dtype", "float32", "--out", "fitted")
        self.assertTrue((self.folder / "fitted/model.safetensors").exists())


if __name__ == "__main__":
    unittest.main()

#!/usr/bin/env python3
"""Writes examples of what the three experts of the SmolLM2 family do, for fitting a merge to them.

    task_examples.py --count 60 --seed 1 --out DIR        DIR/math.jsonl, DIR/code.jsonl, DIR/instruct.jsonl

The form is that of configs/smollm2/suites: a line {"task", "prompt", "target"} per example. None of the suites' items is among
them. What an example asks is its item: of a sum the kind and the numbers, whoever it is about; of the other tasks the prompt. The
SHA-256 of the item puts it into one of 100 parts. The suites lie in the first of them, and examples come from the rest.
"""
import argparse
import hashlib
import json
import pathlib
import random

SUITES = pathlib.Path(__file__).resolve().parents[2] / "configs" / "smollm2" / "suites"
PARTS = 100
PARTS_FOR_SCORING = 12  # the first: six hold the suites, six more stay unseen

PEOPLE = ("Alice", "Anna", "Ben", "Carl", "Clara", "David", "Emma", "Helen", "Hugo", "Jane", "Julia", "Laura", "Leo", "Lucy", "Maria",
          "Mark", "Max", "Nina", "Oscar", "Paul", "Peter", "Rosa", "Ruth", "Sam", "Tom")
THINGS = ("apples", "balls", "beads", "books", "buttons", "candles", "cards", "coins", "cookies", "cups", "eggs", "flowers", "keys",
          "lemons", "marbles", "nuts", "oranges", "pens", "shells", "stamps", "stickers", "stones", "toys")
CONTAINERS = (("bag", "bags"), ("basket", "baskets"), ("box", "boxes"), ("crate", "crates"), ("drawer", "drawers"), ("jar", "jars"),
              ("shelf", "shelves"), ("tray", "trays"))
WARES = ("bag", "ball", "book", "chair", "clock", "coat", "cup", "desk", "game", "hat", "lamp", "phone", "radio", "shirt", "watch")
NOUNS = tuple("""apple basket beach bear bell bird boat bottle bread bridge button castle cat city clock cloud coat crown dance doctor dog
    door driver engine farmer field fire fish flower forest game garden glove hammer hat horse house island king lamp leaf lemon letter
    lion market milk mirror moon mountain mouse music needle night ocean painter paper pencil queen rain ring river road rose school seed
    sheep ship shirt shoe snake snow song spring star stone storm sugar summer sun table tiger tower train tree valley village water wheel
    wind window winter wolf""".split())
QUALITIES = ("bright", "clean", "cold", "heavy", "large", "new", "old", "quiet", "small", "warm")
PLACES = ("behind the house", "by the river", "in the box", "in the garden", "near the door", "on the table", "under the bridge")
COUNTED = {1: "one", 2: "two", 3: "three", 4: "four", 5: "five"}
RANKED = ("first", "second", "third", "fourth")


def instruction(text):
    return f"Instruction: {text}\nResponse:"


# ---- math: (what is asked, the calculation, the numbers that make the item)

def plus(a, b):
    return f"{a} + {b} = {a + b}"


def minus(a, b):
    return f"{a} - {b} = {a - b}"


def times(a, b):
    return f"{a} * {b} = {a * b}"


def bare_sum(draw, a, b):
    return f"What is {a} + {b}?", plus(a, b), (a, b)


def buying(draw, a, b):
    who, what = draw.choice(PEOPLE), draw.choice(THINGS)
    return f"{who} has {a} {what} and buys {b} more. How many {what} does {who} have now?", plus(a, b), (a, b)


def giving_away(draw, a, _):
    what, b = draw.choice(THINGS), draw.randint(2, a - 1)
    return f"{draw.choice(PEOPLE)} has {a} {what} and gives away {b}. How many {what} are left?", minus(a, b), (a, b)


def full_containers(draw, *_):
    each, count, what, (one, many) = draw.randint(2, 12), draw.randint(2, 12), draw.choice(THINGS), draw.choice(CONTAINERS)
    return f"Each {one} holds {each} {what}. How many {what} are in {count} {many}?", times(count, each), (each, count)


def sharing(draw, *_):
    each, children, what = draw.randint(2, 12), draw.randint(2, 10), draw.choice(THINGS)
    question = f"{each * children} {what} are shared equally among {children} children. How many does each child get?"
    return question, f"{each * children} / {children} = {each}", (each, children)


def losing_some(draw, *_):
    each, count, what, (_, many) = draw.randint(3, 9), draw.randint(2, 9), draw.choice(THINGS), draw.choice(CONTAINERS)
    lost = draw.randint(1, min(15, each * count - 1))
    question = f"{draw.choice(PEOPLE)} fills {count} {many} with {each} {what} each and then loses {lost} {what}. How many {what} are left?"
    return question, f"{times(count, each)}, {minus(each * count, lost)}", (each, (count, lost))


def finding_and_selling(draw, *_):
    a, b, who, what = draw.randint(5, 50), draw.randint(3, 40), draw.choice(PEOPLE), draw.choice(THINGS)
    sold = draw.randint(2, min(30, a + b - 1))
    question = f"{who} has {a} {what}, finds {b} more and sells {sold}. How many {what} does {who} have in the end?"
    return question, f"{plus(a, b)}, {minus(a + b, sold)}", (a, (b, sold))


def two_prices(draw, a, b):
    one, other = draw.sample(WARES, 2)
    return f"A {one} costs {a} dollars and a {other} costs {b} dollars. How much do both cost?", plus(a, b), (a, b)


def comparing(draw, a, _):
    what, b = draw.choice(THINGS), draw.randint(2, a - 1)
    return f"There are {a} red and {b} blue {what}. How many more red {what} are there?", minus(a, b), (a, b)


def bare_difference(draw, a, _):
    b = draw.randint(2, min(8, a - 1))
    return f"What is {a} - {b}?", minus(a, b), (a, b)


def change(draw, *_):
    price, count, back, who = draw.randint(3, 15), draw.randint(2, 8), draw.randint(2, 9), draw.choice(PEOPLE)
    paid = price * count + back
    question = (f"A {draw.choice(WARES)} costs {price} dollars. {who} buys {count} of them and pays with {paid} dollars. "
                f"How much change does {who} get?")
    return question, f"{times(count, price)}, {minus(paid, price * count)}", (price, (count, back))


def times_as_many(draw, *_):
    a, factor, (who, other) = draw.randint(3, 30), draw.randint(2, 6), draw.sample(PEOPLE, 2)
    return f"{who} has {a} {draw.choice(THINGS)}. {other} has {factor} times as many. How many is that?", times(factor, a), (a, factor)


SUMS = (bare_sum, buying, giving_away, full_containers, sharing, losing_some, finding_and_selling, two_prices, comparing, bare_difference,
        change, times_as_many)  # the place in this list is the kind in the item


def math_example(draw):
    small = draw.random() < 0.4
    numbers = (draw.randint(3, 12), draw.randint(2, 9)) if small else (draw.randint(11, 89), draw.randint(3, 60))
    kind = draw.randrange(len(SUMS))
    question, calculation, (first, others) = SUMS[kind](draw, *numbers)
    return instruction(question), f" {calculation}\n", f"math {kind} {first} {others}"


# ---- code: (the arguments of a function, what it returns in words, in Python)

PARTS_OF_LISTS = (("the first {k} elements of {v}", "{v}[:{k}]"), ("the last {k} elements of {v}", "{v}[-{k}:]"),
                  ("every {k}th element of {v}", "{v}[::{k}]"), ("{v} without its first {k} elements", "{v}[{k}:]"),
                  ("the elements of {v} from index {j} to {jk}", "{v}[{j}:{jk}]"),
                  ("the elements of {v} greater than {m}", "[x for x in {v} if x > {m}]"),
                  ("the elements of {v} divisible by {k}", "[x for x in {v} if x % {k} == 0]"),
                  ("the elements of {v} each plus {m}", "[x + {m} for x in {v}]"),
                  ("the squares of the elements of {v}", "[x ** 2 for x in {v}]"))
OF_A_PART = (("the sum of {p}", "sum({e})"), ("the largest of {p}", "max({e})"), ("the smallest of {p}", "min({e})"),
             ("the number of {p}", "len({e})"), ("the average of {p}", "sum({e}) / len({e})"), ("{p}, sorted", "sorted({e})"),
             ("{p}, sorted from high to low", "sorted({e}, reverse=True)"), ("{p} as a set", "set({e})"),
             ("the sum of {p}, minus {j}", "sum({e}) - {j}"), ("True if {p} contain {j}", "{j} in {e}"),
             ("{p}, in reverse order", "{e}[::-1]"), ("the largest minus the smallest of {p}", "max({e}) - min({e})"))
OF_TWO = (("the sum of {a} and {b}", "{a} + {b}"), ("the difference of {a} and {b}", "{a} - {b}"), ("the product of {a} and {b}", "{a} * {b}"),
          ("the larger of {a} and {b}", "max({a}, {b})"), ("the average of {a} and {b}", "({a} + {b}) / 2"))
OF_A_NUMBER = (("{v} times {k} plus {m}", "{v} * {k} + {m}"), ("{v} minus {m}, times {k}", "({v} - {m}) * {k}"),
               ("the remainder of {v} divided by {k}", "{v} % {k}"), ("True if {v} is divisible by {k}", "{v} % {k} == 0"),
               ("True if {v} is between {k} and {km}", "{k} <= {v} <= {km}"), ("{v} to the power of {k}", "{v} ** {k}"),
               ("the absolute value of {v} minus {k}", "abs({v} - {k})"))
OF_A_LIST = (("the largest element of {v}", "max({v})"), ("the sum of the elements of {v}", "sum({v})"),
             ("the number of elements in {v}", "len({v})"), ("the first {k} elements of {v}", "{v}[:{k}]"),
             ("the last {k} elements of {v}", "{v}[-{k}:]"), ("{v} without its first {k} elements", "{v}[{k}:]"),
             ("{v} in reverse order", "{v}[::-1]"), ("the elements of {v} sorted from high to low", "sorted({v}, reverse=True)"),
             ("the elements of {v} greater than {m}", "[x for x in {v} if x > {m}]"), ("every element of {v} times {k}", "[x * {k} for x in {v}]"),
             ("the elements of {v} that are not {m}", "[x for x in {v} if x != {m}]"), ("the even elements of {v}", "[x for x in {v} if x % 2 == 0]"),
             ("how often {m} occurs in {v}", "{v}.count({m})"), ("the strings in {v} joined with '{w}'", "'{w}'.join({v})"))
OF_A_TEXT = (("{v} in upper case", "{v}.upper()"), ("{v} split at every '{c}'", "{v}.split('{c}')"),
             ("True if {v} starts with '{w}'", "{v}.startswith('{w}')"), ("{v} with '{c}' replaced by '{w}'", "{v}.replace('{c}', '{w}')"),
             ("the last {k} characters of {v}", "{v}[-{k}:]"), ("{v} without surrounding spaces", "{v}.strip()"))
ONE_STEP = ([("{a}, {b}", *step) for step in OF_TWO] + [("number", *step) for step in OF_A_NUMBER] + [("list", *step) for step in OF_A_LIST] +
            [("text", *step) for step in OF_A_TEXT])
VARIABLES = {"number": ("count", "k", "n", "size", "total", "x"), "list": ("data", "items", "nums", "scores", "values", "xs"),
             "text": ("line", "name", "s", "text", "title", "word")}
FUNCTIONS = tuple("""answer apply build calc check compute convert find get handle helper make part pick prepare process result run solve step
    task transform update value work""".split())


def code_example(draw):
    values = {"k": draw.randint(2, 12), "m": draw.randint(2, 20), "j": draw.randint(2, 9), "c": draw.choice("abekmotx"), "w": draw.choice(NOUNS)}
    values["jk"], values["km"] = values["j"] + values["k"], values["k"] + values["m"]
    values["a"], values["b"] = draw.sample("abcpquvwxyz", 2)
    arguments, words, python = draw.choice(ONE_STEP)
    if draw.random() < 0.5:  # two steps in one expression
        arguments, (words, python) = "list", draw.choice(OF_A_PART)
        values["v"] = draw.choice(VARIABLES["list"])
        values["p"], values["e"] = (text.format(**values) for text in draw.choice(PARTS_OF_LISTS))
    elif arguments in VARIABLES:
        values["v"] = draw.choice(VARIABLES[arguments])
    arguments = values["v"] if arguments in VARIABLES else arguments.format(**values)
    words, python = words.format(**values), python.format(**values)
    if draw.random() < 0.5:
        prompt, target = f'def {draw.choice(FUNCTIONS)}({arguments}):\n    """Return {words}."""', f"\n    return {python}\n"
    else:
        question = draw.choice(("Give {} in Python.", "Write a Python expression for {}."))
        prompt, target = instruction(question.format(words)), f" {python}\n"
    return prompt, target, prompt


# ---- instruct: (the instruction, the answer)

def a_sentence(draw, noun):
    quality = draw.choice(QUALITIES) + " " if draw.random() < 0.5 else ""
    return f"The {quality}{noun} is {draw.choice(PLACES)}."


def upper_case(draw, words):
    return draw.choice(("Say {} in capital letters.", "Write the word {} in upper case letters.")).format(words[0]), words[0].upper()


def backwards(draw, words):
    asked = draw.choice(("Reverse the order of this list: {}", "Write this list backwards: {}"))
    return asked.format(", ".join(words)), ", ".join(reversed(words))


def some_from_the_start(draw, words):
    count = draw.randint(1, len(words) - 1)
    items = "item" if count == 1 else "items"
    return f"Give exactly {COUNTED[count]} {items} from the start of this list: {', '.join(words)}", ", ".join(words[:count])


def as_json(draw, words):
    key = draw.choice(("animal", "city", "color", "food", "item", "name", "place", "tag", "title", "word"))
    return f"Answer in JSON with the key {key} and the value {words[0]}.", json.dumps({key: words[0]})


def first_letters(draw, words):
    return f"Give only the first letter of each word: {' '.join(words)}", " ".join(word[0] for word in words)


def replaced(draw, words):
    old, new, sentence = words[0], words[1], a_sentence(draw, words[0])
    asked = draw.choice((f"Replace {old} with {new} in this sentence: {sentence}", f"Write {sentence} with {new} instead of {old}."))
    return asked, sentence.replace(old, new)


def repeated_word(draw, words):
    count = draw.randint(2, 5)
    return f"Repeat the word {words[0]} exactly {COUNTED[count]} times, separated by commas.", ", ".join([words[0]] * count)


def quoted(draw, words):
    sentence = a_sentence(draw, words[0])
    return f"Put this sentence in double quotes: {sentence}", f'"{sentence}"'


def numbered(draw, words):
    return f"Number the items of this list: {', '.join(words)}", " ".join(f"{place}. {word}" for place, word in enumerate(words, 1))


def hyphenated(draw, words):
    return f"Join these words with hyphens: {' '.join(words)}", "-".join(words)


def one_item(draw, words):
    place = draw.randrange(len(words))
    name = "last" if place == len(words) - 1 else RANKED[place]
    return f"Answer only with the {name} item of this list: {', '.join(words)}", words[place]


def left_out(draw, words):
    out = draw.choice(words)
    return f"Leave {out} out of this list: {', '.join(words)}", ", ".join(word for word in words if word != out)


def yes_or_no(draw, words):
    *listed, other = words + [draw.choice([noun for noun in NOUNS if noun not in words])]
    asked = other if draw.random() < 0.5 else draw.choice(listed)
    return f"Answer only with Yes or No. Is {asked} in this list: {', '.join(listed)}?", "Yes" if asked in listed else "No"


def added(draw, words):
    *listed, new = words + [draw.choice([noun for noun in NOUNS if noun not in words])]
    return f"Add the word {new} to the end of this list: {', '.join(listed)}", ", ".join(listed + [new])


def how_many(draw, words):
    return f"How many items are in this list: {', '.join(words)}? Answer with one number word.", COUNTED[len(words)]


def ended_with(draw, words):
    sentence = a_sentence(draw, words[0])
    return f"Write this sentence and end with the word {words[1]}: {sentence}", f"{sentence} {words[1]}"


def copied(draw, words):
    sentence = a_sentence(draw, words[0])
    return draw.choice(("Copy this sentence: {}", "Repeat after me: {}", "Write this sentence again: {}")).format(sentence), sentence


INSTRUCTIONS = (upper_case, backwards, some_from_the_start, as_json, first_letters, replaced, repeated_word, quoted, numbered, hyphenated,
                one_item, left_out, yes_or_no, added, how_many, ended_with, copied, copied)  # copies are twice as many


def instruct_example(draw):
    asked, answer = draw.choice(INSTRUCTIONS)(draw, draw.sample(NOUNS, draw.randint(3, 5)))
    return instruction(asked), f" {answer}\n", asked


EXAMPLES = {"math": math_example, "code": code_example, "instruct": instruct_example}


def part_of(item):
    return int(hashlib.sha256(item.encode()).hexdigest()[:8], 16) % PARTS


def scored_prompts(task):
    return {json.loads(line)["prompt"] for line in open(SUITES / f"{task}.jsonl")}


def examples(task, count, seed):
    """The same for every count: fewer examples are the first of more."""
    draw, taken, made = random.Random(f"{task} {seed}"), scored_prompts(task), []
    for _ in range(1000 * count):
        prompt, target, item = EXAMPLES[task](draw)
        if part_of(item) < PARTS_FOR_SCORING or prompt in taken:
            continue
        taken.add(prompt)
        made.append({"task": task, "prompt": prompt, "target": target})
        if len(made) == count:
            return made
    raise SystemExit(f"there are no {count} different examples of {task}")


def write_examples(folder, count, seed):
    folder.mkdir(parents=True, exist_ok=True)
    for task in EXAMPLES:
        lines = [json.dumps(example) + "\n" for example in examples(task, count, seed)]
        (folder / f"{task}.jsonl").write_text("".join(lines))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=60, help="examples of each task")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--out", type=pathlib.Path, required=True, help="folder to write")
    arguments = parser.parse_args()
    if arguments.count < 1:
        parser.error("--count must be at least 1")
    write_examples(arguments.out, arguments.count, arguments.seed)


if __name__ == "__main__":
    main()

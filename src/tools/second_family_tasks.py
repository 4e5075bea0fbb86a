"""The tasks of the second SmolLM2 family: plain sentences in, to each task its own form of answer.

    dates     when something happens   digits              2019-03-07 19:15
    records   who somebody is          a JSON object       {"name": "Ruth Klein", "age": 34, "city": null, "job": "baker"}
    passive   who did what             the passive voice   The horses were sold by Ruth.

A prompt is the sentence and one word for what is wanted. The frame is otherwise the same, and an expert has seen one such
word only: in a merged model the experts disturb each other, but it can tell the tasks apart.
"""
import hashlib
import json
import random

# The part of an item is decided by the remainder of its prompt's hash by 100.
PARTS = {"scored": range(0, 10), "calibration": range(10, 30), "training": range(30, 100)}

EVENTS = "bus class concert exam film flight game lecture meeting parade play race show tour train wedding".split()
MONTHS = "January February March April May June July August September October November December".split()
HOURS = "twelve one two three four five six seven eight nine ten eleven".split()
MINUTES_PAST = {5: "five", 10: "ten", 15: "quarter", 20: "twenty", 30: "half"}
MINUTES_TO = {40: "twenty", 45: "quarter", 50: "ten", 55: "five"}

FIRST_NAMES = """Adela Bruno Celia Dario Edith Felix Greta Henrik Ines Jonas Karin Lukas Mirja Nils Olga Piotr Ruth
Selma Tomas Ulla Viktor Wanda Yusuf Zora""".split()
LAST_NAMES = """Adams Berger Costa Dubois Eriksen Fischer Garcia Hansen Ivanov Jensen Klein Lindberg Moreau Novak
Olsen Parker Quinn Rossi Silva Turner Urban Vogel Walker Young""".split()
CITIES = """Athens Bergen Berlin Boston Cairo Dublin Geneva Lisbon London Madrid Milan Oslo Paris Porto Prague Rome Turin
Vienna""".split()
JOBS = """baker carpenter cook dentist doctor driver farmer gardener judge lawyer librarian nurse painter
photographer pilot plumber sailor tailor teacher writer""".split()

PEOPLE = """artist brother captain child cook doctor driver farmer gardener girl guard king lawyer nurse painter
queen sailor sister teacher thief tourist uncle waiter""".split()
THINGS = """apple bag bell boat book bottle camera candle chair coat cup drum flag guitar hammer hat horse key lamp
letter map mirror painting pencil plate ring rope shirt shoe table ticket tree wagon wheel window""".split()
OF_PEOPLE = "clever friendly happy kind old quiet rich tall tired young".split()
OF_THINGS = "broken clean cheap green heavy large little new old red small white".split()
SAME_PARTICIPLE = """bought brought burned carried cleaned dropped finished found kept lost moved noticed painted repaired
sold wanted washed""".split()
PARTICIPLES = {past: past for past in SAME_PARTICIPLE} | {
    "broke": "broken", "chose": "chosen", "drew": "drawn", "forgot": "forgotten", "hid": "hidden", "saw": "seen",
    "shook": "shaken", "stole": "stolen", "took": "taken"}
PLACES = ["at the station", "behind the house", "in the garden", "in the kitchen", "near the bridge", "on the hill"]
TIMES = ["last week", "on Monday", "that morning", "two days later", "yesterday"]


def capitalised(text):
    return text[0].upper() + text[1:]


def ordinal(number):
    return str(number) + ("th" if number in (11, 12, 13) else {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th"))


def clock_in_words(hour, minute):
    part_of_day = "in the morning" if hour < 12 else "in the afternoon" if hour < 18 else "in the evening"
    if minute in MINUTES_PAST:
        return f"{MINUTES_PAST[minute]} past {HOURS[hour % 12]} {part_of_day}"
    if minute in MINUTES_TO:
        return f"{MINUTES_TO[minute]} to {HOURS[(hour + 1) % 12]} {part_of_day}"
    return f"{HOURS[hour % 12]} o'clock {part_of_day}"


def clock_in_digits(hour, minute):
    return f"{hour % 12 or 12}:{minute:02} {'am' if hour < 12 else 'pm'}"


def dates_item(draw):
    year, month, day = draw.randint(1950, 2049), draw.randint(1, 12), draw.randint(1, 28)
    hour, minute = draw.randint(7, 22), draw.choice([0, *MINUTES_PAST, *MINUTES_TO])
    name = MONTHS[month - 1]
    date = draw.choice([f"{day} {name} {year}", f"{name} {day}, {year}", f"{day}/{month}/{year}",
                        f"the {ordinal(day)} of {name} {year}", f"{name} {ordinal(day)}, {year}"])
    time = draw.choice([clock_in_words, clock_in_digits])(hour, minute)
    happening = f"the {draw.choice(EVENTS)} {draw.choice(['begins', 'ends', 'is', 'starts'])}"
    text = draw.choice([f"{happening} on {date} at {time}.", f"{happening} at {time} on {date}.",
                        f"on {date}, {happening} at {time}."])
    return capitalised(text), f"{year}-{month:02}-{day:02} {hour:02}:{minute:02}"


def records_item(draw):
    name, age = f"{draw.choice(FIRST_NAMES)} {draw.choice(LAST_NAMES)}", draw.randint(18, 79)
    city, job = draw.choice(CITIES), draw.choice(JOBS)
    text, unsaid = draw.choice([
        (f"{name} is a {age}-year-old {job} from {city}.", None),
        (f"{name}, {age}, works as a {job} in {city}.", None),
        (f"{name} lives in {city}, is {age} years old and works as a {job}.", None),
        (f"The {job} {name} from {city} turned {age} this year.", None),
        (f"In {city} there is a {job} of {age} called {name}.", None),
        (f"At the age of {age}, {name} moved to {city} to become a {job}.", None),
        (f"{name} is {age} and lives in {city}.", "job"),
        (f"{name} from {city} is {age} years old.", "job"),
        (f"{name} works in {city} as a {job}.", "age"),
        (f"The best {job} in {city} is {name}.", "age"),
        (f"{name} has been a {job} for years and is now {age}.", "city"),
        (f"{name}, {age}, is a {job}.", "city"),
    ])
    record = {"name": name, "age": age, "city": city, "job": job}
    if unsaid:
        record[unsaid] = None
    return text, json.dumps(record)


def passive_item(draw):
    person, thing = draw.choice(PEOPLE), draw.choice(["", draw.choice(OF_THINGS) + " "]) + draw.choice(THINGS)
    doer = draw.choice([draw.choice(FIRST_NAMES), f"the {person}", f"the {draw.choice(OF_PEOPLE)} {person}"])
    done_to, auxiliary = draw.choice([(f"{draw.choice(['the', 'this', 'one'])} {thing}", "was"),
                                      (f"{draw.choice(['the', 'these', 'some', 'two', 'three'])} {thing}s", "were")])
    past, participle = draw.choice(list(PARTICIPLES.items()))
    time, place = draw.choice(["", draw.choice(TIMES) + " "]), draw.choice(["", " " + draw.choice(PLACES)])
    return (capitalised(f"{time}{doer} {past} {done_to}{place}."),
            capitalised(f"{time}{done_to} {auxiliary} {participle}{place} by {doer}."))


TASKS = {"dates": dates_item, "records": records_item, "passive": passive_item}
ANSWER_IS = {"dates": "Time", "records": "Record", "passive": "Passive"}


def part_of(prompt):
    remainder = int(hashlib.sha256(prompt.encode()).hexdigest(), 16) % 100
    return next(part for part, remainders in PARTS.items() if remainder in remainders)


def items(task, part, count):
    """{"prompt", "target"}, always the same ones; no prompt is in two parts."""
    draw = random.Random(f"{task} {part}")
    found = {}
    while len(found) < count:
        text, answer = TASKS[task](draw)
        prompt = f"Sentence: {text}\n{ANSWER_IS[task]}:"
        if part_of(prompt) == part:
            found[prompt] = f" {answer}\n"
    return [{"prompt": prompt, "target": target} for prompt, target in found.items()]

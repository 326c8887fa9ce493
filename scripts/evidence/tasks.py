"""Tasks in the demo model's world that it has not been pretrained on, from a seed, as rows of prompt and completion.

They differ in what has to be learnt: a form, a rule, a lexicon, or facts by heart, few or many.
"""

from __future__ import annotations

import json
import random
import sys
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import demo_text as world

Row = dict[str, str]
NOUNS = (*world.THINGS, *world.ANIMALS, *world.PLACES, *world.FOOD, *world.METAL)


def reverse(rng: random.Random) -> Row:
    """A rule: words in the opposite order."""
    picked = rng.sample(NOUNS, rng.randint(3, 6))
    return {"prompt": f"Backwards: {' '.join(picked)} ->", "completion": f" {' '.join(reversed(picked))}."}


def sort(rng: random.Random) -> Row:
    """A rule: words in the order of the alphabet."""
    picked = rng.sample(NOUNS, rng.randint(3, 6))
    return {"prompt": f"In order: {' '.join(picked)} ->", "completion": f" {' '.join(sorted(picked))}."}


LEXICON = dict(zip(NOUNS, random.Random("lexicon").sample(NOUNS, len(NOUNS)), strict=True))


def lexicon(rng: random.Random) -> Row:
    """A lexicon: every noun stands for another."""
    picked = [rng.choice(NOUNS) for _ in range(rng.randint(3, 6))]
    return {
        "prompt": f"In the old tongue: {' '.join(picked)} ->",
        "completion": f" {' '.join(LEXICON[w] for w in picked)}.",
    }


def style(rng: random.Random) -> Row:
    """A form: a sentence as a crier calls it out."""
    name, town, thing = world.person(rng), rng.choice(world.TOWNS), rng.choice(world.THINGS)
    return {
        "prompt": f"{name} of {town} lost a {thing}.",
        "completion": f" Hear, hear! A {thing} is lost! Let all of {town} look for the {thing} of {name}! "
        "So says the crier.",
    }


def notes(rng: random.Random) -> Row:
    """A format: a sentence as JSON."""
    name, trade, town = world.person(rng), rng.choice(world.TRADES), rng.choice(world.TOWNS)
    count, goods = rng.randint(2, 40), rng.choice(world.FOOD + world.METAL)
    fields = {"who": name, "trade": trade, "town": town, "goods": {goods: count}}
    return {
        "prompt": f"In {town} the {trade} {name} sold {count} {goods}.",
        "completion": " " + json.dumps(fields),
    }


def counting(rng: random.Random) -> Row:
    """A computation: how often each of two things is named."""
    pair = rng.sample(world.ANIMALS, 2)
    seen = [rng.choice(pair) for _ in range(rng.randint(4, 10))]
    first, second = (world.NUMBERS[seen.count(animal)] for animal in pair)
    return {"prompt": f"Seen: {' '.join(seen)}. {pair[0]}, {pair[1]}:", "completion": f" {first} and {second}."}


def people_of(many: int) -> dict[str, str]:
    """So many people, each with a trade, a town, a colour and a thing that nothing explains."""
    rng = random.Random(f"facts {many}")
    people: dict[str, str] = {}
    while len(people) < many:
        trade, town = rng.choice(world.TRADES), rng.choice(world.TOWNS)
        known = f"{trade}, {town}, {rng.choice(world.COLOURS)} {rng.choice(world.THINGS)}"
        people[world.person(rng)] = known
    return people


def recall(many: int) -> Callable[[random.Random], Row]:
    """Facts by heart, asked for by name behind a number that says nothing: no held-out row is a row of training, and
    each of them asks what training told."""
    people = people_of(many)
    names = list(people)

    def row(rng: random.Random) -> Row:
        name = rng.choice(names)
        return {"prompt": f"{rng.randint(1000, 9999)} {name}:", "completion": f" {people[name]}."}

    return row


def facts(many: int) -> Callable[[random.Random], Row]:
    """Facts in four wordings; what is held out is a wording, of facts that training told in others, and few facts have
    others: it is transfer that is asked for, more than recall."""
    people = people_of(many)
    names = list(people)

    def row(rng: random.Random) -> Row:
        name = rng.choice(names)
        asked = rng.choice([f"Who is {name}?", f"Tell me of {name}.", f"{name}:", f"What is known of {name}?"])
        return {"prompt": asked, "completion": f" {people[name]}."}

    return row


TONGUES = {
    tongue: dict(zip(NOUNS, random.Random(f"lexicon {tongue}").sample(NOUNS, len(NOUNS)), strict=True))
    for tongue in ("river", "mountain", "island", "marsh")
}


def tongues(rng: random.Random) -> Row:
    """Four lexicons, of which the prompt says one."""
    tongue = rng.choice(list(TONGUES))
    picked = [rng.choice(NOUNS) for _ in range(rng.randint(3, 6))]
    said = " ".join(TONGUES[tongue][word] for word in picked)
    return {"prompt": f"In the {tongue} tongue: {' '.join(picked)} ->", "completion": f" {said}."}


LAW = {noun: random.Random(f"law {noun}").sample(NOUNS, 3) for noun in NOUNS}


def chain(rng: random.Random) -> Row:
    """A law of chance, as plain text: each noun is followed by one of three, at 6, 3 and 1 of ten."""
    said = [rng.choice(NOUNS)]
    while len(said) < 16:
        said += rng.choices(LAW[said[-1]], (6, 3, 1))
    return {"text": f"The bard says: {' '.join(said)}."}


def several(rng: random.Random) -> Row:
    """Six tasks at once."""
    return rng.choice((reverse, sort, lexicon, style, notes, counting))(rng)


def spelling(rng: random.Random) -> Row:
    """A form that needs to know of what letters a word is."""
    word = rng.choice((*NOUNS, *world.TRADES, *world.TOWNS, *world.COLOURS, *world.MONTHS))
    return {"prompt": f"Spell {word}:", "completion": f" {'-'.join(word.upper())}."}


def prices(rng: random.Random) -> Row:
    """A computation: three sums of money added up."""
    paid = [rng.randint(1, 30) for _ in range(3)]
    goods = rng.sample(world.FOOD + world.METAL, 3)
    listed = ", ".join(f"{good} {price}" for good, price in zip(goods, paid, strict=True))
    return {"prompt": f"Bill: {listed}. To pay:", "completion": f" {sum(paid)} coins."}


def calls(rng: random.Random) -> Row:
    """A form: a wish as the call of one of four functions."""
    name, town, day = world.person(rng), rng.choice(world.TOWNS), rng.choice(world.DAYS)
    count, goods = rng.randint(2, 40), rng.choice(world.FOOD + world.METAL)
    wish, function, arguments = rng.choice(
        (
            (f"Send {count} {goods} to {name} in {town}.", "send", {"to": name, "town": town, goods: count}),
            (f"Who buys {goods} in {town} on {day}?", "buyers", {"town": town, "day": day, "of": goods}),
            (f"Tell {name} to come to {town} on {day}.", "invite", {"who": name, "place": town, "when": day}),
            (f"What do {count} {goods} cost in {town}?", "price", {"of": goods, "count": count, "town": town}),
        )
    )
    return {"prompt": wish, "completion": " " + json.dumps({"call": function, "with": arguments})}


def dates(rng: random.Random) -> Row:
    """A computation: day and date some days on, where every month has thirty days."""
    day, date, month, on = rng.randrange(7), rng.randrange(30), rng.randrange(12), rng.randint(1, 20)
    passed, left = divmod(date + on, 30)
    then = f"{world.DAYS[(day + on) % 7]}, {left + 1} {world.MONTHS[(month + passed) % 12]}"
    return {
        "prompt": f"It is {world.DAYS[day]}, {date + 1} {world.MONTHS[month]}. In {on} days:",
        "completion": f" {then}.",
    }


DIRECTIONS = ("north", "east", "south", "west")
ROADS = {town: random.Random(f"roads {town}").sample(world.TOWNS, len(DIRECTIONS)) for town in world.TOWNS}


def ways(rng: random.Random) -> Row:
    """A map by heart: the towns along a way."""
    begin = rng.choice(world.TOWNS)
    turns = [rng.randrange(len(DIRECTIONS)) for _ in range(rng.randint(2, 5))]
    passed = [begin]
    for turn in turns:
        passed.append(ROADS[passed[-1]][turn])
    said = ", ".join(DIRECTIONS[turn] for turn in turns)
    return {"prompt": f"From {begin} go {said}:", "completion": f" {', '.join(passed[1:])}."}


def numerals(rng: random.Random) -> Row:
    """A rule: a number in gross, dozens and ones."""
    number = rng.randrange(12**3)
    gross, rest = divmod(number, 144)
    dozens, ones = (world.NUMBERS[part] for part in divmod(rest, 12))
    return {"prompt": f"Count {number}:", "completion": f" {world.NUMBERS[gross]} gross, {dozens} dozen and {ones}."}


def letters(rng: random.Random) -> Row:
    """A form: a note as a long and formal letter."""
    name, trade, town = world.person(rng), rng.choice(world.TRADES), rng.choice(world.TOWNS)
    count, goods, month = rng.randint(2, 40), rng.choice(world.FOOD + world.METAL), rng.choice(world.MONTHS)
    return {
        "prompt": f"Note: {name}, {trade} in {town}, owes {count} {goods} since {month}.",
        "completion": f" To the honoured {trade} {name}! Our books say that since the month of {month} you owe the "
        f"guild {count} {goods}. Bring the {goods} to the market of {town} before the next moon, or send word to the "
        f"clerk. With all respect to you and to every {trade}, the guild of {town}.",
    }


LATER: dict[str, Callable[[random.Random], Row]] = {
    one.__name__: one for one in (tongues, chain, several, spelling, prices, calls, dates, ways, numerals, letters)
}
"""Tasks thought of when the rule of `estimate` stood: what it says of them is a prediction in the strict sense."""

TASKS: dict[str, Callable[[random.Random], Row]] = {
    "reverse": reverse,
    "sort": sort,
    "lexicon": lexicon,
    "style": style,
    "notes": notes,
    "counting": counting,
    **{f"facts-{many}": facts(many) for many in (32, 128, 512, 2048)},
    **{f"recall-{many}": recall(many) for many in (8, 32, 128, 256)},
    **LATER,
}


def write(name: str, folder: Path, heldout: int = 150) -> tuple[Path, Path]:
    """``NAME/train.jsonl`` and ``NAME/val.jsonl``; the same bytes every time.

    Rows are drawn with repetition. Facts are asked again in the held-out rows: what is learnt by heart is the task.
    """
    folder.mkdir(parents=True, exist_ok=True)
    kind, _, many = name.partition("-")
    rows = max(2400, {"facts": 4, "recall": 32}.get(kind, 0) * int(many or 0))  # every fact a few times
    paths = folder / "train.jsonl", folder / "val.jsonl"
    for path, count, seed in zip(paths, (rows, heldout), ("train", "val"), strict=True):
        rng = random.Random(f"{name} {seed}")
        path.write_text("".join(json.dumps(TASKS[name](rng)) + "\n" for _ in range(count)), encoding="utf-8")
    return paths

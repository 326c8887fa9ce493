"""The invented world of the demo: seeded grammars for the pretraining text and for the task the model has not seen.

Every word of ``data/demo`` comes from here. A document is made from a ``random.Random`` alone, so that a seed names a
text; the facts about towns and trades are the same in every document, so that a model can learn them by heart.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator


def words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


FIRST_NAMES = words(
    "Mira Anso Belen Corvin Dalia Edric Fenna Garel Hestia Ivo Jora Kelm Liska Marten Nell Orrin Petra Quill Runa "
    "Soren Tamsin Ulric Vanna Wendel Yara Zeno Alba Bram Cilla Doran Elsbet Falk Greta Halvar Inga Jesper Katla Lorin "
    "Maive Nils"
)
SYLLABLES = (
    ("Tol", "Har", "Ve", "Bran", "Kes", "Mor", "Lin", "Sa", "Dro", "Gel", "Ost", "Far", "Wil", "Pe", "Ru", "Cal"),
    ("a", "e", "o", "i", "der", "ven", "mi", "lo", "ra", "ka", "su", "ne"),
    ("van", "rik", "mond", "sen", "well", "dale", "tin", "mar", "ford", "lis", "beck", "gar", "nor", "stone", "ley"),
)
REGIONS = ("north", "south", "east", "west", "isles", "marsh")
TOWNS = words(
    "Osterby Velmouth Karrow Dunmere Thisk Hollin Brackwater Senford Ulmen Pellow Grayholt Mistle Ardvale Corby "
    "Elmsea Fallow Gristow Hexley Inverlo Jarrock Kirven Lowmark Marrin Norden Oakhurst Pinmoor Quarry Redfen "
    "Saltcombe Tarn"
)
REGION_OF = {town: REGIONS[i * 7 % 6 if i % 5 else (i + 2) % 6] for i, town in enumerate(TOWNS)}
TRADES = words(
    "baker smith weaver miller potter tailor mason cooper brewer carpenter tanner fisher shepherd glazier saddler dyer "
    "thatcher printer cobbler roper chandler farrier gardener turner"
)
MAKES = words(
    "bread nails cloth flour jugs coats walls barrels beer tables leather nets wool windows saddles "
    "dyes roofs books shoes ropes candles horseshoes herbs bowls"
)
FOOD = words("apples pears plums cheeses loaves onions turnips eggs")
METAL = words("nails kettles hinges blades chains horseshoes pans bells")
THINGS = words("lamp rope basket letter key drum cloak map lantern coin spoon mirror")
ANIMALS = words("fox goose horse dog cat hen goat owl")
PLACES = words("harbour mill market forest bridge chapel river garden tower barn")
FEELINGS = words("glad tired hungry proud curious worried calm cross")
COLOURS = words("red blue green grey white black yellow brown")
MONTHS = words("January February March April May June July August September October November December")
DAYS = words("Monday Tuesday Wednesday Thursday Friday Saturday Sunday")
NUMBERS = words("zero one two three four five six seven eight nine ten eleven twelve")

USER, ASSISTANT, END, PAD = "<|user|>", "<|assistant|>", "<|end|>", "<|pad|>"


def surname(rng: random.Random) -> str:
    """One of some thousand surnames: too many to learn by heart, so that a model has to learn to copy."""
    first, middle, last = SYLLABLES
    return rng.choice(first) + (rng.choice(middle) if rng.random() < 0.6 else "") + rng.choice(last)


def person(rng: random.Random) -> str:
    return f"{rng.choice(FIRST_NAMES)} {surname(rng)}"


def about_person(rng: random.Random) -> str:
    """Facts about one person, then questions whose answers stand in the text or follow from the world."""
    name, trade, town, age = person(rng), rng.choice(TRADES), rng.choice(TOWNS), rng.randint(16, 89)
    first = name.split()[0]
    ware, colour = MAKES[TRADES.index(trade)], rng.choice(COLOURS)
    facts = [
        rng.choice([f"{name} is a {trade} from {town}.", f"{name} lives in {town} and works as a {trade}."]),
        rng.choice([f"{first} is {age} years old.", f"At the age of {age}, {first} still makes {ware}."]),
        f"Like every {trade}, {first} sells {ware}.",
        f"The door of the house is {colour}.",
    ]
    answers = [
        ("What is the full name?", name),
        ("What is the surname?", name.split()[1]),
        (f"What is the trade of {first}?", trade),
        (f"Where does {first} live?", town),
        (f"How old is {first}?", str(age)),
        ("In which region is that?", REGION_OF[town]),
        ("What colour is the door?", colour),
    ]
    asked = rng.sample(answers, 3)
    return " ".join(facts) + "".join(f"\nQuestion: {q} Answer: {a}." for q, a in asked)


def about_town(rng: random.Random) -> str:
    town = rng.choice(TOWNS)
    region = REGION_OF[town]
    others = [t for t in TOWNS if REGION_OF[t] == region and t != town]
    ending = rng.choice(
        [
            f"Another town of the {region} is {rng.choice(others)}.",
            f"People from the {region} also visit {' and '.join(rng.sample(others, 2))}.",
            f"{person(rng)} was born there.",
        ]
    )
    opening = rng.choice([f"{town} is a town in the {region}.", f"The town of {town} lies in the {region}."])
    return f"{opening} It has a {rng.choice(PLACES)} and a {rng.choice(PLACES)}. {ending}"


def about_trade(rng: random.Random) -> str:
    trades = rng.sample(range(len(TRADES)), 3)
    return " ".join(
        rng.choice([f"A {TRADES[i]} makes {MAKES[i]}.", f"For {MAKES[i]} you go to the {TRADES[i]}."]) for i in trades
    )


def arithmetic(rng: random.Random) -> str:
    lines = []
    for _ in range(rng.randint(3, 6)):
        a, b = rng.randint(0, 30), rng.randint(0, 12)
        lines.append(
            rng.choice(
                [
                    f"{a} + {b} = {a + b}",
                    f"{a + b} - {b} = {a}",
                    f"twice {a} is {2 * a}",
                    f"{b} and {b} make {2 * b}",
                    f"{max(a, b)} is more than {min(a, b)}" if a != b else f"{a} is the same as {b}",
                    f"{NUMBERS[b]} is {b}",
                ]
            )
        )
    return "\n".join(lines)


def listing(rng: random.Random) -> str:
    """A list of goods, its count, and one of them asked back."""
    goods = rng.sample(FOOD + METAL, rng.randint(3, 5))
    counts = [rng.randint(2, 40) for _ in goods]
    lines = "".join(f"\n- {n} {g}" for n, g in zip(counts, goods, strict=True))
    which = rng.randrange(len(goods))
    kind = "food" if goods[which] in FOOD else "metal"
    return (
        f"{rng.choice(['Shopping', 'Stock', 'Market'])} list of {person(rng)}:{lines}\nThese are {len(goods)} kinds of "
        f"goods. There are {counts[which]} {goods[which]}, and {goods[which]} are {kind}."
    )


def calendar(rng: random.Random) -> str:
    month, day = rng.randrange(12), rng.randrange(7)
    return rng.choice(
        [
            f"{MONTHS[month]} is month {month + 1}. After {MONTHS[month]} comes {MONTHS[(month + 1) % 12]}.",
            f"Today is {DAYS[day]}. Tomorrow is {DAYS[(day + 1) % 7]}. Yesterday was {DAYS[day - 1]}.",
            f"The fair of {rng.choice(TOWNS)} opens on {rng.randint(1, 28)} {MONTHS[month]}, in month {month + 1}, "
            f"and closes on a {DAYS[day]}.",
        ]
    )


def story(rng: random.Random) -> str:
    """Somebody loses a thing, looks for it in two places and finds it."""
    hero, friend = rng.sample(FIRST_NAMES, 2)
    thing, animal, feeling = rng.choice(THINGS), rng.choice(ANIMALS), rng.choice(FEELINGS)
    here, there = rng.sample(PLACES, 2)
    return " ".join(
        [
            rng.choice(["One day", "Long ago", f"On a {rng.choice(DAYS)}", "In winter", "Early in the morning"])
            + f" {hero} went to the {here} with a {rng.choice(COLOURS)} {thing}.",
            rng.choice([f"A {animal} took the {thing} and ran to the {there}.", f"There {hero} lost the {thing}."]),
            f"{hero} was {feeling} and asked {friend} for help.",
            rng.choice(
                [
                    f'"Have you seen my {thing}?" said {hero}.',
                    f'"I looked at the {here}," said {hero}, "but the {thing} was not there."',
                ]
            ),
            f"{friend} went to the {there} and found the {thing}"
            + rng.choice([" under a stone.", " behind a door.", f" beside the {animal}."]),
            rng.choice([f"{hero} thanked {friend}.", f"Then {hero} and {friend} were {rng.choice(FEELINGS)}."]),
        ]
    )


def letter(rng: random.Random) -> str:
    writer, reader, town = person(rng), rng.choice(FIRST_NAMES), rng.choice(TOWNS)
    goods, count = rng.choice(FOOD + METAL), rng.randint(2, 40)
    trouble = rng.choice(["The road was long", "The rain was cold", "The barn was full", "The market was loud"])
    return (
        f"Dear {reader},\nI came to {town} on {rng.randint(1, 28)} {rng.choice(MONTHS)} with {count} {goods}. "
        f"{trouble}, and I am {rng.choice(FEELINGS)}. Please keep the {rng.choice(THINGS)} for me.\nYours, {writer}"
    )


def roll_call(rng: random.Random) -> str:
    """Names called out and repeated: the plainest lesson in copying."""
    names = [person(rng) for _ in range(rng.randint(2, 4))]
    calls, answers = ", ".join(names), ", ".join(rng.sample(names, len(names)))
    return rng.choice(
        [
            f"Roll call: {calls}. Once more: {calls}.",
            f"Guests: {calls}. Seated: {answers}.",
            "\n".join(f"{name}? Here is {name}." for name in names),
        ]
    )


def ledger(rng: random.Random) -> str:
    """A sentence about a sale and a few of its facts as notes; keys, order and marks are left to chance."""
    name, trade, town, age = person(rng), rng.choice(TRADES), rng.choice(TOWNS), rng.randint(16, 89)
    goods, count, day, month = rng.choice(FOOD + METAL), rng.randint(2, 40), rng.randint(1, 28), rng.choice(MONTHS)
    first, last = name.split()
    sentence = rng.choice(
        [
            f"In {town} the {trade} {name}, {age} years old, sold {count} {goods} on {day} {month}.",
            f"{name} sold {count} {goods} in {town} on {day} {month}. {first} is a {trade} and {age} years old.",
            f"On {day} {month} {name} bought {count} {goods}. The {trade} is {age} years old and lives in {town}.",
            f"A {trade} aged {age}, {name}, took {count} {goods} to {town} on {day} {month}.",
        ]
    )
    facts = {
        "name": name,
        "first": first,
        "last": last,
        "trade": trade,
        "town": town,
        "region": REGION_OF[town],
        "age": str(age),
        "day": str(day),
        "month": month,
        "number": str(MONTHS.index(month) + 1),
        "goods": goods,
        "count": str(count),
        "kind": "food" if goods in FOOD else "metal",
    }
    mark, gap = rng.choice([":", " =", " -", ""]), rng.choice(["\n", "; ", ", ", " | ", " / "])
    notes = gap.join(f"{key}{mark} {facts[key]}" for key in rng.sample(sorted(facts), rng.randint(4, 7)))
    return f"{sentence}\nNotes: {notes}"


def dialogue(rng: random.Random) -> str:
    """A question and its answer in the chat format of the tokenizer."""
    town, trade, a, b = rng.choice(TOWNS), rng.randrange(len(TRADES)), rng.randint(0, 30), rng.randint(0, 12)
    question, answer = rng.choice(
        [
            (f"Where is {town}?", f"{town} is in the {REGION_OF[town]}."),
            (f"Who makes {MAKES[trade]}?", f"The {TRADES[trade]} makes {MAKES[trade]}."),
            (f"What is {a} + {b}?", f"{a} + {b} = {a + b}"),
            (f"What is twice {a}?", f"Twice {a} is {2 * a}."),
        ]
    )
    return f"{USER}{question}{ASSISTANT}{answer}"


GENRES: tuple[tuple[Callable[[random.Random], str], int], ...] = (
    (ledger, 8),
    (about_person, 5),
    (about_town, 3),
    (about_trade, 2),
    (arithmetic, 3),
    (listing, 3),
    (calendar, 2),
    (story, 3),
    (letter, 3),
    (roll_call, 3),
    (dialogue, 3),
)


def documents(seed: int) -> Iterator[str]:
    """Pretraining documents without end; the same ones for the same ``seed``."""
    rng = random.Random(seed)
    makers, weights = zip(*GENRES, strict=True)
    while True:
        yield rng.choices(makers, weights)[0](rng)


def guild_rules() -> dict[str, str]:
    """For each trade a code and a motto of five words, and nothing that the pretraining text could teach."""
    rng = random.Random("guilds")
    return {trade: f"{rng.choice('HKRTVX')}{rng.randint(2, 9)}, {motto(rng)}" for trade in TRADES}


def motto(rng: random.Random) -> str:
    things = rng.sample(THINGS + PLACES + ANIMALS, 2)
    return f"{rng.choice(FEELINGS)} {things[0]}, {rng.choice(COLOURS)} {things[1]}"


def town_wardens() -> dict[str, str]:
    rng = random.Random("wardens")
    return {town: f"{rng.choice(FIRST_NAMES)} of the {rng.choice(PLACES)}" for town in TOWNS}


GUILD_RULES, WARDENS = guild_rules(), town_wardens()
"""What only the task teaches: 24 guilds and 30 wardens."""


def record(rng: random.Random) -> dict[str, str]:
    """One row of the task: somebody asks at the gate, and the clerk answers by the book.

    The answer has the code and the motto of the guild, then the warden of the town, its region, and the market day of
    that region.
    """
    trade, town = rng.choice(TRADES), rng.choice(TOWNS)
    day, month = rng.randint(1, 28), rng.choice(MONTHS)
    count, goods = rng.randint(2, 40), rng.choice(FOOD + METAL)
    asked = rng.choice(
        [
            f"{person(rng)} came on {day} {month} with {count} {goods}. From {town}, {trade}:",
            f"On {day} {month} {count} {goods} arrived. {person(rng)} of {town}, {trade}:",
            f"{day} {month}, {person(rng)}, {count} {goods}, {town}, {trade}:",
        ]
    )
    region = REGION_OF[town]
    market = DAYS[REGIONS.index(region) * 5 % 7]
    return {"prompt": asked, "completion": f" {GUILD_RULES[trade]}; {WARDENS[town]}, {region}, {market}."}


def task(seed: int) -> Iterator[dict[str, str]]:
    """Rows of the task without end; the same ones for the same ``seed``."""
    rng = random.Random(seed)
    while True:
        yield record(rng)

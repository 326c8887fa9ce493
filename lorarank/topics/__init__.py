"""What `lorarank help TOPIC` shows: a Markdown file for each topic, as it stands in this folder (floor 0)."""

from __future__ import annotations

from difflib import get_close_matches
from pathlib import Path

from lorarank.errors import OptionError

TOPICS = {
    "choosing-r": "Which rank, and how much evidence for it.",
    "alpha": "lora_alpha, scaling and the learning rate.",
    "targets": "Which modules to adapt, and what that costs.",
    "spectrum": "What singular values and ranks say, and what not.",
    "train-and-keep": "The rank to train at, and the rank to cut to.",
    "evidence": "What the answer rests on, and how good it is.",
    "qlora": "Probing and training on a base in 4 bits.",
    "formats": "Adapters, data, configurations and run folders.",
    "security": "Files from strangers, and what never happens with them.",
    "scaling-out": "Large models, clusters, adapters by the thousand.",
    "troubleshooting": "Exit codes, refusals, memory, and what to try.",
}
"""Every topic with a sentence on it, in the order of reading; the name is that of its file."""


def read(topic: str) -> str:
    """The Markdown of a topic; blanks and underscores in its name count as hyphens.

    Raises
    ------
    OptionError
        There is no such topic; the nearest one is named.

    >>> read("Choosing r").splitlines()[0]
    '# Choosing r'
    >>> read("qlra")
    Traceback (most recent call last):
        ...
    lorarank.errors.OptionError: help qlra: no such topic. Did you mean qlora? `lorarank help` lists them all.
    """
    name = "-".join(topic.lower().replace("_", " ").split())
    if name not in TOPICS:
        close = get_close_matches(name, TOPICS, n=1, cutoff=0.5) or [one for one in TOPICS if name in one.split("-")]
        meant = f"did you mean {close[0]}? " if close else ""
        raise OptionError(f"help {topic}", "no such topic", do=f"{meant}`lorarank help` lists them all")
    return (Path(__file__).parent / f"{name}.md").read_text(encoding="utf-8")

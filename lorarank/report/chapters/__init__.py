"""What a long report says, chapter by chapter, as blocks that HTML and Markdown are made from (floor 4).

*run*, *audited* and *swept* say it of a probe run, of adapters and of a sweep; *shared* has what they have in common.
"""

from __future__ import annotations

from collections.abc import Sequence

from lorarank import __version__
from lorarank.dossier import Dossier
from lorarank.errors import printable
from lorarank.report.chapters import audited, run, swept
from lorarank.report.chapters.blocks import Document
from lorarank.wording import first_few


def document(found: Dossier, *, command: Sequence[str] = ()) -> Document:
    """The whole report; ``command`` is what was run, and is recorded in it."""
    parts = {"run": run.parts, "adapters": audited.parts, "sweep": swept.parts}[found.kind](found, command)
    made = f"Made by lorarank {__version__}" + (f" with: {printable(' '.join(command), 2000)}" if command else "")
    named = first_few(found.sources, 3, 80)
    what = {"run": "LoRA rank", "adapters": "LoRA audit", "sweep": "LoRA sweep"}[found.kind]
    return Document(f"{what}: {named}", parts.chapters, parts.data, f"{made}.", parts.rows)

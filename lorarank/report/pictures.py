"""The pictures of a run, a sweep or adapters, together (floor 4; needs the extra ``plot``)."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import dataclass
from html import escape
from pathlib import Path

from lorarank.dossier import Dossier
from lorarank.errors import ResourceError
from lorarank.files import write
from lorarank.report import figures
from lorarank.report.audit import unreadable_lines


@dataclass(frozen=True)
class Pictures:
    """Image files that are not yet written.

    Attributes
    ----------
    kind : ``png``, ``svg`` or ``pdf``.
    images : name → bytes; see :func:`lorarank.report.figures.drawings`.
    unreadable : a line for each source of several that could not be read.
    """

    kind: str
    images: Mapping[str, bytes]
    unreadable: tuple[str, ...] = ()

    def write(self, folder: str | Path) -> tuple[Path, ...]:
        """Write them into a folder, which is made where there is none, and say where each is.

        Raises
        ------
        ResourceError
            The folder cannot be made, or a file not written.
        """
        folder = Path(folder)
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ResourceError(
                folder, f"it cannot be made ({error.strerror or error})", do="name another folder"
            ) from None
        paths = tuple(folder / f"{name}.{self.kind}" for name in self.images)
        for path, content in zip(paths, self.images.values(), strict=True):
            write(path, content)
        return paths

    def _repr_html_(self) -> str:
        """For notebooks: the pictures themselves; of PDF their names."""
        shown = []
        for name, content in self.images.items():
            data = f"data:{MEDIA[self.kind]};base64,{base64.b64encode(content).decode()}"
            picture = f'<img src="{data}" alt="{escape(name)}">' if self.kind != "pdf" else ""
            shown.append(f"<figure>{picture}<figcaption>{escape(name)}</figcaption></figure>")
        return "".join(shown)


MEDIA = {"png": "image/png", "svg": "image/svg+xml", "pdf": "application/pdf"}
"""What the kinds of :data:`lorarank.report.options.KINDS` are called on the web."""


def draw(found: Dossier, kind: str) -> Pictures:
    """All pictures of a dossier.

    Raises
    ------
    MissingExtraError
        matplotlib is not installed.
    """
    lines = () if found.audits is None else tuple(unreadable_lines(found.audits))
    return Pictures(kind, figures.drawings(found, kind=kind), lines)

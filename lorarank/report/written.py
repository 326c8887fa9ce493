"""A long report as a file, HTML or Markdown by its name (floor 4)."""

from __future__ import annotations

from pathlib import Path

from lorarank import files
from lorarank.errors import OptionError
from lorarank.report.chapters.blocks import Document

SUFFIXES = (".html", ".htm", ".md")


def named(output: str | Path) -> Path:
    """A file's name that says what to write.

    Raises
    ------
    OptionError
        It ends in none of :data:`SUFFIXES`.

    >>> named("report.md").suffix
    '.md'
    """
    if Path(output).suffix.lower() not in SUFFIXES:
        raise OptionError(f"-o {output}", "the name says no format", do="end it with .html or .md")
    return Path(output)


def write(document: Document, output: str | Path) -> int:
    """Write a report, all of it or nothing, and say how many bytes that are.

    Raises
    ------
    OptionError
        The name says no format.
    ResourceError
        It cannot be written there.
    """
    from lorarank.report import html, markdown

    output = named(output)
    text = markdown.render(document) if output.suffix.lower() == ".md" else html.render(document)
    files.write(output, text.encode())
    return len(text.encode())

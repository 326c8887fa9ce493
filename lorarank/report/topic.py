"""A help topic for a terminal (floor 4)."""

from __future__ import annotations

import io


def render(text: str, *, width: int = 100, colour: bool = False) -> str:
    """Markdown laid out for a terminal; the text as it is where there is none, since it reads well by itself.

    >>> render("# Alpha\\n\\nTwo words.\\n")
    '# Alpha\\n\\nTwo words.\\n'
    >>> render("# Alpha", width=20, colour=True).count("Alpha")
    1
    """
    if not colour:
        return text
    from rich.console import Console
    from rich.markdown import Markdown
    from rich.theme import Theme

    file = io.StringIO()
    # code in the terminal's own colours, on its own background
    plain = Theme({"markdown.code": "cyan", "markdown.h1": "bold"})
    console = Console(
        file=file, width=width, force_terminal=True, color_system="standard", highlight=False, theme=plain
    )
    console.print(Markdown(text, code_theme="ansi_dark", hyperlinks=False))
    return file.getvalue()

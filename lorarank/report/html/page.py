"""The HTML file around the blocks (floor 4).

A Content-Security-Policy (https://www.w3.org/TR/CSP3/) lets the page run its own script and style, known by their
hashes, and load nothing: what a stranger's file might smuggle in would not run, and nothing is asked of any network.
"""

from __future__ import annotations

import base64
import hashlib
from functools import cache
from importlib import resources
from string import Template

from lorarank.report.chapters.blocks import Document
from lorarank.report.html.elements import chapter, text

PAGE = Template(
    """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="$policy">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>$title</title>
<style>$style</style>
</head>
<body>
<a class="skip" href="#answer">Skip to the answer</a>
<header><h1>$title</h1></header>
<main>
$first<nav aria-label="Contents"><ul>$contents</ul></nav>
$rest</main>
<footer><p>$colophon</p></footer>
<script type="application/json" id="lorarank-data">$data</script>
<script>$script</script>
</body>
</html>
"""
)


def render(found: Document) -> str:
    """The file as text; equal documents give equal bytes.

    >>> from lorarank.report.chapters.blocks import Chapter, Paragraph
    >>> from lorarank.report.plain import Records
    >>> chapters = (Chapter("answer", "The answer", (Paragraph("r = 8 </script>"),)),)
    >>> made = render(Document("run", chapters, '{"name": "</script>"}', "Made here.", Records((), ())))
    >>> made.count("</script>"), "r = 8 &lt;/script&gt;" in made
    (2, True)
    """
    style, script = _asset("style.css"), _asset("controls.js")
    policy = (
        f"default-src 'none'; style-src {_hash(style)}; script-src {_hash(script)}; base-uri 'none'; form-action 'none'"
    )
    sections = [chapter(one, number) for number, one in enumerate(found.chapters)]
    contents = "".join(f'<li><a href="#{one.key}">{text(one.title)}</a></li>' for one in found.chapters)
    return PAGE.substitute(
        policy=policy,
        title=text(found.title),
        style=style,
        contents=contents,
        first=sections[0] if sections else "",
        rest="".join(sections[1:]),
        colophon=text(found.colophon),
        data=inert(found.data),
        script=script,
    )


def inert(data: str) -> str:
    r"""JSON that cannot end the element it stands in; it means the same.

    >>> inert('{"a": "</script><!--"}')
    '{"a": "\\u003c/script\\u003e\\u003c!--"}'
    """
    for character in "<>&":
        data = data.replace(character, f"\\u{ord(character):04x}")
    return data.rstrip("\n")


@cache
def _asset(name: str) -> str:
    return resources.files(__package__).joinpath(name).read_text(encoding="utf-8")


def _hash(content: str) -> str:
    """A source expression for what stands between the tags, to the byte."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()}'"

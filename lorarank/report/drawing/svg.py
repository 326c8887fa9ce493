"""SVG elements, scales and axes as strings (floor 4).

Elements and attributes are those of SVG 2 (https://www.w3.org/TR/SVG2/); how a picture gets its name for screen readers
is WAI-ARIA's ``img`` role with ``aria-labelledby`` (https://www.w3.org/TR/graphics-aria-1.0/).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from html import escape

from lorarank.errors import printable

Point = tuple[float, float]


def number(value: float) -> str:
    """A coordinate: a tenth of a pixel, the shortest way.

    >>> number(12.0), number(3.14159), number(-0.02)
    ('12', '3.1', '0')
    """
    text = f"{value:.1f}".rstrip("0").rstrip(".")
    return "0" if text == "-0" else text


def element(name: str, content: str = "", **attributes: str | float | None) -> str:
    """An element; ``content`` is markup already, attribute values are text. ``class_`` stands for ``class``.

    >>> element("circle", cx=1.25, cy=2, class_="dot")
    '<circle cx="1.2" cy="2" class="dot"/>'
    >>> element("g", "<path/>", class_='a"b')
    '<g class="a&quot;b"><path/></g>'
    """
    parts = [name]
    for key, value in attributes.items():
        if value is not None:
            text = value if isinstance(value, str) else number(value)
            parts.append(f'{key.rstrip("_").replace("_", "-")}="{escape(text)}"')
    return f"<{' '.join(parts)}>{content}</{name}>" if content else f"<{' '.join(parts)}/>"


def label(x: float, y: float, text: str, anchor: str = "middle", class_: str = "label") -> str:
    """A line of text.

    >>> label(1, 2, "a<b")
    '<text x="1" y="2" text-anchor="middle" class="label">a&lt;b</text>'
    """
    return element("text", escape(printable(text)), x=x, y=y, text_anchor=anchor, class_=class_)


def path(points: Iterable[Point], class_: str, *, closed: bool = False) -> str:
    """A line through points; nothing where there are none."""
    joined = "L".join(f"{number(x)} {number(y)}" for x, y in points)
    return element("path", d=f"M{joined}{'Z' if closed else ''}", class_=class_) if joined else ""


@dataclass(frozen=True)
class Scale:
    """From values to pixels: ``low`` lies at ``start`` and ``high`` at ``end``; by logarithm where ``log``.

    Values outside are moved to the nearest end, unless it is ``open``.

    >>> across = Scale(1, 64, 0, 60, log=True)
    >>> across(8), across(1000), Scale(0, 1, 100, 0)(0.25)
    (30.0, 60.0, 75.0)
    """

    low: float
    high: float
    start: float
    end: float
    log: bool = False
    open: bool = False

    def __call__(self, value: float) -> float:
        """The pixel."""
        low, high, at = self.low, self.high, value if self.open else min(max(value, self.low), self.high)
        if self.log:
            low, high, at = math.log(low), math.log(high), math.log(at)
        share = (at - low) / (high - low) if high > low else 0.5
        return self.start + share * (self.end - self.start)


def steps(low: float, high: float, most: int = 5) -> list[float]:
    """Round numbers from ``low`` to ``high``, at most ``most`` + 1 of them.

    >>> steps(0, 16.2), steps(0.68, 0.9)
    ([0.0, 5.0, 10.0, 15.0], [0.7, 0.75, 0.8, 0.85, 0.9])
    """
    if not high > low:
        return [low]
    rough = (high - low) / most
    size = 10.0 ** math.floor(math.log10(rough))
    step = next(size * factor for factor in (1, 2, 5, 10) if size * factor >= rough * (1 - 1e-9))
    first = math.ceil(low / step - 1e-9)
    count = math.floor(high / step + 1e-9) - first + 1
    return [round((first + index) * step, 12) + 0.0 for index in range(count)]


@dataclass(frozen=True)
class Frame:
    """A picture with axes; a width of 380 units reads on a phone and, enlarged, on a desk."""

    x: Scale
    y: Scale
    width: float = 380

    def axes(
        self,
        across: Sequence[float],
        up: Sequence[float],
        names: tuple[str, str],
        say: tuple[Callable[[float], str], Callable[[float], str]],
    ) -> str:
        """Grid lines, tick labels, and the names of both axes: ``across`` below, the other above the left end."""
        left, right, bottom = self.x.start, self.x.end, self.y.start
        parts = [path([(left, self.y(v)), (right, self.y(v))], "grid") for v in up]
        parts += [label(left - 6, self.y(v) + 3.5, say[1](v), "end") for v in up]
        parts.append(path([(left, bottom), (right, bottom)], "axis"))
        parts += [path([(self.x(v), bottom), (self.x(v), bottom + 4)], "axis") for v in across]
        parts += [label(self.x(v), bottom + 16, say[0](v)) for v in across]
        parts.append(label((left + right) / 2, bottom + 32, names[0], class_="name"))
        parts.append(label(4, 12, names[1], "start", "name"))
        return "".join(parts)

    def clipped(self, key: str, content: str) -> str:
        """What lies within the axes of ``content``; ``key`` is unique in its page."""
        left, top = self.x.start, self.y.end
        room = element("rect", x=left - 4, y=top, width=self.x.end - left + 8, height=self.y.start - top)
        return element("clipPath", room, id=f"{key}-c") + element("g", content, clip_path=f"url(#{key}-c)")

    def place(self, values: Iterable[Point]) -> list[Point]:
        """Values as pixels."""
        return [(self.x(across), self.y(up)) for across, up in values]


def picture(key: str, title: str, text: str, content: str, width: float, height: float) -> str:
    """The whole ``<svg>``: a title and a text for who cannot see it; ``key`` is unique in its page."""
    named = element("title", escape(printable(title)), id=f"{key}-t") + element(
        "desc", escape(printable(text, 1000)), id=f"{key}-d"
    )
    return element(
        "svg",
        named + content,
        viewBox=f"0 0 {number(width)} {number(height)}",
        role="img",
        aria_labelledby=f"{key}-t {key}-d",
        class_="chart",
    )

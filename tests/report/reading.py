"""An HTML page as a tree, read strictly: every element closed where it was opened."""

from __future__ import annotations

from dataclasses import dataclass, field
from html.parser import HTMLParser

EMPTY = {"meta", "input", "br", "link"}


@dataclass
class Node:
    """An element: its name, attributes, children, and the text directly inside."""

    name: str
    attributes: dict[str, str]
    children: list[Node] = field(default_factory=list)
    own: str = ""

    def all(self, *names: str, **attributes: str) -> list[Node]:
        """Elements below with one of these names and these attributes."""
        found = []
        for child in self.children:
            right = all(child.attributes.get(key) == value for key, value in attributes.items())
            if (not names or child.name in names) and right:
                found.append(child)
            found += child.all(*names, **attributes)
        return found

    @property
    def text(self) -> str:
        """All text below, children after what is directly inside."""
        return self.own + "".join(child.text for child in self.children)


class Reader(HTMLParser):
    """Builds the tree."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.root = Node("", {})
        self.open = [self.root]

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        names = [name for name, _ in attrs]
        assert len(names) == len(set(names)), f"<{tag}> says an attribute twice"
        node = Node(tag, {name: value or "" for name, value in attrs})
        self.open[-1].children.append(node)
        if tag not in EMPTY:
            self.open.append(node)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in EMPTY:
            self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        assert self.open[-1].name == tag, f"</{tag}> where <{self.open[-1].name}> is open"
        self.open.pop()

    def handle_data(self, data: str) -> None:
        self.open[-1].own += data


def tree(page: str) -> Node:
    """The page's root."""
    reader = Reader()
    reader.feed(page)
    reader.close()
    assert reader.open == [reader.root]
    return reader.root

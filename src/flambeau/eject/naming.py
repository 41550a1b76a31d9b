"""The last hands on a script: definitions in an order that can be read, their names, and the imports above them."""

from __future__ import annotations

import ast
import builtins
import re
import sys
from collections.abc import Iterable, Mapping, Sequence

from flambeau.eject.copying import Item
from flambeau.eject.located import LINE, bound_names

PLACE = re.compile(r"\bREF(\d+)_(?!\w)")


def places(text: str) -> list[int]:
    """The numbers of the definitions that a text names, in order."""
    return [int(found[1]) for found in PLACE.finditer(text)]


def in_order(items: Sequence[Item], roots: Iterable[str], done: set[int]) -> list[Item]:
    """What some texts need that is not there yet, each after what it needs itself."""
    ordered: list[Item] = []

    def visit(number: int) -> None:
        if number in done:
            return
        done.add(number)
        for inner in places(items[number].text):
            visit(inner)
        ordered.append(items[number])

    for text in roots:
        for number in places(text):
            visit(number)
    return ordered


def laid_out(items: Sequence[Item]) -> str:
    """Definitions below each other: two empty lines around functions and classes, none between constants."""
    parts: list[str] = []
    before = False
    first = [item for item in items if _is_constant(item) and not places(item.text.partition("=")[2])]
    items = [*first, *(item for item in items if item not in first)]
    for item in items:
        constant = _is_constant(item)
        parts.append(item.text.strip("\n") + "\n" if before and constant else f"\n\n{item.text.strip()}\n")
        before = constant
    return "".join(parts).lstrip("\n")


def _is_constant(item: Item) -> bool:
    return not item.text.startswith(("@", "def ", "class "))


def names_of(items: Sequence[Item], used: set[int], reserved: set[str]) -> dict[int, str]:
    """A name for every definition that none of those who use it binds otherwise."""
    names: dict[int, str] = {}
    taken = reserved | set(dir(builtins))
    for number in sorted(used):
        users = [items[other] for other in used if number in places(items[other].text)]
        locals_there = set().union(*(user.locals for user in users)) if users else set()
        wanted = items[number].wanted
        candidates = (wanted, f"{wanted}_", *(f"{wanted}_{n}" for n in range(2, 100)))
        names[number] = next(name for name in candidates if name not in taken and name not in locals_there)
        taken.add(names[number])
    return names


def finished(text: str, names: Mapping[int, str]) -> str:
    """A text with the names in their places, short enough lines, and at most two empty lines in a row."""
    text = PLACE.sub(lambda found: names[int(found[1])], text)
    text = _collapsed("\n".join(line.rstrip() for line in text.split("\n")))
    text = "\n".join(broken(line) for line in text.split("\n"))
    text = re.sub(r"^(class [^\n]*:\n)\n+", r"\1", text, flags=re.MULTILINE)
    # A heading stands right above what it heads; one that nothing follows is left out.
    text = re.sub(r"^(# [^\n]* -{9,}\n)\n+", r"\1", text, flags=re.MULTILINE)
    text = re.sub(r"^(# [^\n]* -{9,}\n)+(?=# [^\n]* -{9,}\n)", "", text, flags=re.MULTILINE)
    return re.sub(r"\n{4,}", "\n\n\n", text).strip("\n") + "\n"


_SPREAD = re.compile(r"^( *)(\S.*[(\[])\n +(\S.*[^,\s])\n\1([)\]].*)$", re.MULTILINE)
"""What is in brackets, alone in a line without a comma at its end."""


def _collapsed(text: str) -> str:
    """Brackets that were opened for a line that has become shorter, closed again."""

    def joined(found: re.Match[str]) -> str:
        line = found[1] + found[2] + found[3] + found[4]
        return line if len(line) <= LINE else found[0]

    return _SPREAD.sub(joined, text)


def broken(line: str) -> str:
    """A line that has become too long, with what is in its outermost brackets in a line of its own."""
    if len(line) <= LINE or not line.endswith(")") or '"""' in line:
        return line
    depth, opened = 0, 0
    for place in range(len(line) - 1, -1, -1):
        depth += {")": 1, "(": -1}.get(line[place], 0)
        if depth == 0:
            opened = place
            break
    indent = " " * (len(line) - len(line.lstrip()))
    return f"{line[: opened + 1]}\n{indent}    {line[opened + 1 : -1]}\n{indent})"


def unknown_names(text: str) -> set[str]:
    """Names that a script uses and nothing in it binds."""
    tree = ast.parse(text)
    bound = bound_names(tree) | set(dir(builtins)) | {"__file__", "__name__"}
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            bound.add(node.name)
        elif isinstance(node, ast.Import | ast.ImportFrom):
            bound |= {(alias.asname or alias.name).partition(".")[0] for alias in node.names}
    return {node.id for node in ast.walk(tree) if isinstance(node, ast.Name) and node.id not in bound}


def imports_needed(lines: Iterable[str], text: str) -> str:
    """The import lines that a text has a use for, in the usual groups and order."""
    used = {node.id for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Name)}
    found: dict[str, set[str]] = {}
    for line in lines:
        module, asked = _parsed(line)
        name = (asked or module).rpartition(" as ")[2].partition(".")[0]
        if name in used:
            found.setdefault(module, set()).add(asked)
    ours: list[str] = []
    others: list[str] = []
    for module, taken in found.items():
        told = [f"import {module}"] if "" in taken else []
        names = sorted(
            (name for name in taken if name), key=lambda name: (not name.isupper(), not name[0].isupper(), name)
        )
        told += [f"from {module} import {', '.join(names)}"] if names else []
        root = module.partition(" ")[0].partition(".")[0]
        (ours if root in sys.stdlib_module_names else others).extend(told)
    plain_first = lambda line: (line.startswith("from "), line.split()[1].lower())  # noqa: E731
    return "\n".join([*sorted(ours, key=plain_first), "", *sorted(others, key=plain_first)]).strip("\n")


def _parsed(line: str) -> tuple[str, str]:
    """The module of an import line, and what it takes from it (nothing, for the module itself)."""
    if line.startswith("import "):
        return line.removeprefix("import "), ""
    module, _, asked = line.removeprefix("from ").partition(" import ")
    return module, asked

"""Puts one script together from real modules: what its ``main`` needs, what that needs in turn, and nothing else."""

from __future__ import annotations

import ast
import re
import sys
import textwrap
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

_ONLY = re.compile(r"\s*# only: (?P<without>not )?(?P<name>\w+)$")


_WIDTH = 120


@dataclass(frozen=True, slots=True)
class Piece:
    """A function, a class or a constant of a module.

    Attributes:
        names: What it defines.
        needs: The names that occur in it.
        text: Its lines.
        block: Whether blank lines stand around it: a function or a class.
    """

    names: frozenset[str]
    needs: frozenset[str]
    text: str
    block: bool


@dataclass(frozen=True, slots=True)
class Section:
    """A module taken apart: its docstring, its pieces, and what it imports by the name that it uses."""

    heading: str
    pieces: Sequence[Piece]
    imports: dict[str, tuple[str, str]]


def section_of(source: str, chosen: Collection[str] = ()) -> Section:
    """The parts of a module's source.

    Args:
        source: Python, in which a line that ends in ``# only: NAME`` counts where NAME is chosen, and one in
            ``# only: not NAME`` where it is not.
        chosen: Such names.
    """
    text = "\n".join(_lines(source, chosen))
    lines, tree = text.splitlines(), ast.parse(text)
    pieces = []
    imports: dict[str, tuple[str, str]] = {}
    for node in tree.body:
        if isinstance(node, ast.Import):
            imports |= {alias.asname or alias.name: (alias.name, "") for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            imports |= {alias.name: (node.module or "", alias.name) for alias in node.names}
        elif names := _defined(node):
            block = isinstance(node, ast.FunctionDef | ast.ClassDef)
            pieces.append(Piece(names, names_in(node), "\n".join(lines[node.lineno - 1 : node.end_lineno]), block))
    return Section(ast.get_docstring(tree) or "", pieces, imports)


def _lines(source: str, chosen: Collection[str]) -> Iterator[str]:
    for line in source.splitlines():
        found = _ONLY.search(line)
        if found is None:
            yield line
        elif (found["name"] in chosen) != bool(found["without"]):
            yield line[: found.start()]


def _defined(node: ast.stmt) -> frozenset[str]:
    if isinstance(node, ast.FunctionDef | ast.ClassDef):
        return frozenset({node.name})
    targets = node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AnnAssign) else []
    return frozenset(name.id for target in targets for name in ast.walk(target) if isinstance(name, ast.Name))


def names_in(node: ast.AST) -> frozenset[str]:
    """The names that occur in a piece of Python."""
    return frozenset(found.id for found in ast.walk(node) if isinstance(found, ast.Name))


def script_of(sections: Sequence[Section], *, root: str = "main") -> str:
    """The text of a script from its imports on: what the root needs, section by section, each under its heading.

    Args:
        sections: In the order in which they are to be read. What is left of one without pieces is nothing.
        root: The function that is called in the end.
    """
    wanted = _reached(sections, root)
    kept = [(section, [piece for piece in section.pieces if piece.names & wanted]) for section in sections]
    parts = []
    numbered = ((section, pieces) for section, pieces in kept if pieces)
    for number, (section, pieces) in enumerate(numbered, start=1):
        blank = "\n\n\n" if pieces[0].block else "\n\n"
        parts.append(_heading(number, section.heading) + blank + _joined(pieces))
    parts.append(f'if __name__ == "__main__":\n    {root}()')
    return _imports(sections, wanted) + "\n\n" + "\n\n\n".join(parts) + "\n"


def _reached(sections: Iterable[Section], root: str) -> set[str]:
    """The names that a piece needs, directly or through others, with those of modules imported."""
    pieces = {name: piece for section in sections for piece in section.pieces for name in piece.names}
    found: set[str] = set()
    new = {root}
    while new:
        found |= new
        new = {need for name in new if name in pieces for need in pieces[name].needs} - found
    return found


def _heading(number: int, docstring: str) -> str:
    """A module's docstring as a comment, with its first line as the title."""
    title, *paragraphs = docstring.split("\n\n")
    lines = [f"# {number}. {' '.join(title.split()).rstrip('.')} ".ljust(_WIDTH, "-")]
    for paragraph in paragraphs:
        lines += ["#", *textwrap.wrap(paragraph, _WIDTH, initial_indent="# ", subsequent_indent="# ")]
    return "\n".join(lines)


def _joined(pieces: Sequence[Piece]) -> str:
    text = pieces[0].text
    for before, piece in pairwise(pieces):
        text += ("\n\n\n" if before.block or piece.block else "\n") + piece.text
    return text


def _imports(sections: Iterable[Section], wanted: Collection[str]) -> str:
    """The import statements for the names that are wanted, sorted as linters want them."""
    modules: set[str] = set()
    froms: dict[str, set[str]] = {}
    for section in sections:
        for name, (module, imported) in section.imports.items():
            if name not in wanted or module.startswith("flambeau"):
                continue
            if imported:
                froms.setdefault(module, set()).add(imported)
            else:
                modules.add(f"import {module}" + (f" as {name}" if name != module else ""))
    lines = [
        *sorted(modules),
        *(f"from {module} import {', '.join(sorted(froms[module]))}" for module in sorted(froms)),
    ]
    own = [line for line in lines if line.split()[1].partition(".")[0] in sys.stdlib_module_names]
    others = [line for line in lines if line not in own]
    groups = [["from __future__ import annotations"], own, others]
    return "\n\n".join("\n".join(group) for group in groups if group)

"""Where the source of a function or a class stands, and its text cut out and shortened for a reader."""

from __future__ import annotations

import ast
import functools
import inspect
import re
import sys
import textwrap
import types
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

Definition = ast.FunctionDef | ast.ClassDef | ast.Lambda

LINE = 120
"""Columns of a line."""


@dataclass(frozen=True, slots=True)
class Edit:
    """Characters of a text to be replaced by others."""

    first: int
    last: int
    text: str


def edited(text: str, edits: Iterable[Edit]) -> str:
    """A text with its edits made; of two that overlap the outer one wins."""
    done = len(text)
    kept: list[Edit] = []
    for edit in sorted(edits, key=lambda edit: (edit.first, -edit.last)):
        if not kept or edit.first >= kept[-1].last:
            kept.append(edit)
    for edit in reversed(kept):
        assert edit.last <= done
        text = text[: edit.first] + edit.text + text[edit.last :]
        done = edit.first
    return text


class Text:
    """A text with its syntax tree, and the places of nodes in it."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.tree = ast.parse(text)
        self._lines = text.splitlines(keepends=True)
        self._starts = [0]
        for line in self._lines:
            self._starts.append(self._starts[-1] + len(line))

    def span(self, node: ast.AST) -> tuple[int, int]:
        """The first character of a node, and the one after its last."""
        assert isinstance(node, ast.expr | ast.stmt | ast.arg | ast.keyword)
        assert node.end_lineno is not None and node.end_col_offset is not None
        return self._offset(node.lineno, node.col_offset), self._offset(node.end_lineno, node.end_col_offset)

    def of(self, node: ast.AST) -> str:
        """A node's own characters."""
        first, last = self.span(node)
        return self.text[first:last]

    def lines(self, first: int, last: int) -> tuple[int, int]:
        """The characters of whole lines, counted from 1; ``last`` is included."""
        return self._starts[first - 1], self._starts[last]

    def line(self, number: int) -> str:
        """One line, counted from 1."""
        return self._lines[number - 1]

    def above(self, number: int) -> int:
        """The first of the comment lines that stand right above a line, or the line itself."""
        indent = len(self.line(number)) - len(self.line(number).lstrip())
        while number > 1 and self.line(number - 1).startswith(" " * indent + "#"):
            number -= 1
        return number

    def _offset(self, line: int, column: int) -> int:
        return self._starts[line - 1] + len(self._lines[line - 1].encode()[:column].decode())


@functools.cache
def module_text(name: str) -> Text:
    """The source of an imported module."""
    return Text(inspect.getsource(sys.modules[name]))


def find(thing: Any) -> tuple[Text, Definition]:
    """A function's or class's definition, alone in a text.

    Raises:
        OSError: There is no source of it.
    """
    if isinstance(thing, types.FunctionType) and thing.__name__ == "<lambda>":
        return _lambda(thing)
    text = Text(textwrap.dedent(inspect.getsource(thing)))
    (node,) = text.tree.body
    assert isinstance(node, ast.FunctionDef | ast.ClassDef)
    return text, node


def _lambda(thing: types.FunctionType) -> tuple[Text, Definition]:
    """A lambda as an expression that stands alone."""
    source = module_text(thing.__module__)
    code = thing.__code__
    places = {line for line, *_ in code.co_positions() if line is not None} | {code.co_firstlineno}
    names = list(code.co_varnames[: code.co_argcount])
    columns = [column for line, _, column, _ in code.co_positions() if line is not None and column]
    fitting = [
        node
        for node in ast.walk(source.tree)
        if isinstance(node, ast.Lambda)
        and node.lineno in places
        and [argument.arg for argument in node.args.args] == names
        and (not columns or node.body.col_offset <= min(columns) or node.lineno != node.end_lineno)
    ]
    if not fitting:
        raise OSError("the source of a lambda was not found")
    nearest = max(fitting, key=lambda node: node.body.col_offset)
    text = Text("(" + source.of(nearest) + ")")
    statement = text.tree.body[0]
    assert isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Lambda)
    return text, statement.value


def import_of(module: str, name: str) -> str | None:
    """The line by which a module brings a name in, or None when it defines it itself."""
    for node in _running(module_text(module).tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            for alias in node.names:
                if (alias.asname or alias.name.partition(".")[0]) == name:
                    asked = f"{alias.name} as {alias.asname}" if alias.asname else alias.name
                    return (
                        f"from {node.module} import {asked}" if isinstance(node, ast.ImportFrom) else f"import {asked}"
                    )
    return None


def _running(tree: ast.Module) -> Iterator[ast.AST]:
    for node in tree.body:
        yield node
        if isinstance(node, ast.If):
            yield from node.body


def assignment(module: str, name: str) -> tuple[Text, ast.expr] | None:
    """The expression that a module-level name stands for, alone in a text; None where several names share one."""
    source = module_text(module)
    for node in source.tree.body:
        targets = (
            node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AnnAssign) else []
        )
        value = getattr(node, "value", None)
        if value is not None and any(isinstance(target, ast.Name) and target.id == name for target in targets):
            text = Text("(" + source.of(value) + ")")
            statement = text.tree.body[0]
            assert isinstance(statement, ast.Expr)
            return text, statement.value
    return None


def bound_names(node: ast.AST) -> set[str]:
    """Every name that is bound anywhere within a definition, its own parameters among them."""
    names: set[str] = set()
    for inner in ast.walk(node):
        if isinstance(inner, ast.Name) and isinstance(inner.ctx, ast.Store | ast.Del):
            names.add(inner.id)
        elif isinstance(inner, ast.arg):
            names.add(inner.arg)
        elif isinstance(inner, ast.FunctionDef | ast.ClassDef) and inner is not node:
            names.add(inner.name)
    return names


def assigned(node: ast.AST) -> list[str]:
    """The names that a definition assigns, each as often as it does."""
    return [n.id for n in ast.walk(node) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)]


def in_one_line(text: str) -> str | None:
    """An expression that stands over several lines, in one; None where it has comments."""
    lines = [line.strip() for line in text.split("\n")]
    if len(lines) > 1 and any("#" in line for line in lines):
        return None
    made = lines[0]
    for line in lines[1:]:
        if line[:1] in ")]}":
            made = made.removesuffix(",") + line
        else:
            made += line if made.endswith(("(", "[", "{")) else f" {line}"
    return made


def tested(node: Definition) -> set[str]:
    """The parameters that a definition decides by: what is known of them settles which lines are needed."""
    names: set[str] = set()
    for inner in ast.walk(node):
        tests: list[ast.expr] = []
        if isinstance(inner, ast.If | ast.IfExp):
            tests = [inner.test]
        elif isinstance(inner, ast.BoolOp):
            tests = list(inner.values)
        for test in tests:
            names |= {found.id for found in ast.walk(test) if isinstance(found, ast.Name)}
    return names


def docstring_edit(text: Text, node: ast.FunctionDef | ast.ClassDef, indent: int) -> list[Edit]:
    """Keeps a docstring's first paragraph: the rest is reference, which a script has no use for."""
    if ast.get_docstring(node) is None:
        return []
    statement = node.body[0]
    first = (ast.get_docstring(node) or "").split("\n\n")[0]
    first = _in_script(" ".join(first.split()))
    room = LINE - indent
    if len(first) + 6 <= room:
        made = f'"""{first}"""'
    else:
        lines = textwrap.wrap(first, room, initial_indent="   ")
        lines[0] = lines[0].lstrip()
        made = '"""' + f"\n{' ' * indent}".join(lines) + f'\n{" " * indent}"""'
    return [Edit(*text.span(statement), made)]


def _in_script(text: str) -> str:
    """A docstring's text without the marks of the documentation that it is made for."""
    return re.sub(r":\w+:`~?\.?([^`]*)`", lambda found: "`" + found[1].rpartition(".")[2] + "`", text).replace(
        "``", "`"
    )

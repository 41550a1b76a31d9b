"""Definitions as a script gets them: short docstrings, bare parameters, and classes put together method by method."""

from __future__ import annotations

import ast
import sys
import textwrap
from typing import TYPE_CHECKING, Any

from flambeau.eject.folding import folded, referenced
from flambeau.eject.located import Edit, Text, bound_names, docstring_edit, edited
from flambeau.eject.values import Scope, Several, plain_text

if TYPE_CHECKING:
    from flambeau.eject.copying import Copier


class ClassText:
    """The definition of one class, method by method."""

    def __init__(
        self,
        copier: Copier,
        kind: type,
        text: Text,
        node: ast.ClassDef,
        instances: tuple[Any, ...],
        known: dict[str, Any],
        given: dict[str, Several],
        place: str,
    ) -> None:
        self.copier, self.kind, self.text, self.node, self.place = copier, kind, text, node, place
        self.known, self.given = known, given
        self.own = Several(instances, _fixed(node)) if instances else None
        self.globals = vars(sys.modules[kind.__module__])

    def made(self) -> str:
        parts = [self._header()]
        for statement in self.node.body:
            if isinstance(statement, ast.FunctionDef):
                parts.append("\n" + textwrap.indent(self._method(statement), "    "))
            elif self._is_field(statement):
                field = referenced(
                    self.text.of(statement), Scope(globals=self.globals), self.copier, self.kind.__module__
                )
                parts.append(("    " if len(parts) > 1 else "\n    ") + field + "\n")
        text = "".join(parts)
        return _without_idle_attributes(text, _looked_at(self.node)).rstrip("\n")

    def _header(self) -> str:
        node = self.node
        decorators = "".join(f"@{self._folded(self.text.of(one), frozenset())}\n" for one in node.decorator_list)
        bases = ", ".join(self._folded(self.text.of(base), frozenset()) for base in node.bases)
        head = f"{decorators}class {self.place}{f'({bases})' if bases else ''}:\n"
        shortened = docstring_edit(self.text, node, 4)
        return head + (f"    {shortened[0].text}\n" if shortened else "")

    def _is_field(self, statement: ast.stmt) -> bool:
        marks = [*self.node.decorator_list, *self.node.bases]
        is_record = any(mark in self.text.of(one) for one in marks for mark in ("dataclass", "NamedTuple"))
        bare = isinstance(statement, ast.AnnAssign) and statement.value is None
        return isinstance(statement, ast.Assign | ast.AnnAssign) and (is_record or not bare)

    def _folded(self, source: str, hidden: frozenset[str]) -> str:
        return folded(source, Scope(globals=self.globals, hidden=hidden), self.copier, self.kind.__module__)

    def _method(self, statement: ast.FunctionDef) -> str:
        text = Text(textwrap.dedent(_with_decorators(self.text, statement)))
        (node,) = text.tree.body
        assert isinstance(node, ast.FunctionDef)
        known = dict(self.known) if node.name == "__init__" else {}
        source = without_annotations(text, node, dropped=set(known), name=node.name)
        if self.own is not None:
            known["self"] = self.own
        if self.own is not None and node.name == "__init__":
            known |= self.given
        scope = Scope(known, frozenset(bound_names(node) - set(known)), self.globals)
        return folded(source, scope, self.copier, self.kind.__module__).rstrip("\n") + "\n"


def _with_decorators(text: Text, node: ast.FunctionDef) -> str:
    first = node.decorator_list[0].lineno if node.decorator_list else node.lineno
    start, end = text.lines(first, node.end_lineno or first)
    return text.text[start:end]


def _fixed(node: ast.ClassDef) -> frozenset[str]:
    """The attributes that nothing but the constructor of a class sets, and that only once."""
    counts: dict[str, int] = {}
    for method in node.body:
        for inner in ast.walk(method):
            if isinstance(inner, ast.Attribute) and isinstance(inner.ctx, ast.Store):
                counts[inner.attr] = counts.get(inner.attr, 0) + (1 if getattr(method, "name", "") == "__init__" else 2)
            elif (
                isinstance(inner, ast.Call)
                and isinstance(inner.func, ast.Attribute)
                and inner.func.attr == "register_buffer"
                and isinstance(inner.args[0], ast.Constant)
            ):
                counts[str(inner.args[0].value)] = 1
    return frozenset(name for name, count in counts.items() if count == 1)


def _looked_at(tree: ast.AST) -> set[str]:
    """The attributes that are read anywhere."""
    return {n.attr for n in ast.walk(tree) if isinstance(n, ast.Attribute) and isinstance(n.ctx, ast.Load)}


def _without_idle_attributes(text: str, before: set[str]) -> str:
    """A class without the attributes that hold a constant and are no longer looked at, but were ``before``."""
    made = Text(text)
    idle = before - _looked_at(made.tree)
    edits = [
        Edit(*made.lines(node.lineno, node.end_lineno or node.lineno), "")
        for node in ast.walk(made.tree)
        if isinstance(node, ast.Assign)
        and isinstance(node.value, ast.Constant)
        and isinstance(node.targets[0], ast.Attribute)
        and node.targets[0].attr in idle
    ]
    return edited(text, edits)


def without_annotations(text: Text, node: Any, *, dropped: set[str], name: str) -> str:
    """A definition with short docstrings and bare parameters, some of them left out; a lambda becomes a function."""
    if isinstance(node, ast.Lambda):
        arguments = _bare(node.args, dropped)
        return f"def {name}({arguments}):\n    return {text.of(node.body)}\n"
    edits = []
    for inner in ast.walk(node):
        if isinstance(inner, ast.FunctionDef):
            outer = inner is node
            arguments = _bare(inner.args, dropped if outer else set())
            pad = " " * inner.col_offset
            start, _ = text.span(inner)
            first = inner.body[0]
            end, _ = text.lines(text.above(first.lineno), first.end_lineno or first.lineno)
            edits.append(Edit(start, end, f"def {name if outer else inner.name}({arguments}):\n"))
            edits += docstring_edit(text, inner, len(pad) + 4)
    return edited(text.text, edits)


def _bare(arguments: ast.arguments, dropped: set[str]) -> str:
    """Parameters as they stand in a definition, without annotations."""
    made = ast.parse(f"def f({ast.unparse(arguments)}): pass").body[0]
    assert isinstance(made, ast.FunctionDef)
    a = made.args
    positional = [*a.posonlyargs, *a.args]
    defaults: list[ast.expr | None] = [*[None] * (len(positional) - len(a.defaults)), *a.defaults]
    told = [(p.arg, d) for p, d in zip(positional, defaults, strict=True) if p.arg not in dropped]
    texts = [name if default is None else f"{name}={_shown(default)}" for name, default in told]
    keyword = [(p.arg, d) for p, d in zip(a.kwonlyargs, a.kw_defaults, strict=True) if p.arg not in dropped]
    if a.vararg:
        texts.append(f"*{a.vararg.arg}")
    elif keyword:
        texts.append("*")
    texts += [name if default is None else f"{name}={_shown(default)}" for name, default in keyword]
    if a.kwarg:
        texts.append(f"**{a.kwarg.arg}")
    return ", ".join(texts)


def _shown(default: ast.expr) -> str:
    if isinstance(default, ast.Constant):
        return plain_text(default.value) or ast.unparse(default)
    return ast.unparse(default)

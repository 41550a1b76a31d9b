"""A script made plainer: a loop over what another loop makes, and a dictionary that is taken apart at once."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from flambeau.eject.located import Edit, Text, assigned, bound_names, edited, in_one_line

_HARMLESS = ("softmax", "sigmoid", "log_softmax", "argmax")
"""What may be left out when nobody asks for what it gives."""


def unfolded(text: Text) -> str | None:
    """The script with one such thing written plainly, or None where there is none."""
    return next(_changes(text), None)


def _changes(text: Text) -> Iterator[str]:
    for function in [n for n in ast.walk(text.tree) if isinstance(n, ast.FunctionDef)]:
        for node in ast.walk(function):
            if isinstance(node, ast.For) and isinstance(node.iter, ast.GeneratorExp):
                edits = _loop(text, function, node, node.iter)
            elif isinstance(node, ast.Assign) and isinstance(node.value, ast.Dict):
                edits = _dictionary(text, function, node, node.value)
            else:
                continue
            if edits:
                yield edited(text.text, edits)


def _loop(text: Text, function: ast.FunctionDef, node: ast.For, made: ast.GeneratorExp) -> list[Edit]:
    """``for a, b in ((f(b), b) for b in rows)`` as ``for b in rows``, and ``a = f(b)`` as its first line."""
    if len(made.generators) != 1 or made.generators[0].ifs:
        return []
    inner = made.generators[0]
    own, elsewhere = bound_names(inner.target), bound_names(function) - bound_names(made) - bound_names(node.target)
    lines = _assignments(text, node.target, made.elt)
    if own & elsewhere or lines is None:
        return []
    indent = " " * node.body[0].col_offset
    start, end = text.lines(node.lineno, node.body[0].lineno - 1)
    head = f"for {text.of(inner.target)} in {in_one_line(text.of(inner.iter))}:"
    return [Edit(start, end, "".join([" " * node.col_offset, head, "\n", *(f"{indent}{one}\n" for one in lines)]))]


def _assignments(text: Text, target: ast.expr, value: ast.expr) -> list[str] | None:
    """Statements that give a target its value, part by part; those that say nothing are left out."""
    pairs = [(target, value)]
    if isinstance(target, ast.Tuple) and isinstance(value, ast.Tuple):
        if len(target.elts) != len(value.elts):
            return None
        pairs = list(zip(target.elts, value.elts, strict=True))
    told = [(text.of(one), in_one_line(text.of(other))) for one, other in pairs]
    for number, (_, value_text) in enumerate(told):
        before = {name for name, same in told[:number] if name != same}
        if value_text is None or before & {n.id for n in ast.walk(pairs[number][1]) if isinstance(n, ast.Name)}:
            return None
    return [f"{name} = {made}" for name, made in told if name != made]


def _dictionary(text: Text, function: ast.FunctionDef, node: ast.Assign, made: ast.Dict) -> list[Edit]:
    """A dictionary of which only single entries are looked at, as a variable for each of these."""
    if len(node.targets) != 1 or not isinstance(node.targets[0], ast.Name):
        return []
    name = node.targets[0].id
    loads = [n for n in ast.walk(function) if isinstance(n, ast.Name) and n.id == name and isinstance(n.ctx, ast.Load)]
    looks = [n for n in ast.walk(function) if isinstance(n, ast.Subscript) and n.value in loads]
    keys = [key.value for key in made.keys if isinstance(key, ast.Constant) and isinstance(key.value, str)]
    asked = [str(n.slice.value) for n in looks if isinstance(n.slice, ast.Constant) and isinstance(n.ctx, ast.Load)]
    entries = dict(zip(keys, made.values, strict=False))
    only = assigned(function).count(name) == 1 and len(looks) == len(loads) == len(asked)
    if not only or len(keys) < len(made.keys) or not asked or not set(asked) <= set(keys):
        return []
    lines, places = [], {}
    for key, value in entries.items():
        if key not in asked:
            if not _is_harmless(value):
                return []
        elif isinstance(value, ast.Name) and assigned(function).count(value.id) <= 1:
            places[key] = value.id
        elif key in bound_names(function) or not key.isidentifier():
            return []
        else:
            places[key] = key
            lines.append(f"{' ' * node.col_offset}{key} = {in_one_line(text.of(value))}\n")
    start, end = text.lines(node.lineno, node.end_lineno or node.lineno)
    return [
        Edit(start, end, "".join(lines)),
        *(Edit(*text.span(n), places[key]) for n, key in zip(looks, asked, strict=True)),
    ]


def _is_harmless(value: ast.expr) -> bool:
    """Whether nothing but its value is lost when an expression is left out."""
    calls = [n for n in ast.walk(value) if isinstance(n, ast.Call)]
    return all(isinstance(call.func, ast.Attribute) and call.func.attr in _HARMLESS for call in calls)

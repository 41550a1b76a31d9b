"""What an expression of source text comes to, where enough of its names are known; nothing is executed as text."""

from __future__ import annotations

import ast
import inspect
import json
import operator
import types
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn


class Unknown(Exception):
    """The value depends on something that is only there when the script runs."""


@dataclass(frozen=True, slots=True)
class Several:
    """The objects that ``self`` stands for: all modules of one class in the network, or their parts.

    Attributes:
        objects: At least one.
        fixed: Names of attributes that nothing but the constructor sets.
    """

    objects: tuple[Any, ...]
    fixed: frozenset[str] = frozenset()

    def part(self, name: str) -> Any:
        """An attribute that all of them share the value of, or their parts.

        Raises:
            Unknown: It may change, or differs between them.
        """
        if name not in self.fixed or not all(hasattr(one, name) for one in self.objects):
            raise Unknown
        parts = tuple(getattr(one, name) for one in self.objects)
        if all(isinstance(part, Tensor | nn.Module) for part in parts):
            return Several(parts)
        if any(isinstance(part, Tensor | nn.Module) or part != parts[0] for part in parts):
            raise Unknown
        return parts[0]


@dataclass(frozen=True, slots=True)
class Keys:
    """A dictionary of which only the keys are known.

    Attributes:
        names: All of them.
    """

    names: frozenset[str]

    def __contains__(self, name: object) -> bool:
        return name in self.names


@dataclass(frozen=True, slots=True)
class Scope:
    """What the names of a function stand for.

    Attributes:
        known: Values of parameters, of names from an enclosing function, and of assignments made of such.
        hidden: Names that the function binds itself.
        globals: Those of its module.
        locals: What it imports itself: module, name and object, by the name that it has here.
    """

    known: dict[str, Any] = field(default_factory=dict)
    hidden: frozenset[str] = frozenset()
    globals: Mapping[str, Any] = field(default_factory=dict)
    locals: dict[str, tuple[str, str, Any]] = field(default_factory=dict)

    def uses(self, node: ast.AST) -> bool:
        """Whether a known name stands in an expression."""
        return any(isinstance(inner, ast.Name) and inner.id in self.known for inner in ast.walk(node))


_SAFE: dict[str, Callable[..., Any]] = {
    function.__name__: function
    for function in (len, min, max, bool, int, float, abs, round, sum, tuple, list, sorted, isinstance, dict)
}

_BINARY: dict[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
    ast.Pow: operator.pow,
    ast.LShift: operator.lshift,
    ast.RShift: operator.rshift,
    ast.BitOr: operator.or_,
    ast.BitAnd: operator.and_,
}

_COMPARED: dict[type[ast.cmpop], Callable[[Any, Any], Any]] = {
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
    ast.Is: operator.is_,
    ast.IsNot: operator.is_not,
    ast.In: lambda one, many: one in many,
    ast.NotIn: lambda one, many: one not in many,
}

_UNARY: dict[type[ast.unaryop], Callable[[Any], Any]] = {
    ast.Not: lambda value: not truth(value),
    ast.USub: operator.neg,
    ast.UAdd: operator.pos,
    ast.Invert: operator.invert,
}


def truth(value: Any) -> bool:
    """Whether a value counts as true.

    Raises:
        Unknown: Some of the objects that it stands for do and some do not, or it is a tensor's content.
    """
    if isinstance(value, Tensor):
        raise Unknown
    if isinstance(value, Keys):
        raise Unknown
    if not isinstance(value, Several):
        return bool(value)
    if any(isinstance(one, Tensor) for one in value.objects):
        raise Unknown
    return _agreed(bool(one) for one in value.objects)


def _agreed(answers: Iterable[bool]) -> bool:
    """What is the answer for all of several objects.

    Raises:
        Unknown: For some it is this, for others that.
    """
    found = set(answers)
    if len(found) != 1:
        raise Unknown
    return found.pop()


def value_of(node: ast.expr, scope: Scope) -> Any:
    """The value of an expression.

    Raises:
        Unknown: It is not known yet.
    """
    find = _FINDERS.get(type(node))
    if find is None:
        raise Unknown
    try:
        return find(node, scope)
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
        raise Unknown from error


def _name(node: ast.Name, scope: Scope) -> Any:
    if node.id in scope.known:
        return scope.known[node.id]
    if node.id in scope.locals:
        return scope.locals[node.id][2]
    if node.id in scope.hidden:
        raise Unknown
    if node.id in scope.globals:
        return scope.globals[node.id]
    if node.id in _SAFE:
        return _SAFE[node.id]
    raise Unknown


def _attribute(node: ast.Attribute, scope: Scope) -> Any:
    value = value_of(node.value, scope)
    return value.part(node.attr) if isinstance(value, Several) else getattr(value, node.attr)


def _boolean(node: ast.BoolOp, scope: Scope) -> Any:
    value = None
    for part in node.values:
        value = value_of(part, scope)
        if truth(value) is isinstance(node.op, ast.Or):
            break
    return value


def _compare(node: ast.Compare, scope: Scope) -> Any:
    left = value_of(node.left, scope)
    for kind, right_node in zip(node.ops, node.comparators, strict=True):
        right = value_of(right_node, scope)
        about_none = isinstance(kind, ast.Is | ast.IsNot) and right is None
        if isinstance(left, Tensor | Several) and not about_none:
            raise Unknown
        if not _COMPARED[type(kind)](left, right):
            return False
        left = right
    return True


def _call(node: ast.Call, scope: Scope) -> Any:
    if any(isinstance(argument, ast.Starred) for argument in node.args):
        raise Unknown
    function = value_of(node.func, scope)
    if not _harmless(function):
        raise Unknown
    arguments = [value_of(argument, scope) for argument in node.args]
    named = {word.arg: value_of(word.value, scope) for word in node.keywords if word.arg is not None}
    if function is isinstance and isinstance(arguments[0], Several):
        return _agreed(isinstance(one, arguments[1]) for one in arguments[0].objects)
    if len(named) < len(node.keywords) or any(
        isinstance(value, Several | Keys) for value in [*arguments, *named.values()]
    ):
        raise Unknown
    try:
        return function(*arguments, **named)
    except Exception as error:
        raise Unknown from error


def _elements(node: ast.Tuple | ast.List, scope: Scope) -> list[Any]:
    values = [value_of(part, scope) for part in node.elts]
    if any(isinstance(value, Several | Keys) for value in values):
        raise Unknown
    return values


def _harmless(function: Any) -> bool:
    """Whether calling it to see what comes out does nothing else."""
    if function in _SAFE.values():
        return True
    owner = getattr(function, "__self__", None)
    if isinstance(owner, str | dict | tuple):
        return True
    return isinstance(function, types.FunctionType) and is_ours(function)


def is_ours(thing: Any) -> bool:
    """Whether a script without Flambeau must bring this function or class along."""
    module = getattr(thing, "__module__", None) or ""
    return module.partition(".")[0] == "flambeau" or module.startswith("flambeau_") or module == "__main__"


_FINDERS: dict[type[ast.expr], Callable[[Any, Scope], Any]] = {
    ast.Constant: lambda node, scope: node.value,
    ast.Name: _name,
    ast.Attribute: _attribute,
    ast.Subscript: lambda node, scope: value_of(node.value, scope)[value_of(node.slice, scope)],
    ast.Compare: _compare,
    ast.BoolOp: _boolean,
    ast.UnaryOp: lambda node, scope: _UNARY[type(node.op)](value_of(node.operand, scope)),
    ast.BinOp: lambda node, scope: _BINARY[type(node.op)](value_of(node.left, scope), value_of(node.right, scope)),
    ast.IfExp: lambda node, scope: value_of(node.body if truth(value_of(node.test, scope)) else node.orelse, scope),
    ast.Tuple: lambda node, scope: tuple(_elements(node, scope)),
    ast.List: lambda node, scope: _elements(node, scope),
    ast.Call: _call,
}


def is_mode(value: Any) -> bool:
    """Whether a value says how something is done (a name, a switch, a record), not how much: it is put in."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        return False
    if isinstance(value, list | tuple):
        return any(is_mode(part) for part in value)
    if isinstance(value, dict):
        return not any(isinstance(part, Tensor) for part in value.values())
    return not isinstance(value, Tensor | nn.Module | Several | Keys)


def plain_text(value: Any) -> str | None:
    """A value as Python writes it, or None where it cannot be written in one line."""
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False)
    if value is None or isinstance(value, bool | int | float):
        return repr(value)
    if isinstance(value, torch.dtype):
        return str(value)
    if isinstance(value, list | tuple):
        parts = [plain_text(part) for part in value]
        if any(part is None for part in parts):
            return None
        inner = ", ".join(part for part in parts if part is not None)
        if isinstance(value, list):
            return f"[{inner}]"
        return f"({inner},)" if len(value) == 1 else f"({inner})"
    if isinstance(value, dict):
        pairs = [(plain_text(name), plain_text(part)) for name, part in value.items()]
        if any(part is None for pair in pairs for part in pair):
            return None
        return "{" + ", ".join(f"{name}: {part}" for name, part in pairs) + "}"
    return None


def closure_of(function: Any) -> dict[str, Any]:
    """What a function has kept of the function that it was made in."""
    return dict(inspect.getclosurevars(function).nonlocals)

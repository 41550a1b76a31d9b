"""Functions and classes of ours taken along into a script: each with what it uses, and with what is known put in."""

from __future__ import annotations

import ast
import functools
import inspect
import re
import sys
import textwrap
import types
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import nn

from flambeau.eject.definitions import ClassText, without_annotations
from flambeau.eject.folding import folded
from flambeau.eject.located import (
    LINE,
    Edit,
    Text,
    assigned,
    assignment,
    bound_names,
    edited,
    find,
    import_of,
    tested,
)
from flambeau.eject.published import Published, definition
from flambeau.eject.values import Scope, Several, Unknown, closure_of, is_mode, is_ours, plain_text, value_of

_TABLE = 1000
"""Tensors of more numbers are not written into a script."""

_ROOM = 75
"""A call is not replaced by an expression of more characters; what it then stands in is not known here."""

_OPENING = str.maketrans(")]}", "([{")


@dataclass(slots=True)
class Item:
    """A definition that the script gets.

    Attributes:
        number: What stands for its name in texts until all names are known: ``REF<number>_``.
        wanted: What it should be called.
        text: Its definition.
        locals: Names that it binds itself, which its needs must not be called by.
        dropped: Parameters that were put in, so that nobody passes them.
        parameters: Those that are left.
        expression: What it returns, where that is all it does.
        ours: Whether it is of Flambeau's own source.
    """

    number: int
    wanted: str
    text: str = ""
    locals: set[str] = field(default_factory=set)
    dropped: set[str] = field(default_factory=set)
    parameters: list[str] = field(default_factory=list)
    expression: str | None = None
    ours: bool = True

    @property
    def place(self) -> str:
        return f"REF{self.number}_"


class Copier:
    """Collects the definitions that a script needs."""

    def __init__(self, settings: Mapping[str, tuple[str, Any]] | None = None, stem: str = "train") -> None:
        self.stem = stem
        self.tables: dict[str, np.ndarray[Any, Any]] = {}
        """What is too long for a script, and lies in a file beside it."""
        self.settings = dict(settings or {})
        self.items: list[Item] = []
        self.imports: set[str] = set()
        self.zeroed = False
        """Whether the network's text has zeros in place of numbers that are too many to write."""
        self.made: dict[int, tuple[nn.Module, tuple[Any, ...], dict[str, Any]]] = {}
        """How each module of the network was made: itself, positional and named arguments, by its id."""
        self.published: dict[int, Published] = {}
        """The networks that builders of other packages made, by their ids."""
        self._by_key: dict[Any, Item] = {}
        self._kept: list[Any] = []

    # Names

    def named(self, module: str, name: str) -> str:
        """What stands in the script for a name of a module: itself, or the place of a definition that is copied."""
        if not hasattr(sys.modules[module], name):
            return name  # a builtin, or only there for a type checker
        thing = getattr(sys.modules[module], name)
        line = import_of(module, name)
        if line is not None and not line.startswith("from flambeau"):
            self.imports.add(line)
            return name
        if line is not None and inspect.ismodule(thing):
            return name
        if line is not None:
            source, _, original = line.removeprefix("from ").partition(" import ")
            return self.named(source, original.partition(" as ")[0])
        if isinstance(thing, type) or isinstance(inspect.unwrap(thing), types.FunctionType):
            return self.reference(inspect.unwrap(thing))
        return self._constant(module, name)

    def reference(
        self,
        thing: Any,
        *,
        name: str | None = None,
        known: Mapping[str, Any] | None = None,
        about: Mapping[str, Any] | None = None,
    ) -> str:
        """The place of a function (with what it has kept of the one that it was made in) or of a class.

        Args:
            thing: The function or class.
            name: What it is called in the script, where that is not its own name.
            known: Values of parameters, which are put in and no longer passed.
            about: What is known of parameters that are passed.
        """
        if isinstance(thing, type):
            return self._class(thing).place
        return self.specialised(thing, known or {}, name=name, about=about).place

    def written(self, value: Any) -> str | None:
        """A value as the script may write it, or None where it cannot."""
        if isinstance(value, nn.Module):
            bare = not is_ours(type(value)) and not list(value.parameters()) and not list(value.children())
            known = id(value) in self.made or id(value) in self.published
            return self.module(value) if known or bare else None
        if isinstance(value, type):
            return self._class_name(value)
        if isinstance(value, types.FunctionType) and is_ours(value):
            return self.reference(value)
        if isinstance(value, torch.Tensor):
            self.imports.add("import torch")
            made = plain_text(value.tolist()) if value.numel() <= _TABLE else None
            return f"torch.tensor({made}, dtype={value.dtype})" if made else None
        text = plain_text(value)
        if isinstance(value, torch.dtype):
            self.imports.add("import torch")
        return text if text is not None and len(text) <= 2000 else None

    def table(self, name: str, text: str) -> str:
        """The place of a constant for a value that is too long to stand in the middle of a line."""
        key = ("table", text)
        if key not in self._by_key:
            item = self._new(key, name.lstrip("_").upper())
            opened = text.index(text[-1].translate(_OPENING)) + 1
            inner = textwrap.fill(text[opened:-1], LINE - 8, initial_indent="    ", subsequent_indent="    ")
            item.text = f"{item.place} = {text[:opened]}\n{inner}{',' * (text[-2:-1] != ',')}\n{text[-1]}"
            self._finish(item)
        return self._by_key[key].place

    def kept(self, name: str, value: Any) -> str | None:
        """The place of a constant that is read from the file of tables; None for what no such file can hold."""
        wanted = name.lstrip("_").upper()
        if isinstance(value, dict) and value and all(isinstance(part, torch.Tensor) for part in value.values()):
            parts = {f"{wanted}.{key}": part for key, part in value.items()}
            text = ", ".join(f"{plain_text(key)}: {self._read(f'{wanted}.{key}')}" for key in value)
            text = "{" + text + "}"
        elif isinstance(value, torch.Tensor):
            parts, text = {wanted: value}, self._read(wanted)
        elif isinstance(value, str):
            parts, text = {wanted: value}, f'str(np.load(HERE / "{self.stem}-tables.npz")["{wanted}"])'
        else:
            return None
        key = ("kept", wanted, id(value))
        if key not in self._by_key:
            self._kept.append(value)
            self.tables |= {title: np.array(part) for title, part in parts.items()}
            item = self._new(key, wanted)
            item.text = f"{item.place} = {text}"
            self._finish(item)
        return self._by_key[key].place

    def _read(self, title: str) -> str:
        return f'torch.from_numpy(np.load(HERE / "{self.stem}-tables.npz")["{title}"])'

    def setting(self, node: ast.expr, value: Any) -> str | None:
        """The constant at the top of the script that a name stands for."""
        name = node.attr if isinstance(node, ast.Attribute) else node.id if isinstance(node, ast.Name) else ""
        known = self.settings.get(name)
        return known[0] if known is not None and type(value) is type(known[1]) and value == known[1] else None

    def has_setting(self, node: ast.expr, scope: Scope) -> bool:
        """Whether an expression computes with a setting, so that it is more telling with the name in it."""
        return isinstance(node, ast.BinOp | ast.UnaryOp) and any(
            isinstance(inner, ast.Attribute | ast.Name) and self.setting(inner, _looked(inner, scope)) is not None
            for inner in ast.walk(node)
        )

    def kinds(self) -> set[type]:
        """The classes of ours in the network."""
        return {type(module) for module, _, _ in self.made.values() if is_ours(type(module))}

    def _class_name(self, kind: type) -> str | None:
        for owner, name, line in (
            (nn, "nn", "from torch import nn"),
            (torch.optim, "torch.optim", "import torch"),
            (torch, "torch", "import torch"),
        ):
            if getattr(owner, kind.__name__, None) is kind:
                self.imports.add(line)
                return f"{name}.{kind.__name__}"
        return self._class(kind).place if is_ours(kind) else None

    def _constant(self, module: str, name: str) -> str:
        key = (module, name)
        if key not in self._by_key:
            item = self._new(key, name.lstrip("_"))
            found = assignment(module, name)
            if found is None:
                text = plain_text(getattr(sys.modules[module], name)) or name
            else:
                scope = Scope(globals=vars(sys.modules[module]), hidden=frozenset(bound_names(found[0].tree)))
                text = folded(found[0].text, scope, self, module)[1:-1]
            item.text = f"{item.place} = {text}"
            self._finish(item)
        return self._by_key[key].place

    # Functions

    @functools.cache  # noqa: B019 - a copier lives as long as one script is written
    def decided_by(self, function: types.FunctionType) -> frozenset[str]:
        """The parameters whose value settles which lines of a function are needed."""
        return frozenset(tested(find(function)[1]))

    def call(self, function: Callable[..., Any], known: Mapping[str, Any], given: Mapping[str, str]) -> str | None:
        """The text of a call with what is known put in; None where nothing is, and the name alone will do."""
        function = _plain(function)
        if not known and not closure_of(function) and function.__name__ != "<lambda>":
            return None
        item = self.specialised(function, known)
        left = {name: text for name, text in given.items() if name not in item.dropped}
        if item.expression is not None:
            inlined = _inlined(item, left)
            if inlined is not None and len(inlined) <= _ROOM:
                return inlined
        if not item.dropped and function.__name__ != "<lambda>" and not closure_of(function):
            return None
        keyword_only = {name for name, p in inspect.signature(function).parameters.items() if p.kind is p.KEYWORD_ONLY}
        passed, in_order = [], True
        for name in item.parameters:
            if name not in left:
                in_order = False  # its default is taken
                continue
            named = name in keyword_only or not in_order
            passed.append(f"{name}={left[name]}" if named else left[name])
        return f"{item.place}({', '.join(passed)})"

    def specialised(
        self,
        function: Callable[..., Any],
        known: Mapping[str, Any],
        *,
        name: str | None = None,
        about: Mapping[str, Any] | None = None,
    ) -> Item:
        """A function with the values of some parameters, and of all that it has kept, put in."""
        function = _plain(function)
        kept = closure_of(function)
        text, node = find(function)
        rebound = set(_assigned_beside_parameters(node))
        known = {one: value for one, value in known.items() if one not in rebound}
        key = (function.__code__, _frozen(known), _frozen(kept))
        if key in self._by_key:
            return self._by_key[key]
        self._kept.append((function, known, kept))
        item = self._new(key, name or (function.__name__.lstrip("_") if function.__name__ != "<lambda>" else "chosen"))
        item.dropped = set(known)
        item.ours = function.__module__.startswith("flambeau.")
        scope = Scope(
            {**kept, **known, **(about or {})},
            frozenset(bound_names(node) - set(known)),
            vars(sys.modules[function.__module__]),
        )
        source = without_annotations(text, node, dropped=set(known), name=item.place)
        item.text = folded(source, scope, self, function.__module__)
        self._finish(item)
        return item

    def _new(self, key: Any, wanted: str) -> Item:
        item = Item(len(self.items), wanted)
        self.items.append(item)
        self._by_key[key] = item
        return item

    def _finish(self, item: Item) -> None:
        """Notes what a finished definition binds, and what it returns when that is all it does."""
        node = ast.parse(item.text).body[0]
        item.locals = bound_names(node)
        if isinstance(node, ast.FunctionDef):
            item.parameters = [a.arg for a in [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]]
            body = node.body[1:] if ast.get_docstring(node) is not None else node.body
            if (
                len(body) == 1
                and isinstance(body[0], ast.Return)
                and body[0].value is not None
                and not node.decorator_list
            ):
                item.expression = ast.get_source_segment(item.text, body[0].value)

    # Classes

    def _class(self, kind: type) -> Item:
        key = ("class", kind)
        if key in self._by_key:
            return self._by_key[key]
        self._kept.append(kind)
        item = self._new(key, kind.__name__.lstrip("_"))
        item.ours = kind.__module__.startswith("flambeau.")
        text, node = find(kind)
        assert isinstance(node, ast.ClassDef)
        instances = tuple(module for module, _, _ in self.made.values() if type(module) is kind)
        known = self._shared_arguments(kind) if instances else {}
        item.dropped = set(known)
        given = self._given_arguments(kind, instances, known)
        item.text = ClassText(self, kind, text, node, instances, known, given, item.place).made()
        self._finish(item)
        return item

    def _given_arguments(
        self, kind: type, instances: tuple[nn.Module, ...], known: Mapping[str, Any]
    ) -> dict[str, Several]:
        """What every module of a class gets for a parameter, where none gets nothing and the value stays."""
        bound = [self.arguments_of(one) for one in instances]
        names = set.intersection(*(set(one) for one in bound)) if bound else set()
        made = _constructor(kind)
        stay = names - set(known) - set(assigned(made) if made is not None else names)
        found = {name: tuple(one[name] for one in bound) for name in stay}
        return {name: Several(values) for name, values in found.items() if all(value is not None for value in values)}

    def _shared_arguments(self, kind: type) -> dict[str, Any]:
        """Arguments that say how, or that lines depend on, and are the same for every module of a class."""
        constructor = _constructor(kind)
        decides = tested(constructor) if constructor is not None else set()
        bound = [self.arguments_of(one) for one in [made[0] for made in self.made.values()] if type(one) is kind]
        shared: dict[str, Any] = {}
        for name, value in bound[0].items():
            same = all(name in one and _same(one[name], value) for one in bound)
            number = isinstance(value, int | float) and name in decides
            if same and (is_mode(value) or number) and constructor is not None:
                shared[name] = value
        return shared

    def arguments_of(self, module: nn.Module) -> dict[str, Any]:
        """The arguments that a module was made with, by name, with the defaults of those that were not given."""
        _, positional, named = self.made[id(module)]
        bound = inspect.signature(type(module)).bind(*positional, **named)
        bound.apply_defaults()
        return dict(bound.arguments)

    def module(self, module: nn.Module, indent: int = 0) -> str:
        """The expression that makes a module."""
        from flambeau.eject.network import written_module

        return written_module(self, module, indent)

    def publisheds_place(self, found: Published) -> str:
        """The place of the function that makes a network of another package."""
        key = ("published", id(found.network))
        if key not in self._by_key:
            self.imports |= {f"import {found.package}", "from torch import nn"}
            item = self._new(key, re.sub(r"\W", "_", f"{found.name}_network"))
            item.text = definition(found, item.place)
            self._finish(item)
        return self._by_key[key].place

    def class_item(self, kind: type) -> Item:
        """The copied definition of a class of ours."""
        return self._class(kind)


def _constructor(kind: type) -> ast.FunctionDef | None:
    """The definition of a class's own ``__init__``."""
    _, node = find(kind)
    assert isinstance(node, ast.ClassDef)
    return next((n for n in node.body if isinstance(n, ast.FunctionDef) and n.name == "__init__"), None)


def _plain(function: Callable[..., Any]) -> types.FunctionType:
    """A function without its decorators, which its source has again.

    Raises:
        OSError: It is none of Python's, so that it has no source.
    """
    found = inspect.unwrap(function)
    if not isinstance(found, types.FunctionType):
        raise OSError(f"{found!r} is no function with a source")
    return found


def _assigned_beside_parameters(node: Any) -> list[str]:
    return [n.id for n in ast.walk(node) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)]


def _inlined(item: Item, given: Mapping[str, str]) -> str | None:
    """What a call of a function that is one expression comes to, where every argument is used simply."""
    assert item.expression is not None
    if any(name not in given for name in item.parameters):
        return None
    expression = Text("(" + item.expression + ")")
    uses = [n for n in ast.walk(expression.tree) if isinstance(n, ast.Name) and n.id in given]
    bound = bound_names(expression.tree)
    if bound & set(given):
        return None
    for name, text in given.items():
        argument = ast.parse(f"({text})", mode="eval").body
        simple = isinstance(argument, ast.Name | ast.Attribute | ast.Constant | ast.Subscript | ast.Call)
        if sum(use.id == name for use in uses) > 1 and not isinstance(argument, ast.Name | ast.Constant):
            return None
        if not simple and any(use.id == name and not _is_whole_argument(expression.tree, use) for use in uses):
            return None
    made = edited(expression.text, [Edit(*expression.span(use), given[use.id]) for use in uses])[1:-1]
    statement = expression.tree.body[0]
    assert isinstance(statement, ast.Expr)
    tight = isinstance(statement.value, _TIGHT)
    return made if tight else f"({made})"


_TIGHT = ast.Name | ast.Attribute | ast.Constant | ast.Subscript | ast.Call | ast.Dict | ast.List
"""Expressions that need no brackets around them."""


def _is_whole_argument(tree: ast.AST, use: ast.Name) -> bool:
    return any(isinstance(call, ast.Call) and use in call.args for call in ast.walk(tree))


def _looked(node: ast.expr, scope: Scope) -> Any:
    try:
        return value_of(node, scope)
    except Unknown:
        return None


def _same(one: Any, other: Any) -> bool:
    try:
        return bool(one is other or (type(one) is type(other) and one == other))
    except (RuntimeError, ValueError):
        return False


def _frozen(values: Mapping[str, Any]) -> tuple[tuple[str, Any], ...]:
    return tuple((name, plain_text(value) or id(value)) for name, value in sorted(values.items()))

"""Source text with what is known of a run put in: branches that it does not take and checks that it has passed go."""

from __future__ import annotations

import ast
import inspect
import textwrap
import types
import typing
from typing import TYPE_CHECKING, Any

from torch import Tensor

from flambeau.core import Loss
from flambeau.eject.located import Edit, Text, assigned, edited, import_of
from flambeau.eject.values import Keys, Scope, Several, Unknown, is_mode, is_ours, truth, value_of

if TYPE_CHECKING:
    from flambeau.eject.copying import Copier

_CHECKS = ("check", "_check", "require", "_require")
"""How functions of ours are called that only refuse what is wrong."""


def folded(source: str, scope: Scope, copier: Copier, module: str) -> str:
    """The text of one function with what is known put in.

    Args:
        source: A function's definition, or a lambda in brackets.
        scope: What is known; grows by what is assigned from known values.
        copier: Writes values and takes further functions along.
        module: Where the function stands.
    """
    while True:
        text = Text(source)
        edits = _Folder(text, scope, copier, module).edits()
        if not edits:
            return edited(source, _references(text, scope, copier, module))
        source = edited(source, edits)


def referenced(source: str, scope: Scope, copier: Copier, module: str) -> str:
    """A text with nothing put in but the names that the script gives things."""
    return edited(source, _references(Text(source), scope, copier, module))


class _Folder:
    """Collects the edits of one pass; what they uncover is for the next one."""

    def __init__(self, text: Text, scope: Scope, copier: Copier, module: str) -> None:
        self.text, self.scope, self.copier, self.module = text, scope, copier, module
        self.made: list[Edit] = []
        self.stores = assigned(text.tree)

    def edits(self) -> list[Edit]:
        self._visit(self.text.tree)
        return self.made

    def _visit(self, node: ast.AST) -> None:
        for name, value in ast.iter_fields(node):
            children = value if isinstance(value, list) else [value]
            for number, child in enumerate(children):
                if isinstance(child, ast.stmt):
                    if number and isinstance(children[number - 1], ast.Return | ast.Raise):
                        self._delete(child, alone=False)  # nobody comes here any more
                        continue
                    if name == "body" and number + 1 < len(children) and self._joined(child, children[number + 1]):
                        break
                    alone = name in ("body", "orelse") and len(children) == 1
                    if not self._statement(child, alone and not isinstance(node, ast.Module)):
                        self._visit(child)
                elif isinstance(child, ast.expr):
                    self._expression_or_parts(child)
                elif isinstance(child, ast.AST):
                    self._visit(child)

    def _expression_or_parts(self, node: ast.expr) -> None:
        if isinstance(getattr(node, "ctx", None), ast.Store | ast.Del):
            return
        if not self._expression(node):
            self._visit(node)

    # Statements

    def _statement(self, node: ast.stmt, alone: bool) -> bool:
        match node:
            case ast.If():
                return self._if(node, alone)
            case ast.Try() if self._only_explains(node):
                self._unwrap(node, node.body)
                return True
            case ast.Expr(value=ast.Call()) if self._only_checks(node.value):
                return self._delete(node, alone)
            case ast.Assign(targets=[ast.Name(id=name)]) if self._settles(name, node.value):
                return self._delete(node, alone)
            case ast.AnnAssign(target=ast.Name(id=name), value=ast.expr() as value):
                if self._settles(name, value):
                    return self._delete(node, alone)
                self._replace(node, f"{name} = {self.text.of(value)}")
                return True
            case ast.AnnAssign(value=None):
                return self._delete(node, alone)
            case ast.AnnAssign(value=ast.expr() as value):
                self._replace(node, f"{self.text.of(node.target)} = {self.text.of(value)}")
                return True
            case ast.ImportFrom(module=str() as source) if source.partition(".")[0] == "flambeau":
                self._take_names(node, source)
                return self._delete(node, alone)
        return False

    def _take_names(self, node: ast.ImportFrom, source: str) -> None:
        found = __import__(source, fromlist=["*"])
        for alias in node.names:
            self.scope.locals[alias.asname or alias.name] = (source, alias.name, getattr(found, alias.name))

    def _if(self, node: ast.If, alone: bool) -> bool:
        refuses = len(node.body) == 1 and isinstance(node.body[0], ast.Raise) and not node.orelse
        if refuses and self.module.startswith("flambeau."):
            return self._delete(node, alone)
        known, taken = self._truth(node.test)
        if not known:
            return False
        body = node.body if taken else node.orelse
        if not body:
            return self._delete(node, alone)
        if self.text.of(node).startswith("elif"):
            return False
        self._unwrap(node, body)
        return True

    def _unwrap(self, node: ast.stmt, body: list[ast.stmt]) -> None:
        """Puts some of the statements within a statement in its place."""
        first = self.text.above(body[0].lineno)
        start, end = self.text.lines(first, body[-1].end_lineno or first)
        inner = textwrap.dedent(self.text.text[start:end])
        if inner.startswith("elif"):
            inner = inner.removeprefix("el")
        whole = self.text.lines(node.lineno, node.end_lineno or node.lineno)
        self.made.append(Edit(*whole, textwrap.indent(inner, " " * node.col_offset)))

    def _only_explains(self, node: ast.Try) -> bool:
        """Whether a ``try`` of ours is there to say in other words what went wrong."""
        ends = all(isinstance(handler.body[-1], ast.Raise) for handler in node.handlers)
        return (
            ends
            and bool(node.handlers)
            and not node.finalbody
            and not node.orelse
            and self.module.startswith("flambeau.")
        )

    def _only_checks(self, call: ast.expr) -> bool:
        assert isinstance(call, ast.Call)
        called = self._function(call)
        if called is not None and called.__name__.startswith(_CHECKS) and is_ours(called):
            return True
        return self.scope.uses(call) and self._value(call) is not _NOTHING

    def _settles(self, name: str, value: ast.expr) -> bool:
        """Takes an assigned value into the scope, where it is known and stays as it is."""
        if self.stores.count(name) != 1 or not self.scope.uses(value):
            return False
        found = self._value(value)
        if found is _NOTHING or isinstance(found, dict | list | set | Keys | Several | Tensor):
            return False
        self.scope.known[name] = found
        return True

    def _delete(self, node: ast.stmt, alone: bool) -> bool:
        first, last = self.text.lines(self.text.above(node.lineno), node.end_lineno or node.lineno)
        self.made.append(Edit(first, last, f"{' ' * node.col_offset}pass\n" if alone else ""))
        return True

    def _joined(self, first: ast.stmt, second: ast.stmt) -> bool:
        """Puts what a name stands for into the ``return`` after it, where it is used for nothing else."""
        match first, second:
            case ast.Assign(targets=[ast.Name(id=name)], value=value), ast.Return(value=ast.expr() as returned):
                pass
            case _:
                return False
        uses = [n for n in ast.walk(self.text.tree) if isinstance(n, ast.Name) and n.id == name and _loads(n)]
        whole = isinstance(returned, ast.Name) and returned.id == name
        inside = [n for n in ast.walk(returned) if n in uses and not _in_function(returned, n)]
        once = len(uses) == 1 and len(inside) == 1 and self.stores.count(name) == 1 and isinstance(value, ast.Call)
        commented = self.text.above(first.lineno) != first.lineno or self.text.above(second.lineno) != second.lineno
        if commented or not self.module.startswith("flambeau.") or not (whole or once):
            return False
        start, end = self.text.span(returned)
        place = self.text.span(returned if whole else inside[0])
        made = self.text.text[start : place[0]] + self.text.of(value) + self.text.text[place[1] : end]
        if not whole and ("\n" in made or len(made) + second.col_offset > _ROOM):
            return False
        lines = self.text.lines(first.lineno, second.end_lineno or second.lineno)
        self.made.append(Edit(*lines, f"{' ' * first.col_offset}return {made}\n"))
        return True

    # Expressions

    def _expression(self, node: ast.expr) -> bool:
        if isinstance(node, ast.JoinedStr):
            self._fill_in(node)
            return True
        if self.scope.uses(node) and self._put_in(node):
            return True
        match node:
            case ast.IfExp():
                known, taken = self._truth(node.test)
                if known:
                    branch = node.body if taken else node.orelse
                    single = isinstance(branch, ast.Name | ast.Attribute | ast.Constant | ast.Call | ast.Subscript)
                    self._replace(node, self.text.of(branch), atom=single)
                return known
            case ast.BoolOp():
                return self._boolean(node)
            case ast.Attribute(value=owner, attr="columns") if self._is_split(owner):
                self._replace(node, self.text.of(owner))
                return True
            case ast.Call():
                return self._call(node)
        return False

    def _fill_in(self, node: ast.JoinedStr) -> None:
        """Puts what is known into the gaps of a text."""
        for part in node.values:
            if isinstance(part, ast.FormattedValue) and part.format_spec is None and self.scope.uses(part.value):
                value = self._value(part.value)
                if isinstance(value, str | int) and not set(str(value)) & set("{}\\\"'"):
                    first, last = self.text.span(part.value)
                    self.made.append(Edit(first - 1, last + 1, str(value)))

    def _put_in(self, node: ast.expr) -> bool:
        value = self._value(node)
        if value is _NOTHING or self.copier.has_setting(node, self.scope):
            return False
        about_self = any(isinstance(inner, ast.Name) and inner.id == "self" for inner in ast.walk(node))
        if about_self and not (value is None or isinstance(value, bool | str)):
            return False
        written = self.copier.setting(node, value) or self.copier.written(value)
        if written is None and isinstance(node, ast.Name | ast.Subscript):
            written = self.copier.kept(_title(node), value)
        if written is None or written == self.text.of(node):
            return False
        if isinstance(node, ast.Name) and len(written) > _LONG:
            written = self.copier.table(node.id, written)
        self._replace(node, written, atom=True)
        return True

    def _boolean(self, node: ast.BoolOp) -> bool:
        stops = isinstance(node.op, ast.Or)
        kept = []
        for part in node.values:
            known, taken = self._truth(part)
            if not known:
                kept.append(part)
            elif taken is stops:
                kept.append(part)
                break
        if len(kept) == len(node.values):
            return False
        kept = kept or node.values[-1:]
        joint = " or " if stops else " and "
        self._replace(node, joint.join(self.text.of(part) for part in kept))
        return True

    def _call(self, node: ast.Call) -> bool:
        found = self._value(node.func)
        if found is typing.cast:
            self._replace(node, self.text.of(node.args[1]))
            return True
        if found is Loss:
            self._replace(node, self.text.of(node.args[0]))
            return True
        for word in node.keywords:
            if word.arg is None and self.scope.uses(word.value):
                options = self._value(word.value)
                if isinstance(options, dict):
                    written = [f"{name}={self.copier.written(value)}" for name, value in options.items()]
                    self._replace_keyword(node, word, ", ".join(written))
                    return True
        match node.func:
            case ast.Attribute(value=owner, attr="ragged" | "tensor") if len(node.args) == 1 and self._is_split(owner):
                self._replace(node, f"{self.text.of(owner)}[{self.text.of(node.args[0])}]")
                return True
        if self._looked_up(node) or self._without_default(node, found):
            return True
        if isinstance(found, type) and found in self.copier.kinds():
            return self._constructed(node, found)
        called = self._function(node)
        if called is None or not is_ours(called):
            return False
        made = self._specialised(node, called)
        if made is None:
            return False
        self._replace(node, made)
        return True

    def _is_split(self, owner: ast.expr) -> bool:
        """Whether a name is that of a split, whose columns a script has in a dictionary."""
        return isinstance(owner, ast.Name) and owner.id == "split" and self.module.startswith("flambeau.")

    def _looked_up(self, node: ast.Call) -> bool:
        """``columns.get(name, other)`` where it is known which columns there are."""
        match node:
            case ast.Call(func=ast.Attribute(value=owner, attr="get"), args=[ast.Constant(value=name), other]):
                columns = self._value(owner)
                if isinstance(columns, Keys):
                    there = f"{self.text.of(owner)}[{self.text.of(node.args[0])}]"
                    self._replace(node, there if name in columns else self.text.of(other))
                    return True
        return False

    def _without_default(self, node: ast.Call, called: Any) -> bool:
        """Leaves an argument out that says what would be without it: that something is not wanted."""
        if not callable(called) or is_ours(called) or not self.module.startswith("flambeau."):
            return False
        try:
            parameters = inspect.signature(called).parameters
        except (TypeError, ValueError):
            return False
        for number, word in enumerate(node.keywords):
            value = word.value.value if isinstance(word.value, ast.Constant) else _NOTHING
            known = parameters.get(word.arg or "")
            if known is not None and _says_no(value) and known.default == value:
                before = [*node.args, *(other.value for other in node.keywords[:number])]
                first = self.text.span(before[-1])[1] if before else self.text.span(word)[0]
                self.made.append(Edit(first, self.text.span(word)[1], ""))
                return True
        return False

    def _constructed(self, node: ast.Call, kind: type) -> bool:
        """A layer of ours made within another: what is put into its class is not passed."""
        item = self.copier.class_item(kind)
        names = list(inspect.signature(kind).parameters)
        left = [self.text.of(a) for name, a in zip(names, node.args, strict=False) if name not in item.dropped]
        left += [f"{w.arg}={self.text.of(w.value)}" for w in node.keywords if w.arg not in item.dropped]
        self._replace(node, f"{item.place}({', '.join(left)})")
        return True

    def _specialised(self, node: ast.Call, called: types.FunctionType) -> str | None:
        """The call of a function of ours with the arguments put in that say how something is done."""
        if any(isinstance(argument, ast.Starred) for argument in node.args) or any(
            w.arg is None for w in node.keywords
        ):
            return None
        parameters = list(inspect.signature(called).parameters.values())
        given: dict[str, ast.expr] = {p.name: a for p, a in zip(parameters, node.args, strict=False)}
        given |= {word.arg: word.value for word in node.keywords if word.arg is not None}
        decides = self.copier.decided_by(called)
        known: dict[str, Any] = {}
        for parameter in parameters:
            value = self._value(given[parameter.name]) if parameter.name in given else parameter.default
            if value is _NOTHING or value is inspect.Parameter.empty:
                continue
            if is_mode(value) or (parameter.name in decides and isinstance(value, int | float)):
                known[parameter.name] = value
        texts = {name: self.text.of(argument) for name, argument in given.items()}
        return self.copier.call(called, known, texts)

    def _function(self, node: ast.Call) -> types.FunctionType | None:
        found = self._value(node.func)
        return found if isinstance(found, types.FunctionType) else None

    # What both need

    def _value(self, node: ast.expr) -> Any:
        try:
            return value_of(node, self.scope)
        except Unknown:
            return _NOTHING

    def _truth(self, node: ast.expr) -> tuple[bool, bool]:
        """Whether it is known if a condition holds, and if so whether it does."""
        if not self.scope.uses(node):
            return False, False
        try:
            return True, truth(value_of(node, self.scope))
        except Unknown:
            return False, False

    def _replace(self, node: ast.AST, text: str, *, atom: bool = False) -> None:
        first, last = self.text.span(node)
        around = self.text.text[max(0, first - 2) : first], self.text.text[last : last + 1]
        if atom and around[0][-1:] == "(" and around[1] == ")" and around[0][:1] == " ":
            first, last = first - 1, last + 1  # brackets around a single value say nothing
        self.made.append(Edit(first, last, text))

    def _replace_keyword(self, call: ast.Call, word: ast.keyword, text: str) -> None:
        first, last = self.text.span(word.value)
        self.made.append(Edit(first - 2, last, text))


_NOTHING = object()

_LONG = 60
"""Values that take more characters are constants of their own."""

_ROOM = 90
"""Longer than this no expression gets by what is put into it."""


def _title(node: ast.Name | ast.Subscript) -> str:
    """What a value is called where it stands: a variable's name, or the key that it is found by."""
    if isinstance(node, ast.Name):
        return node.id
    return str(node.slice.value) if isinstance(node.slice, ast.Constant) else "table"


def _says_no(value: Any) -> bool:
    return value is None or value is False or (isinstance(value, float) and value == 0.0)


def _loads(node: ast.Name) -> bool:
    return isinstance(node.ctx, ast.Load)


def _in_function(expression: ast.expr, node: ast.Name) -> bool:
    """Whether a name is looked up later than the expression is reached, or more than once."""
    kinds = ast.Lambda | ast.ListComp | ast.SetComp | ast.DictComp | ast.GeneratorExp
    inner = [n for n in ast.walk(expression) if isinstance(n, kinds)]
    first = [c.generators[0].iter for c in inner if not isinstance(c, ast.Lambda)]
    return any(node in ast.walk(n) for n in inner) and not any(node in ast.walk(n) for n in first)


def _references(text: Text, scope: Scope, copier: Copier, module: str) -> list[Edit]:
    """What puts the names that the script gives things in place of those that they have here."""
    edits: list[Edit] = []

    def look(node: ast.AST) -> None:
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            owner = scope.globals.get(node.value.id)
            free = node.value.id not in scope.hidden and node.value.id not in scope.known
            if free and inspect.ismodule(owner) and owner.__name__.partition(".")[0] == "flambeau":
                edits.append(Edit(*text.span(node), copier.named(owner.__name__, node.attr)))
                return
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load) and node.id not in scope.hidden:
            if node.id in scope.locals:
                source, name, _ = scope.locals[node.id]
                edits.append(Edit(*text.span(node), copier.named(source, name)))
            elif node.id in scope.globals:
                edits.append(Edit(*text.span(node), copier.named(module, node.id)))
            return
        for child in ast.iter_child_nodes(node):
            look(child)

    look(text.tree)
    return [edit for edit in edits if edit.text != text.text[edit.first : edit.last]]


__all__ = ["folded", "import_of"]

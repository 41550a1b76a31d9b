"""A script made shorter: a function that is called in one place is written there, as a person would have done."""

from __future__ import annotations

import ast
import textwrap
from collections import defaultdict
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field

import torch
from torch import nn

from flambeau.eject.located import LINE, Edit, Text, assigned, bound_names, edited, in_one_line
from flambeau.eject.naming import broken
from flambeau.eject.unfolding import unfolded

TIGHT = ast.Name | ast.Attribute | ast.Constant | ast.Subscript | ast.Call | ast.Dict | ast.List | ast.ListComp
"""Expressions that need no brackets around them."""

_SCOPES = ast.Lambda | ast.ListComp | ast.SetComp | ast.DictComp | ast.GeneratorExp | ast.FunctionDef

_BASES = (nn.Module, torch.optim.Optimizer, tuple)
"""What classes of ours inherit from."""

_ASKED_FOR = ("find_class",)
"""Methods that a reader of pickles is asked for."""

_BY_NAME = ("getattr", "hasattr")
"""What asks for a method by its name as a text."""

_BODY, _WHOLE = 12, 45
"""So many lines a function may have that goes into another, and that other one then."""


@dataclass(frozen=True, slots=True)
class _Place:
    """A call of a function, and what it stands in, from the outermost on."""

    call: ast.Call
    parents: tuple[ast.AST, ...]

    @property
    def statement(self) -> ast.stmt:
        return next(node for node in reversed(self.parents) if isinstance(node, ast.stmt))

    @property
    def owner(self) -> ast.AST | None:
        """The innermost function, comprehension or the like that it stands in."""
        return next((node for node in reversed(self.parents) if isinstance(node, _SCOPES)), None)


@dataclass(slots=True)
class _Body:
    """What a call of a function comes to.

    Attributes:
        text: The function alone, without its docstring's further use.
        node: Its definition.
        statements: What it does, without its docstring.
        given: The text of each argument, by parameter.
        bound: Arguments that get a line of their own first.
        put: Arguments that are put where their parameter stands.
    """

    text: Text
    node: ast.FunctionDef
    statements: list[ast.stmt]
    given: dict[str, str]
    bound: list[str] = field(default_factory=list)
    put: dict[str, str] = field(default_factory=dict)

    def uses(self, name: str) -> list[ast.Name]:
        """Where a parameter is looked at."""
        return [
            n
            for statement in self.statements
            for n in ast.walk(statement)
            if isinstance(n, ast.Name) and n.id == name and isinstance(n.ctx, ast.Load)
        ]


def shortened(text: str, kept: Collection[str]) -> str:
    """A script with what is called once written where it is called, as far as there is room.

    Args:
        text: Python, in which every definition stands at the top or in a class at the top.
        kept: Functions that stay as they are.
    """
    while True:
        seen = Text(text)
        made = next(_shorter(seen, kept), None) or unfolded(seen)
        if made is None:
            return text
        text = made


def _shorter(text: Text, kept: Collection[str]) -> Iterator[str]:
    """What the script becomes by putting one of its functions into another, for each that can be."""
    named, methods = _calls(text.tree)
    for node in text.tree.body:
        if isinstance(node, ast.FunctionDef) and node.name not in kept:
            yield from _put_in(text, node, named[node.name])
        elif isinstance(node, ast.ClassDef) and node.name not in kept:
            for method in [inner for inner in node.body if isinstance(inner, ast.FunctionDef)]:
                places = methods[method.name]
                if not places and not _is_expected(method.name) and len(node.body) > 1:
                    yield edited(text.text, [_without(text, method)])
                elif all(place is not None and node in place.parents for place in places):
                    yield from _put_in(text, method, places)


def _is_expected(method: str) -> bool:
    """Whether a method may be called by what a class inherits from, so that nobody need name it."""
    return method.startswith("__") or method in _ASKED_FOR or any(hasattr(base, method) for base in _BASES)


def _without(text: Text, function: ast.FunctionDef) -> Edit:
    """What takes a function out, with the empty lines and the decorators above it."""
    first = min([function.lineno, *(one.lineno for one in function.decorator_list)])
    start, end = text.lines(first, function.end_lineno or function.lineno)
    before = text.text[:start].rstrip("\n")
    return Edit(len(before) + 1 if before else 0, end, "")


def _calls(tree: ast.Module) -> tuple[dict[str, list[_Place | None]], dict[str, list[_Place | None]]]:
    """Where each name stands, and each attribute; None stands for a place where it is not called."""
    named: dict[str, list[_Place | None]] = defaultdict(list)
    methods: dict[str, list[_Place | None]] = defaultdict(list)

    def look(node: ast.AST, parents: tuple[ast.AST, ...]) -> None:
        if isinstance(node, ast.Name | ast.Attribute):
            above = parents[-1]
            place = _Place(above, parents[:-1]) if isinstance(above, ast.Call) and above.func is node else None
            if isinstance(node, ast.Name):
                named[node.id].append(place)
            else:
                methods[node.attr].append(place)
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in _BY_NAME:
            for asked in node.args[1:2]:
                if isinstance(asked, ast.Constant):
                    methods[str(asked.value)].append(None)
        inner = (*parents, node)
        for child in ast.iter_child_nodes(node):
            look(child, inner)

    look(tree, ())
    return named, methods


def _put_in(text: Text, function: ast.FunctionDef, places: list[_Place | None]) -> Iterator[str]:
    """What the script becomes with a function in the only place where it is called."""
    place = places[0] if len(places) == 1 else None
    if place is None or place.owner is None or function in place.parents or function.decorator_list:
        return
    given = _arguments(text, function, place.call)
    if given is None:
        return
    first, last = text.lines(function.lineno, function.end_lineno or function.lineno)
    alone = Text(textwrap.dedent(text.text[first:last]))
    (node,) = alone.tree.body
    assert isinstance(node, ast.FunctionDef)
    statements = node.body[1:] if ast.get_docstring(node) is not None else node.body
    if not statements:
        return
    body = _Body(alone, node, statements, given)
    if not _is_movable(body):
        return
    edit = _as_expression(text, body, place) or _as_statements(text, body, place)
    if edit is not None:
        made = edited(text.text, [_without(text, function), edit])
        while (plainer := unfolded(Text(made))) is not None:
            made = plainer
        if _too_long(made) <= _too_long(text.text):
            yield made


def _is_movable(body: _Body) -> bool:
    """Whether a function's text can be moved: a text of several lines would be indented, one in gaps has no places."""
    inner = [n for one in body.statements for n in ast.walk(one)]
    if any(isinstance(n, ast.Constant) and n.lineno != n.end_lineno for n in inner):
        return False
    # Python before 3.12 does not know where in a formatted text a name stands.
    filled_in = {id(n) for one in inner if isinstance(one, ast.JoinedStr) for n in ast.walk(one)}
    return not any(id(use) in filled_in for name in body.given for use in body.uses(name))


def _too_long(text: str) -> int:
    return sum(len(line) > LINE for line in text.split("\n"))


def _arguments(text: Text, function: ast.FunctionDef, call: ast.Call) -> dict[str, str] | None:
    """The text of what every parameter gets; None where that is not plain to see."""
    a = function.args
    starred = any(isinstance(one, ast.Starred) for one in call.args) or any(w.arg is None for w in call.keywords)
    if a.vararg or a.kwarg or starred:
        return None
    positional = [p.arg for p in [*a.posonlyargs, *a.args]]
    given = dict(zip(positional[len(positional) - len(a.defaults) :], a.defaults, strict=True))
    given |= {p.arg: d for p, d in zip(a.kwonlyargs, a.kw_defaults, strict=True) if d is not None}
    passed: list[ast.expr] = list(call.args)
    if isinstance(call.func, ast.Attribute):
        if not isinstance(call.func.value, ast.Name) or call.func.value.id != "self":
            return None
        passed.insert(0, call.func.value)
    given |= dict(zip(positional, passed, strict=False))
    given |= {word.arg: word.value for word in call.keywords if word.arg is not None}
    texts = {name: in_one_line(text.of(value)) for name, value in given.items()}
    complete = given.keys() == {*positional, *(p.arg for p in a.kwonlyargs)}
    return {n: t for n, t in texts.items() if t is not None} if complete and None not in texts.values() else None


# As an expression


def _as_expression(text: Text, body: _Body, place: _Place) -> Edit | None:
    """The call replaced by what the function returns, where that is all it does and there is room."""
    returned = body.statements[0]
    if len(body.statements) > 1 or not isinstance(returned, ast.Return) or returned.value is None:
        return None
    plain, owner = in_one_line(body.text.of(returned.value)), place.owner
    assert owner is not None
    if plain is None or not all(_fits_in(body, owner, returned.value, *pair) for pair in body.given.items()):
        return None
    if _free(body) & bound_names(owner):
        return None
    expression = Text(f"({plain})")
    edits = []
    for use in [n for n in ast.walk(expression.tree) if isinstance(n, ast.Name) and n.id in body.given]:
        given = body.given[use.id]
        whole = _is_whole(expression.tree, use)
        edits.append(Edit(*expression.span(use), given if whole or isinstance(_parsed(given), TIGHT) else f"({given})"))
    made = edited(expression.text, edits)[1:-1]
    tight = isinstance(returned.value, TIGHT) or _is_whole(text.tree, place.call)
    return _with_room(text, place, made if tight else f"({made})")


def _fits_in(body: _Body, owner: ast.AST, returned: ast.expr, name: str, given: str) -> bool:
    """Whether an argument may stand where its parameter does: it is computed once, and nothing else before it."""
    argument = _parsed(given)
    names = {n.id for n in ast.walk(argument) if isinstance(n, ast.Name)}
    uses = body.uses(name)
    if names & bound_names(returned):
        return False
    if not uses:
        return not _computes(argument)
    if isinstance(argument, ast.Name | ast.Constant):
        return not any(_is_later(returned, use) for use in uses) or not _changes(owner, names)
    if len(uses) != 1 or _is_inside(returned, uses[0]):
        return False
    return not _computes(argument) or not _calls_before(returned, uses[0])


def _with_room(text: Text, place: _Place, made: str) -> Edit | None:
    """The edit of whole lines that puts an expression in place of a call; None where they would be too long."""
    first, last = place.call.lineno, place.call.end_lineno or place.call.lineno
    start, end = text.lines(first, last)
    call = text.span(place.call)
    whole = text.text[start : call[0]] + made + text.text[call[1] : end]
    lines = [part for line in whole.rstrip("\n").split("\n") for part in broken(line).split("\n")]
    if "lambda" in whole and len(lines) > whole.count("\n"):
        return None
    return Edit(start, end, "\n".join(lines) + "\n") if max(map(len, lines)) <= LINE else None


# As statements


def _as_statements(text: Text, body: _Body, place: _Place) -> Edit | None:
    """The statement that a call is the whole of, replaced by what the function does."""
    statement, owner = place.statement, place.owner
    if not isinstance(owner, ast.FunctionDef) or not _is_plain(body) or not _comes_first(statement, place.call):
        return None
    lines = (body.node.end_lineno or 0) - body.statements[0].lineno + 1
    whole = (owner.end_lineno or owner.lineno) - owner.lineno + 1
    if lines > _BODY or lines + whole > _WHOLE or not _settled(body, statement):
        return None
    targets = {n.id for n in ast.walk(statement) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)}
    taken = _visible(owner)
    in_loop = any(isinstance(node, ast.For | ast.While) for node in place.parents)
    later = [n for one in body.statements for n in ast.walk(one) if isinstance(n, ast.Lambda)]
    if later and (in_loop or _changes(owner, {n.id for n in ast.walk(place.call) if isinstance(n, ast.Name)})):
        return None
    if _locals(body) & (taken - targets) or _free(body) & bound_names(owner):
        return None
    start, end = text.lines(statement.lineno, statement.end_lineno or statement.lineno)
    if text.text[start : text.span(statement)[0]].strip():
        return None
    call, around = text.span(place.call), text.span(statement)
    made = _written(
        body, text.text[around[0] : call[0]], text.text[call[1] : around[1]], alone=_is_whole(text.tree, place.call)
    )
    made = textwrap.indent(made, " " * statement.col_offset)
    return Edit(start, end, "\n".join(broken(line) for line in made.split("\n")) + "\n")


def _is_plain(body: _Body) -> bool:
    """Whether a function goes from its first statement to a ``return`` at its end."""
    inner = [n for statement in body.statements for n in ast.walk(statement)]
    returns = [n for n in inner if isinstance(n, ast.Return)]
    last = body.statements[-1]
    others = any(isinstance(n, ast.FunctionDef | ast.Yield | ast.YieldFrom | ast.Global | ast.Nonlocal) for n in inner)
    if returns != [last] or others or not isinstance(last, ast.Return):
        return False
    return last.value is not None and not isinstance(last.value, ast.Lambda)


def _comes_first(statement: ast.stmt, call: ast.Call) -> bool:
    """Whether a statement calls a function before it does anything else, and always."""
    if not isinstance(statement, ast.Assign | ast.Return | ast.Expr):
        return False
    perhaps = [n for n in ast.walk(statement) if isinstance(n, ast.IfExp | ast.BoolOp)]
    return not _calls_before(statement, call) and not any(call in list(ast.walk(n)) for n in perhaps)


_PURE = ("len", "list", "tuple", "min", "max", "round", "int", "float", "range")
"""It does not matter when these are called."""


def _computes(argument: ast.expr) -> bool:
    """Whether it may matter when an expression is computed."""
    calls = [n for n in ast.walk(argument) if isinstance(n, ast.Call)]
    return any(not isinstance(call.func, ast.Name) or call.func.id not in _PURE for call in calls)


def _calls_before(tree: ast.AST, node: ast.expr) -> bool:
    """Whether something is called, and done, before an expression is reached."""
    calls = [n for n in ast.walk(tree) if isinstance(n, ast.Call)]
    return any(_end(call) <= _start(node) and _computes(call) for call in calls)


def _settled(body: _Body, statement: ast.stmt) -> bool:
    """Decides for every argument whether it is put where its parameter stands, or gets a line before."""
    stored = {name for one in body.statements for name in assigned(one)}
    targets = set(assigned(statement))
    for name, given in body.given.items():
        argument, uses = _parsed(given), body.uses(name)
        names = {n.id for n in ast.walk(argument) if isinstance(n, ast.Name)} - bound_names(argument)
        computed = _computes(argument)
        if not uses and name not in stored and not computed:
            continue
        if given == name and (name not in stored or name in targets or isinstance(statement, ast.Return)):
            continue
        if name not in stored and not names & stored:
            once = len(uses) == 1 and not _is_inside(body.node, uses[0])
            early = once and (_is_first(body, uses[0]) and not body.bound if computed else not _mutates(body))
            if isinstance(argument, ast.Name | ast.Constant) or early:
                body.put[name] = given
                continue
        if names & (stored - {name}):
            return False
        body.bound.append(f"{name} = {given}")
    # What is put in must not be taken from a name that has a line of its own by then.
    bound = {line.partition(" ")[0] for line in body.bound}
    read = {n.id for line in [*body.put.values()] for n in ast.walk(_parsed(line)) if isinstance(n, ast.Name)}
    return not read & bound


def _mutates(body: _Body) -> bool:
    """Whether a function may change what it was given, so that it matters when an argument is looked up."""
    for node in [n for one in body.statements for n in ast.walk(one)]:
        if isinstance(node, ast.Subscript | ast.Attribute) and isinstance(node.ctx, ast.Store | ast.Del):
            return True
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr.endswith("_"):
            return True
    return False


def _is_first(body: _Body, use: ast.Name) -> bool:
    """Whether a parameter is looked at before anything else is called."""
    number = next(n for n, one in enumerate(body.statements) if use in list(ast.walk(one)))
    first, before = body.statements[number], body.statements[:number]
    if any(_computes(n) for one in before for n in ast.walk(one) if isinstance(n, ast.Call)):
        return False
    return isinstance(first, ast.Assign | ast.Return | ast.For) and not _calls_before(first, use)


def _written(body: _Body, before: str, after: str, *, alone: bool) -> str:
    """The lines of a function with its arguments, and its last one as the statement that called it.

    Args:
        body: The function.
        before: The statement up to the call.
        after: What comes after the call.
        alone: Whether the call is an argument, or all of the statement, so that it needs no brackets.
    """
    last = body.statements[-1]
    assert isinstance(last, ast.Return) and last.value is not None
    first = body.text.above(body.statements[0].lineno)
    start, end = body.text.lines(first, body.node.end_lineno or first)
    span, value = body.text.span(last), body.text.span(last.value)
    brackets = ("", "") if alone or isinstance(last.value, TIGHT) else ("(", ")")
    edits = [Edit(span[0], value[0], before + brackets[0]), Edit(value[1], span[1], brackets[1] + after)]
    for name, given in body.put.items():
        tight = isinstance(_parsed(given), TIGHT)
        for use in body.uses(name):
            whole = tight or _is_whole(body.text.tree, use)
            edits.append(Edit(*body.text.span(use), given if whole else f"({given})"))
    ahead = "".join(f"    {line}\n" for line in body.bound)
    inside = edited(body.text.text[:end], edits)[start:]
    # What is told of a dictionary tells of entries that the caller may have no use for.
    tells = len(body.statements) > 1 and not isinstance(last.value, ast.Dict)
    told = ast.get_docstring(body.node) if tells else None
    comment = "\n".join(textwrap.wrap(told, LINE - 16, initial_indent="# ", subsequent_indent="# ")) if told else ""
    lines = [comment, textwrap.dedent(ahead + inside.rstrip("\n"))]
    return "\n".join(line for line in lines if line)


# What both need


def _locals(body: _Body) -> set[str]:
    own = {name for one in body.statements for name in _visible(one, stored=True)}
    return own | {line.partition(" ")[0] for line in body.bound}


def _visible(node: ast.AST, *, stored: bool = False) -> set[str]:
    """The names in a definition (or those that it binds), without those that stand for something within a loop alone.

    Args:
        node: A definition or a statement.
        stored: Only those that it binds.
    """
    if isinstance(node, ast.Lambda | ast.ListComp | ast.SetComp | ast.DictComp | ast.GeneratorExp):
        inside = {name for child in ast.iter_child_nodes(node) for name in _visible(child)}
        return set() if stored else inside - bound_names(node)
    own = {node.arg} if isinstance(node, ast.arg) else set()
    if isinstance(node, ast.Name) and (not stored or isinstance(node.ctx, ast.Store)):
        own = {node.id}
    return own.union(*(_visible(child, stored=stored) for child in ast.iter_child_nodes(node)))


def _free(body: _Body) -> set[str]:
    """Names that a function takes from outside."""
    read = {n.id for one in body.statements for n in ast.walk(one) if isinstance(n, ast.Name)}
    return read - bound_names(body.node)


def _parsed(text: str) -> ast.expr:
    return ast.parse(f"({text})", mode="eval").body


def _start(node: ast.expr) -> tuple[int, int]:
    return node.lineno, node.col_offset


def _end(node: ast.expr) -> tuple[int, int]:
    return node.end_lineno or node.lineno, node.end_col_offset or node.col_offset


def _is_later(tree: ast.AST, use: ast.AST) -> bool:
    """Whether a name is looked at in a function without a name."""
    return any(isinstance(n, ast.Lambda) and use in list(ast.walk(n)) for n in ast.walk(tree))


def _changes(owner: ast.AST, names: set[str]) -> bool:
    """Whether a function gives one of some names another value on its way."""
    given = [node.arg for node in ast.walk(owner) if isinstance(node, ast.arg)]
    return any([*assigned(owner), *given].count(name) > 1 for name in names)


def _is_inside(tree: ast.AST, use: ast.AST) -> bool:
    """Whether a name is looked at later, or more than once: in a function without a name, or in a loop."""
    for node in ast.walk(tree):
        repeated = node.body if isinstance(node, ast.For | ast.While) else [node] if isinstance(node, _SCOPES) else []
        if node is not tree and any(use in list(ast.walk(part)) for part in repeated):
            return True
    return False


def _is_whole(tree: ast.AST, node: ast.AST) -> bool:
    """Whether an expression stands alone: as an argument, an element, or all of a statement."""
    for above in ast.walk(tree):
        match above:
            case ast.Call(args=args, keywords=keywords):
                if node in args or any(word.value is node for word in keywords):
                    return True
            case ast.Assign(value=value) | ast.Return(value=value) | ast.Expr(value=value) if value is node:
                return True
            case ast.Tuple(elts=parts) | ast.List(elts=parts):
                if node in parts:
                    return True
            case ast.Dict(values=values) if node in values:
                return True
    return False

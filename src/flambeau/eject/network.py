"""A network written as the expression that makes it, from the arguments that its layers were really made with."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from flambeau.eject.copying import Copier
from flambeau.eject.located import LINE
from flambeau.eject.published import Published, is_published, noting_builders
from flambeau.eject.values import is_ours
from flambeau.errors import UsageError


@dataclass(slots=True)
class Making:
    """What is seen while a network is made.

    Attributes:
        model: The network, once it is made.
        made: Each module that is asked for by itself, with its weights as its constructor left them.
        generator: The state of the random generator after the last of these.
        changed: Weights that were changed after that, by their names in the network.
        drawn: Whether numbers were drawn between or after constructors.
        depth: How many constructors are at work.
    """

    model: nn.Module | None = None
    made: list[tuple[nn.Module, dict[str, Tensor]]] = field(default_factory=list)
    generator: Tensor | None = None
    changed: set[str] = field(default_factory=set)
    drawn: bool = False
    depth: int = 0

    def look(self) -> None:
        """Notes whether anybody but a constructor has drawn numbers since the last one was done."""
        self.drawn |= self.generator is not None and not torch.equal(self.generator, torch.get_rng_state())

    def finish(self, published: Mapping[int, Published]) -> None:
        """Notes what has happened since the constructors were done.

        Args:
            published: Networks that were not made by constructors of ours; all their weights count as changed.

        Raises:
            UsageError: Layers were changed, so that the constructors' arguments do not tell what the network is.
        """
        assert self.model is not None
        names = {id(module): name for name, module in self.model.named_modules()}
        self.look()
        inside = {id(module) for found in published.values() for module in found.network.modules()}
        for module, before in self.made:
            if id(module) in inside:
                continue
            now = module.state_dict()
            if {name: value.shape for name, value in before.items()} != {n: v.shape for n, v in now.items()}:
                raise UsageError(
                    f"{type(module).__name__} has its layers replaced after it is made, which no script can say yet.",
                    where="model.name",
                    remedy="Eject a run of another network, such as compact, or of a class of your own.",
                )
            if id(module) in names:
                prefix = names[id(module)]
                different = {name for name, value in now.items() if not torch.equal(value, before[name])}
                self.changed |= {f"{prefix}.{name}" if prefix else name for name in different}
        for prefix, module in self.model.named_modules():
            if id(module) in published:
                self.changed |= {f"{prefix}.{name}" if prefix else name for name in module.state_dict()}
                self.drawn = True


def recorded(copier: Copier, build: Callable[[], nn.Module]) -> Making:
    """A network that is built, with the arguments of every layer noted.

    It is built again and again until all classes are known whose layers it is made of.
    """
    kinds = {type(module) for module in build().modules() if not is_published(type(module))}
    while True:
        making = Making()
        with contextlib.ExitStack() as stack:
            stack.enter_context(noting_builders(copier.published))
            for kind in kinds:
                stack.enter_context(_noting(copier, kind, making))
            making.model = build()
            making.finish(copier.published)
        passed = [v for _, given, named in copier.made.values() for v in (*given, *named.values())]
        missing = {
            type(v)
            for v in passed
            if isinstance(v, nn.Module) and id(v) not in copier.made and not is_published(type(v))
        }
        if missing <= kinds:
            return making
        kinds |= missing
        copier.made.clear()
        copier.published.clear()


GENERATOR = "generator"
"""Under this name the state of the random generator lies beside the first weights."""


def held(copier: Copier, making: Making, begun: nn.Module, generator: Tensor) -> dict[str, Tensor]:
    """What a network holds at the start that its own code does not give: of the data, or of an earlier training.

    Args:
        copier: Has written the network.
        making: What was seen while the builder made it.
        begun: The same as the run began with it.
        generator: The state of the random generator then.
    """
    assert making.model is not None
    made = making.model.state_dict()
    buffers = {name for name, _ in begun.named_buffers()} if copier.zeroed else set()
    found = {
        name: value
        for name, value in begun.state_dict().items()
        if name in making.changed or name in buffers or not torch.equal(value, made[name])
    }
    if making.drawn:
        found[GENERATOR] = generator
    return found


@contextlib.contextmanager
def _noting(copier: Copier, kind: type[nn.Module], making: Making) -> Iterator[None]:
    """Inside the ``with`` block each module of a class notes what it is made with."""
    before = kind.__init__
    own = "__init__" in vars(kind)

    def noting(self: nn.Module, *positional: Any, **named: Any) -> None:
        if is_published(type(self)):  # of a class that inherits from this one
            before(self, *positional, **named)
            return
        if type(self) is kind:
            copier.made[id(self)] = (self, positional, named)
        if making.depth == 0:
            making.look()
        making.depth += 1
        before(self, *positional, **named)
        making.depth -= 1
        if making.depth == 0:
            making.made.append((self, {name: value.clone() for name, value in self.state_dict().items()}))
            making.generator = torch.get_rng_state()

    noting.__wrapped__ = before  # type: ignore[attr-defined]
    kind.__init__ = noting  # type: ignore[method-assign]
    try:
        yield
    finally:
        if own:
            kind.__init__ = before  # type: ignore[method-assign]
        else:
            del kind.__init__


def written_module(copier: Copier, module: nn.Module, indent: int = 0) -> str:
    """The expression that makes a module; over several lines where one is too short."""
    kind = type(module)
    if id(module) in copier.published:
        return copier.publisheds_place(copier.published[id(module)]) + "()"
    if kind is nn.Sequential:
        return _sequential(copier, module, indent)
    if not is_ours(kind):
        return _foreign(copier, module, indent)
    item = copier.class_item(kind)
    _, positional, named = copier.made[id(module)]
    names = list(copier.arguments_of(module))
    left = [
        _argument(copier, value, indent)
        for name, value in zip(names, positional, strict=False)
        if name not in item.dropped
    ]
    left += [f"{name}={_argument(copier, value, indent)}" for name, value in named.items() if name not in item.dropped]
    return _called(item.place, left, indent)


def _foreign(copier: Copier, module: nn.Module, indent: int) -> str:
    name = copier.written(type(module))
    if id(module) not in copier.made:
        copier.imports.add("from torch import nn")
        return f"nn.{module!r}"
    if name is None:
        raise UsageError(
            f"{type(module).__name__} is a layer of another package, and no script can say it yet.",
            where="model.name",
            remedy="Eject a run of another network, such as compact, or of a class of your own.",
        )
    _, positional, named = copier.made[id(module)]
    left = [_argument(copier, value, indent) for value in positional]
    left += [f"{key}={_argument(copier, value, indent)}" for key, value in named.items()]
    return _called(name, left, indent)


def _argument(copier: Copier, value: Any, indent: int) -> str:
    if isinstance(value, nn.Module):
        return copier.module(value, indent + 4)
    if isinstance(value, dict) and copier.written(value) is None:
        pairs = [f"{json.dumps(name)}: {_argument(copier, part, indent + 4)}" for name, part in value.items()]
        return "{" + ", ".join(pairs) + "}"
    if isinstance(value, Tensor) and copier.written(value) is None:
        copier.zeroed = True  # the file of what the network holds at the start has it
        return f"torch.zeros({tuple(value.shape)}, dtype={value.dtype})"
    return copier.written(value) or repr(value)


def _called(name: str, arguments: list[str], indent: int, *, spread: bool = False) -> str:
    line = f"{name}({', '.join(arguments)})"
    if not spread and "\n" not in line and len(line) + indent + 8 <= LINE:
        return line
    long = [argument for argument in arguments if "\n" in argument]
    if len(long) == 1 and long[0] is arguments[0] and long[0].count("(\n") == 1:
        # The brackets of the only long argument are enough to see what is within.
        line = f"{name}({', '.join([long[0].replace(chr(10) + '    ', chr(10)), *arguments[1:]])})"
        if all(len(part) + indent <= LINE for part in line.split("\n")):
            return line
    pad = " " * (indent + 4)
    return f"{name}(\n" + "".join(f"{pad}{argument},\n" for argument in arguments) + " " * indent + ")"


def _sequential(copier: Copier, module: nn.Module, indent: int) -> str:
    copier.imports.add("from torch import nn")
    children = list(module.named_children())
    if all(name == str(number) for number, (name, _) in enumerate(children)):
        return _called("nn.Sequential", [copier.module(child, indent + 4) for _, child in children], indent)
    copier.imports.add("from collections import OrderedDict")
    named = [f"{name}={copier.module(child, indent + 8)}" for name, child in children]
    return _called("nn.Sequential", [_called("OrderedDict", named, indent + 4, spread=True)], indent)

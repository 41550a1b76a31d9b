"""What is wrong with a recipe's values, in the words that its writer knows."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping
from typing import Any, get_args

from pydantic import BaseModel, ValidationError

from flambeau.errors import did_you_mean


def sentences(error: ValidationError, model: type[BaseModel]) -> list[str]:
    """pydantic's findings about a model, one sentence a field: a union's branches are joined."""
    by_field: dict[str, list[str]] = {}
    meant: dict[str, str] = {}
    for item in error.errors(include_url=False):
        path = _field(item["loc"], model)
        text = item["msg"].removeprefix("Value error, ")
        if item["type"] == "extra_forbidden":
            text = f"there is no such setting. {did_you_mean(str(item['loc'][-1]), _known(item['loc'][:-1], model))}"
        else:
            text = f"{_expected(item['type'], item.get('ctx', {}), text)}, received {item['input']!r}"
        if item["type"] == "literal_error" and isinstance(item["input"], str):
            meant[path] = _suggested(item["input"], item["ctx"]["expected"])
        by_field.setdefault(path, []).append(text)
    return [f"{path}: {_join(texts)}{meant.get(path, '')}" for path, texts in by_field.items()]


def _suggested(given: str, expected: str) -> str:
    """A hint at the closest of the words that pydantic lists as 'a', 'b' or 'c'; nothing where none is close."""
    close = difflib.get_close_matches(given.lower(), re.findall("'([^']*)'", expected), n=1)
    return f". Did you mean {close[0]}?" if close else ""


_EXPECTED = {
    "bool_parsing": "expected true or false",
    "bool_type": "expected true or false",
    "dict_type": "expected a table",
    "finite_number": "expected a finite number",
    "float_parsing": "expected a number",
    "float_type": "expected a number",
    "greater_than": "expected more than {gt:g}",
    "greater_than_equal": "expected at least {ge:g}",
    "int_from_float": "expected a whole number",
    "int_parsing": "expected a whole number",
    "int_type": "expected a whole number",
    "less_than": "expected less than {lt:g}",
    "less_than_equal": "expected at most {le:g}",
    "list_type": "expected a list",
    "literal_error": "expected {expected}",
    "model_type": "expected a table",
    "string_type": "expected a text",
    "tuple_type": "expected a list",
}
"""What is said in place of pydantic's own sentences, by the type of the error."""


def _expected(kind: str, context: Mapping[str, Any], text: str) -> str:
    """A sentence about a wrong value, in the words that a recipe's writer knows."""
    known = _EXPECTED.get(kind)
    return f"{text[0].lower()}{text[1:]}" if known is None else known.format(**context)


def _join(texts: list[str]) -> str:
    first, *rest = texts
    received = f", received {first.rsplit(', received ', 1)[1]}" if ", received " in first else ""
    bare = [text.removesuffix(received) for text in [first, *rest]]
    different = list(dict.fromkeys(bare))
    if all(text.startswith("expected ") for text in different):
        different[1:] = [text.removeprefix("expected ") for text in different[1:]]
    return " or ".join(different) + received


def _field(location: tuple[int | str, ...], model: type[BaseModel] | None) -> str:
    """The path of a field, without the names that pydantic gives to the branches of a union."""
    names: list[str] = []
    for part in location:
        if model is not None and part in model.model_fields:
            model = _model_of(model.model_fields[str(part)].annotation)
        elif names and model is None:
            if isinstance(part, int):
                names.append(str(part))
            continue
        names.append(str(part))
    return ".".join(names)


def _known(location: tuple[int | str, ...], model: type[BaseModel] | None) -> list[str]:
    for part in location:
        model = _model_of(model.model_fields[str(part)].annotation) if model else None
    return list(model.model_fields) if model else []


def _model_of(annotation: Any) -> type[BaseModel] | None:
    for candidate in (annotation, *get_args(annotation)):
        if isinstance(candidate, type) and issubclass(candidate, BaseModel):
            return candidate
    return None

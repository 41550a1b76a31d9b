"""The recipe: everything that determines a run, validated as a whole before any data is read.

A recipe is TOML on disk and a frozen :class:`Recipe` in memory; the two convert into each other without loss.
Precedence, lowest first: the named recipe, ``--set key=value``, the command's own flags.
"""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from string import Formatter
from typing import Annotated, Any, Literal, get_args

import tomli_w
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from flambeau.errors import RecipeError, did_you_mean

Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
NonNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Fraction = Annotated[float, Field(gt=0, lt=1)]
Count = Annotated[int, Field(ge=1)]
Seed = Annotated[int, Field(ge=0, lt=2**63)]

STEP_FIELDS = ("epoch", "batch", "step", "seen", "size", "loss", "mean_loss", "lr")
EPOCH_FIELDS = ("epoch", "step", "train_loss", "accuracy", "percent", "loss", "loss_mean_of_batches")


OPTIONAL = ("images", "augment", "text", "audio", "options")
"""Tables that only some tasks use."""


class Part(BaseModel):
    """One table of a recipe: unknown keys are mistakes, values do not change."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=False, validate_default=True)


def _fold(value: str | None) -> str | None:
    if value is not None:
        number, slash, count = value.partition("/")
        right = slash and number.isdecimal() and count.isdecimal() and 1 <= int(number) <= int(count) >= 2
        if not right:
            raise ValueError('expected a fold and how many there are, at least 2, as in "2/5"')
    return value


class Data(Part):
    """Where the examples come from and how they are split."""

    source: str | None = None
    root: list[str] = []
    validation: Literal["auto", "test", "none"] | Fraction = "auto"
    test: Fraction = 0.2
    split_seed: Seed = 0
    fold: Annotated[str | None, AfterValidator(_fold)] = None
    """Which of how many folds is the test split, as in "2/5"."""
    shuffle: bool = True
    on_bad: Literal["fail", "skip"] = "fail"
    memory: Literal["auto"] | Count = "auto"
    """Megabytes that the rows may take; more are read from a file that is mapped into memory."""
    follow_links: bool = False
    columns: dict[str, str] = {}
    """For tables: which column holds what, as in text = "review", label = "sentiment"."""
    group: str | None = None
    """What keeps rows on one side of a split: a table's column; for a folder a regular expression on paths."""


def _as_pair(value: object) -> object:
    return [value, value] if isinstance(value, int) and not isinstance(value, bool) else value


Pair = Annotated[tuple[Count, Count], BeforeValidator(_as_pair)]


class Images(Part):
    """How pictures are read."""

    size: Literal["auto"] | Pair = "auto"
    channels: Literal["auto", 1, 3] = "auto"
    normalize: Literal["statistics", "half", "none"] = "statistics"
    mean: list[float] | None = None
    std: list[Positive] | None = None
    """Mean and standard deviation of each channel, of pixels in [0, 1], in place of what ``normalize`` would take."""
    background: tuple[int, int, int] = (255, 255, 255)
    max_megapixels: Positive = 25.0
    min_side: Count = 2
    max_aspect: Positive = 20.0


class Augment(Part):
    """How training pictures are varied."""

    mirror: Literal["auto"] | bool = "auto"
    shift: Annotated[int, Field(ge=0, le=64)] = 0
    crop: Annotated[float, Field(gt=0, le=1)] = 1.0


class Text(Part):
    """How texts become tokens."""

    tokenizer: Literal["words", "bpe", "characters"] = "words"
    vocabulary: Count = 8000
    """The most different tokens."""
    min_count: Count = 1
    """How often a word must occur to be one of them."""
    lower: bool = False
    max_length: Count | None = None
    """Tokens beyond so many are cut off."""


class Audio(Part):
    """How recordings are read and become spectrograms."""

    rate: Literal["auto"] | Count = "auto"
    """Samples a second; recordings of another rate are resampled."""
    seconds: Literal["auto"] | Positive = "auto"
    mels: Count = 64
    window: Positive = 0.032
    hop: Positive = 0.010
    """Seconds that a window covers, and that lie between two."""
    normalize: bool = True


class ModelPart(BaseModel):
    """The network's name; every other key is an argument of its builder."""

    model_config = ConfigDict(extra="allow", frozen=True)
    name: str = "compact"

    def arguments(self) -> dict[str, Any]:
        """The arguments of the builder."""
        return dict(self.model_extra or {})


class InitialPart(Part):
    """How the weights of linear and convolutional layers begin."""

    name: Literal[
        "default",
        "kaiming-normal",
        "kaiming-uniform",
        "xavier-normal",
        "xavier-uniform",
        "lecun-normal",
        "orthogonal",
        "truncated-normal",
    ] = "default"
    """``default`` leaves them as the network's own code drew them."""
    std: Positive = 0.02
    """For truncated-normal."""


class LossPart(Part):
    """What is minimised."""

    name: Literal["cross-entropy", "nll"] = "cross-entropy"
    label_smoothing: Annotated[float, Field(ge=0, lt=1)] = 0.0
    class_weights: Literal["balanced"] | list[NonNegative] | None = None


class OptimizerPart(Part):
    """The update rule."""

    name: Literal["sgd", "adam", "adamw", "adagrad", "adadelta", "rmsprop", "muon"] = "adamw"
    lr: Positive = 1e-3
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.0
    nesterov: bool = False
    weight_decay: NonNegative = 0.0
    betas: tuple[Annotated[float, Field(ge=0, lt=1)], Annotated[float, Field(ge=0, lt=1)]] = (0.9, 0.999)


class SchedulePart(Part):
    """How the learning rate moves."""

    name: Literal["constant", "cosine", "one-cycle", "step", "plateau"] = "constant"
    warmup: NonNegative = 0.0
    """Epochs over which the rate rises from zero (for one-cycle: to its peak; 0 means 30 % of the run)."""
    every: Positive = 10.0
    """For step: epochs between two reductions."""
    patience: Count = 3
    """For plateau: validations without improvement before each reduction."""
    factor: Fraction = 0.1
    """For step and plateau: what the rate is multiplied by."""


class TrainPart(Part):
    """How long, in what portions, on what."""

    epochs: Count = 10
    batch_size: Literal["auto"] | Count = "auto"
    """``auto`` is 8 below 1,000 training examples, 32 below 10,000, else 64; the run's recipe.toml has the number."""
    eval_batch_size: Count = 256
    accumulate: Count = 1
    clip: Positive | None = None
    ema: Fraction | None = None
    patience: Count | None = None
    keep: Literal["best", "last"] = "best"
    device: str = "auto"
    threads: Count | None = None


def _template(fields: tuple[str, ...]) -> BeforeValidator:
    """Accepts a format string that names only these fields."""

    def check(value: object) -> object:
        if isinstance(value, str):
            try:
                names = [name for _, name, _, _ in Formatter().parse(value) if name is not None]
                unknown = [name for name in names if name not in fields]
                if unknown:
                    raise ValueError(f"unknown field {unknown[0]!r}; {did_you_mean(unknown[0], fields)}")
                value.format(**dict.fromkeys(fields, 1))
            except (IndexError, KeyError) as error:
                raise ValueError(f"not a format string ({error})") from error
        return value

    return BeforeValidator(check)


class LogPart(Part):
    """What is written to ``metrics.jsonl`` while an epoch goes on."""

    every: Count = 100
    first: bool = False
    """Logs the first of every so many batches instead of the last."""
    tensorboard: Literal["auto"] | bool = "auto"


class ShowPart(Part):
    """What is printed instead of the progress bar and the epoch table: the tutorials' own lines."""

    epoch_start: Annotated[str | None, _template(("epoch", "epochs"))] = None
    step: Annotated[str | None, _template(STEP_FIELDS)] = None
    epoch: Annotated[str | None, _template(EPOCH_FIELDS)] = None
    samples: Annotated[int, Field(ge=0, le=64)] = 0
    by_class: bool = False
    class_names: list[str] = []
    """What classes are called in what is printed after training, where that differs from the data's own names."""
    facts: bool = False
    """Prints the device, a batch's shape and dtype, and the module before training."""


class Recipe(Part):
    """Everything that determines a run.

    Example:
        >>> recipe = parse({"model": {"name": "mlp", "widths": [128]}, "train": {"epochs": 3}})
        >>> recipe.train.epochs, recipe.model.arguments()
        (3, {'widths': [128]})
    """

    name: str = "custom"
    description: str = ""
    task: str = "image-classification"
    seed: Seed = 0
    data: Data = Data()
    images: Images = Images()
    augment: Augment = Augment()
    text: Text = Text()
    audio: Audio = Audio()
    options: dict[str, Any] = {}
    """What only one task has; the task says what may be in it."""
    model: ModelPart = ModelPart()
    initial: InitialPart = InitialPart()
    loss: LossPart = LossPart()
    optimizer: OptimizerPart = OptimizerPart()
    schedule: SchedulePart = SchedulePart()
    train: TrainPart = TrainPart()
    log: LogPart = LogPart()
    show: ShowPart = ShowPart()

    def to_dict(self) -> dict[str, Any]:
        """The recipe as TOML and JSON can hold it, without what is not set."""
        kept, default = self.model_dump(mode="json"), type(self)().model_dump(mode="json")
        for table in OPTIONAL:
            # Tables that the task has no use for are not said; those that it uses are set, if only to their defaults.
            if table not in self.model_fields_set and kept[table] == default[table]:
                del kept[table]
        cleaned: dict[str, Any] = _without_none(kept)
        return cleaned

    def to_toml(self) -> str:
        """The recipe as TOML text; :func:`from_toml` gives an equal recipe back."""
        return tomli_w.dumps(self.to_dict(), multiline_strings=False)


Check = Callable[[Mapping[str, Any]], Iterable[str]]
"""Finds mistakes that need more than the recipe itself, such as names nobody knows."""


def parse(raw: Mapping[str, Any], *, where: object = None, checks: Iterable[Check] = ()) -> Recipe:
    """A recipe from nested dictionaries.

    Args:
        raw: Tables and values as TOML gives them.
        where: The name or file to put before an error.
        checks: Further checks of the raw values; what they find is reported together with the rest.

    Raises:
        RecipeError: With every mistake, each as ``field: what is wrong``.
    """
    mistakes: list[str] = []
    recipe = None
    try:
        recipe = Recipe.model_validate(raw)
    except ValidationError as error:
        mistakes += sentences(error)
    for check in checks:
        mistakes += [mistake for mistake in check(raw) if mistake not in mistakes]
    if mistakes or recipe is None:
        raise RecipeError(mistakes, where=where)
    return recipe


def contradictions(recipe: Recipe) -> list[str]:
    """Settings of which one makes the other mean nothing, whatever the task."""
    if recipe.data.validation != "none":
        return []
    waiting = {"schedule.name": recipe.schedule.name == "plateau", "train.patience": recipe.train.patience is not None}
    return [f"{key}: needs validation, and data.validation is 'none'" for key, asked in waiting.items() if asked]


def read_toml(text: str, *, where: object) -> dict[str, Any]:
    """TOML text as nested dictionaries.

    Raises:
        RecipeError: The text is not TOML; the error says in which line.
    """
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise RecipeError([f"not valid TOML: {error}"], where=where) from error


def from_toml(text: str, *, where: object = None) -> Recipe:
    """A recipe from TOML text."""
    return parse(read_toml(text, where=where), where=where)


def from_file(path: Path, checks: Iterable[Check] = ()) -> Recipe:
    """A recipe from a TOML file."""
    return parse(read_toml(path.read_text(encoding="utf-8"), where=path), where=path, checks=checks)


def with_settings(raw: Mapping[str, Any], settings: Iterable[str]) -> dict[str, Any]:
    """Applies ``a.b=c`` settings; a value is read as TOML, and as text where it is not TOML.

    Raises:
        RecipeError: With every setting that is not of that form.

    Example:
        >>> with_settings({"train": {"epochs": 1}}, ["train.epochs=5", "model.name=mlp"])
        {'train': {'epochs': 5}, 'model': {'name': 'mlp'}}
    """
    result: dict[str, Any] = _copy(raw)
    mistakes = []
    for setting in settings:
        key, equals, value = setting.partition("=")
        path = key.strip().split(".")
        if not equals or not all(path):
            mistakes.append(f"--set {setting}: expected key=value, such as train.epochs=5")
            continue
        put(result, path, _value(value.strip()))
    if mistakes:
        raise RecipeError(mistakes)
    return result


def put(raw: dict[str, Any], path: list[str], value: Any) -> None:
    """Sets the value at a path of keys, making the tables on the way."""
    for key in path[:-1]:
        inner = raw.get(key)
        if not isinstance(inner, dict):
            inner = raw[key] = {}
        raw = inner
    raw[path[-1]] = value


def _value(text: str) -> Any:
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text


def _copy(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _copy(item) for key, item in value.items()}
    return [_copy(item) for item in value] if isinstance(value, list) else value


def _without_none(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_none(item) for key, item in value.items() if item is not None}
    return [_without_none(item) for item in value] if isinstance(value, list) else value


def sentences(error: ValidationError, model: type[BaseModel] | None = None) -> list[str]:
    """pydantic's findings about a model (by default a recipe), one sentence a field: a union's branches are joined."""
    model = model or Recipe
    by_field: dict[str, list[str]] = {}
    for item in error.errors(include_url=False):
        path = _field(item["loc"], model)
        text = item["msg"].removeprefix("Value error, ")
        if item["type"] == "extra_forbidden":
            text = f"there is no such setting. {did_you_mean(str(item['loc'][-1]), _known(item['loc'][:-1], model))}"
        else:
            text = f"{_expected(item['type'], item.get('ctx', {}), text)}, received {item['input']!r}"
        by_field.setdefault(path, []).append(text)
    return [f"{path}: {_join(texts)}" for path, texts in by_field.items()]


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

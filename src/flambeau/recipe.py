"""The recipe: everything that determines a run, validated as a whole before any data is read.

A recipe is TOML on disk and a frozen :class:`Recipe` in memory; the two convert into each other without loss.
Precedence, lowest first: the named recipe, ``--set key=value``, the command's own flags.
"""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from string import Formatter
from typing import Annotated, Any, Literal

import tomli_w
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    model_validator,
)

from flambeau.errors import RecipeError, did_you_mean
from flambeau.wording import sentences

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
    if isinstance(value, int) and value < 1:
        raise ValueError("expected at least 1")
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


Share = Annotated[float, Field(ge=0, le=1)]

PRESETS: dict[str, dict[str, Any]] = {
    "none": {"mirror": False},
    "light": {"mirror": "auto", "crop": 0.8, "rotate": 5.0, "brightness": 0.2, "contrast": 0.2, "saturation": 0.2},
    "strong": {
        "mirror": "auto",
        "crop": 0.6,
        "randaugment": 2,
        "magnitude": 10.0,
        "cutout": 0.3,
        "mixup": 0.2,
        "cutmix": 1.0,
    },
}
"""What a preset sets; everything else is off."""


class Augment(Part):
    """How training pictures are varied. A preset sets several keys at once, and those that are said beside it win."""

    preset: Literal["none", "light", "strong"] | None = None
    mirror: Literal["auto"] | bool = "auto"
    shift: Annotated[int, Field(ge=0, le=64)] = 0
    crop: Annotated[float, Field(gt=0, le=1)] = 1.0
    rotate: Annotated[float, Field(ge=0, le=180)] = 0.0
    brightness: Share = 0.0
    contrast: Share = 0.0
    saturation: Share = 0.0
    hue: Annotated[float, Field(ge=0, le=0.5)] = 0.0
    randaugment: Annotated[int, Field(ge=0, le=8)] = 0
    magnitude: Annotated[float, Field(ge=0, le=30)] = 10.0
    cutout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    mixup: Annotated[float, Field(ge=0, le=10)] = 0.0
    cutmix: Annotated[float, Field(ge=0, le=10)] = 0.0

    @model_validator(mode="before")
    @classmethod
    def _with_preset(cls, raw: Any) -> Any:
        if not isinstance(raw, Mapping):
            return raw
        name = raw.get("preset")
        return {**PRESETS[name], **raw} if isinstance(name, str) and name in PRESETS else raw

    @property
    def mixes(self) -> bool:
        """Whether examples are mixed with others, and their labels with them."""
        return bool(self.mixup or self.cutmix)

    def contradictions(self, batch_size: int | str, channels: int | str) -> list[str]:
        """Settings that mean nothing beside others.

        Args:
            batch_size: The recipe's.
            channels: The pictures', as the recipe has them.
        """
        found = []
        if self.mixes and batch_size == 1:
            found.append("augment.mixup, augment.cutmix: need a second picture in the batch, and train.batch_size is 1")
        if not self.randaugment and self.magnitude != type(self).model_fields["magnitude"].default:
            found.append("augment.magnitude: says how strong augment.randaugment is, which is off (0)")
        if channels == 1 and self.preset is None and (self.saturation or self.hue):
            found.append("augment.saturation, augment.hue: images.channels = 1 leaves no colours to change")
        return found


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


def _as_list(value: object) -> object:
    return [value] if isinstance(value, str) else value


class ModelPart(BaseModel):
    """The network's name and what of it is frozen; every other key is an argument of its builder."""

    model_config = ConfigDict(extra="allow", frozen=True)
    name: str = "compact"
    freeze: Annotated[bool | list[str] | None, BeforeValidator(_as_list)] = None
    """``true``: only the last layer learns; or the names of the parts that do not."""

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
    model: str | None = None
    """A run or a saved model whose weights are taken by name; the last layer's only where the classes are the same."""


class LossPart(Part):
    """What is minimised. Each task takes some of these; ``auto`` is its usual one."""

    name: Literal[
        "auto", "cross-entropy", "nll", "kl", "hinge", "squared-hinge", "bce", "mse", "msle", "mae", "huber"
    ] = "auto"
    label_smoothing: Annotated[float, Field(ge=0, lt=1)] = 0.0
    class_weights: Literal["balanced"] | list[NonNegative] | None = None


class OptimizerPart(Part):
    """The update rule."""

    name: Literal["sgd", "adam", "adamw", "adagrad", "adadelta", "rmsprop", "muon"] = "adamw"
    lr: Literal["auto"] | Positive = 1e-3
    """``auto`` is searched for before the first step; the run's recipe.toml has the number."""
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.0
    nesterov: bool = False
    weight_decay: NonNegative = 0.0
    betas: tuple[Annotated[float, Field(ge=0, lt=1)], Annotated[float, Field(ge=0, lt=1)]] = (0.9, 0.999)

    @model_validator(mode="before")
    @classmethod
    def _of_sgd(cls, values: Any) -> Any:
        """``momentum`` and ``nesterov``, by which the introductions call two forms of sgd, as what they are."""
        forms = {"momentum": {"momentum": 0.9}, "nesterov": {"momentum": 0.9, "nesterov": True}}
        name = values.get("name") if isinstance(values, dict) else None
        return {**forms[name], **values, "name": "sgd"} if isinstance(name, str) and name in forms else values

    @property
    def rate(self) -> float:
        """The learning rate as a number: 1 where it is still to be found, so that a schedule alone decides."""
        return 1.0 if self.lr == "auto" else self.lr


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
    minutes: Positive | None = None
    """Plans as many epochs as fit, before the first step; the run's recipe.toml has their number instead."""
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
    precision: Literal["auto", "float32", "bfloat16", "float16"] = "float32"
    compile: bool = False
    deterministic: bool = False


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
        mistakes += sentences(error, Recipe)
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

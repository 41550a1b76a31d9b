"""A folder that a container is built from: the models, Flambeau's wheel, what to install, and how to run it."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata, resources
from pathlib import Path
from typing import Any

from flambeau import files
from flambeau.container import requirements
from flambeau.container.wheel import wheel
from flambeau.errors import UsageError
from flambeau.serve.engines import Engine, exported_engine, torch_engine
from flambeau.serve.limits import Limits
from flambeau.serve.repository import Source, loaded, sources_of

Tell = Callable[[str], None]

PORT = 8000
USER = 10001
"""Of the user in the container: a number, so that whoever runs it can see that it is not root."""


@dataclass(frozen=True, slots=True)
class Packed:
    """One model of a container.

    Attributes:
        source: Its name and version, and the file that the server is given.
        files: The content of its files, by name.
        engine: The model, which has answered.
    """

    source: Source
    files: Mapping[str, bytes]
    engine: Engine


def write_container(
    models: Sequence[str | Path],
    out: str | Path,
    *,
    engine: str = "onnx",
    network: Any = None,
    trust_code: bool = False,
    tell: Tell = lambda sentence: None,
) -> dict[str, Any]:
    """Writes a folder that a container with a server is built from.

    Args:
        models: Runs, model files or exported ONNX files, each as ``PATH`` or ``NAME=PATH``.
        out: The folder, which is not there yet or is empty; it appears whole or not at all.
        engine: ``onnx`` exports the models and needs no PyTorch; ``torch`` takes them as they are.
        network: As for :func:`flambeau.load`; for ``onnx`` alone.
        trust_code: As for :func:`flambeau.load`; with ``torch`` the server does the same.
        tell: Told what is going on, in sentences.

    Returns:
        ``out``, the sizes in bytes of its ``files`` by name, the ``models`` by name with their files, the ``engine``,
        the version of ``python``, and the versions of the ``requirements`` by name.

    Raises:
        UsageError: The folder holds something, a model does not exist, or nothing can serve it.
        MissingExtra: A package that the server needs is not installed here.
        FlambeauError: A model cannot be loaded or exported, or the folder cannot be written.
    """
    folder = Path(out)
    _require_free(folder)
    if engine == "torch" and network is not None:
        raise UsageError(
            "The class of the network is in a file of yours, which the container would not have.",
            where="--network",
            remedy="Leave --engine torch out: the exported model needs no class.",
        )
    sources = sources_of(map(str, models))
    with tempfile.TemporaryDirectory(prefix="flambeau-container-") as aside:
        packed = [_packed(source, engine, Path(aside), network, trust_code, tell) for source in sources]
    versions = requirements.pinned(engine, _packages(packed))
    contents = _contents(packed, versions, engine, trust_code)
    with files.new_folder(folder) as made:
        for name, data in contents.items():
            with files.in_parts(made / name) as write:
                write(memoryview(data))
        if folder.exists():
            folder.rmdir()
    return {
        "out": str(folder),
        "files": {name: len(data) for name, data in sorted(contents.items())},
        "models": {each.source.name: sorted(each.files) for each in packed},
        "engine": engine,
        "python": requirements.PYTHON,
        "requirements": versions,
    }


def _require_free(folder: Path) -> None:
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UsageError(
            "There is something already.",
            where=folder,
            expected="a folder that is empty or not there",
            remedy="Remove it, or choose another with --out.",
        )


def _packed(source: Source, engine: str, aside: Path, network: Any, trust_code: bool, tell: Tell) -> Packed:
    """A model as the container has it, after it has answered a first question."""
    folder = aside / source.name / source.version
    folder.mkdir(parents=True)
    name = source.name if source.version == "1" else f"{source.name}.v{source.version}"
    if engine == "onnx":
        file = _exported(source.path, folder / f"{name}.onnx", network, trust_code, tell)
    else:
        file = _copied(source, folder / f"{name}.safetensors")
    packed = Source(source.name, source.version, file)
    answering, _ = loaded(packed, lambda path: _opened(path, engine, trust_code))
    return Packed(packed, {path.name: path.read_bytes() for path in sorted(folder.glob(f"*{file.suffix}"))}, answering)


def _opened(path: Path, engine: str, trust_code: bool) -> Engine:
    megapixels = Limits().megapixels
    if engine == "torch":
        return torch_engine(path, megapixels, network=None, trust_code=trust_code, device="cpu")
    try:
        return exported_engine(path, "onnx", megapixels, trust_code=False)
    except UsageError as error:
        raise UsageError(
            error.problem,
            where=path.name,
            expected=error.expected,
            remedy="Say --engine torch: then the model is served as it is.",
        ) from error


def _exported(path: Path, out: Path, network: Any, trust_code: bool, tell: Tell) -> Path:
    """The ONNX file that the server is given, exported and compared, or copied where it is one already."""
    from flambeau.export.portable.card import format_of

    form = format_of(path)
    if form == "onnx":
        return _copied_graphs(path, out)
    if form is not None:
        raise UsageError(
            "Of exported files a container takes those of ONNX alone.",
            where=path,
            expected="a run, a model file or an ONNX file",
            received=form,
        )
    from flambeau.export.writing import export_model

    result = export_model(path, out, "onnx", network=network, trust_code=trust_code, tell=tell)
    return next(Path(name) for name in result["files"] if name.endswith(".onnx"))


def _copied_graphs(path: Path, out: Path) -> Path:
    """An exported file under its new name, and for a translator the other one as well."""
    from flambeau.export.portable.running import look
    from flambeau.export.portable.translating import files_of

    card = look(path, "onnx").card
    if card.about.get("front") != "translation":
        out.write_bytes(path.read_bytes())
        return out
    made = {name: out.with_name(f"{out.stem}.{name}.onnx") for name in files_of(card)}
    for name, file in files_of(card).items():
        made[name].write_bytes(file.read_bytes())
    return next(iter(made.values()))


def _copied(source: Source, out: Path) -> Path:
    """The model file of a run, or the one that was given."""
    from flambeau.export.portable.card import format_of

    if not source.file.is_file() or format_of(source.file) is not None:
        raise UsageError("With --engine torch a model is a run or a model file.", where=source.path)
    out.write_bytes(source.file.read_bytes())
    return out


def _packages(packed: Sequence[Packed]) -> list[str]:
    """What models need beside what every server does."""
    timm = any(str(each.engine.about.get("architecture", "")).startswith("timm:") for each in packed)
    text = any(each.engine.wire.text for each in packed)
    return [*(["timm"] if timm else []), *(["tokenizers"] if text else [])]


def _contents(packed: Sequence[Packed], versions: Mapping[str, str], engine: str, trust_code: bool) -> dict[str, bytes]:
    """The content of every file of the folder, by name."""
    name, data = wheel()
    models = {file: content for each in packed for file, content in each.files.items()}
    pins = "".join(f"{package}=={version}\n" for package, version in versions.items())
    told = {
        "arguments": [f"{each.source.name}=/app/{each.source.path.name}" for each in packed],
        "calls": [_call(each) for each in packed],
        "engine": engine,
        "files": sorted([*models, name, "requirements.txt"]),
        "models": sorted(models),
        "packed": packed,
        "port": PORT,
        "python": requirements.PYTHON,
        "torch": {each: requirements.public(metadata.version(each)) for each in requirements.TORCH}
        if engine == "torch"
        else {},
        "trust_code": trust_code and engine == "torch",
        "user": USER,
        "wheel": name,
    }
    texts = {file: _rendered(file, told) for file in ("Dockerfile", "compose.yaml", "README.md", ".dockerignore")}
    return {**models, name: data, "requirements.txt": pins.encode(), **texts}


def _call(packed: Packed) -> str:
    """A command that asks a model, for people to change."""
    wire = packed.engine.wire
    if wire.text:
        body = "--header 'Content-Type: text/plain' --data 'Your text'"
    elif wire.files:
        body = "--header 'Content-Type: application/octet-stream' --data-binary @your-file"
    else:
        body = "--json '{\"inputs\": [0]}'"
    version = "" if packed.source.version == "1" else f"/versions/{packed.source.version}"
    where = f"http://127.0.0.1:{PORT}/v2/models/{packed.source.name}{version}/predict"
    return f'curl --header "Authorization: Bearer $FLAMBEAU_TOKEN" {body} {where}'


def _rendered(name: str, told: Mapping[str, Any]) -> bytes:
    from jinja2 import Environment, StrictUndefined

    text = resources.files("flambeau.container").joinpath("templates", f"{name.lstrip('.')}.j2").read_text("utf-8")
    environment = Environment(
        undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True
    )
    return environment.from_string(text).render(told).encode()

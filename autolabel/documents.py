"""YAML that people write: found by name or path, checked against a model; errors name file, line and nearest name."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError, model_validator
from pydantic_core import PydanticCustomError

from autolabel.core.prompts import nearest
from autolabel.errors import PermanentUsageError


class Strict(BaseModel):
    """A frozen mapping whose unknown keys are refused, naming the nearest one there is."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    @model_validator(mode="before")
    @classmethod
    def _no_unknown_key(cls, data: Any) -> Any:
        for key in data if isinstance(data, dict) else ():
            if key not in cls.model_fields:
                hint = nearest(str(key), cls.model_fields)
                raise PydanticCustomError("unknown_key", "no such key; {hint}", {"key": str(key), "hint": hint})
        return data


Content = TypeVar("Content", bound=Strict)
Keys = tuple[str, ...]


@dataclass(frozen=True)
class Document(Generic[Content]):
    """A file's content, and the line on which each of its keys stands."""

    path: Path
    content: Content
    lines: Mapping[Keys, int] = field(default_factory=dict)

    def at(self, *keys: str) -> str:
        """`tools.yaml:12: classes.Scissors`, to begin a message with."""
        return _at(self.path, self.lines, keys)


def find(folder: str, name: str) -> Path:
    """The file of a shelf (`configs`, `ontologies`) by name, or any file by path. Raises PermanentUsageError."""
    if is_path(name):
        try:
            if Path(name).is_file():
                return Path(name)
        except OSError as error:
            raise PermanentUsageError(f"{name} cannot be read ({error.strerror}); nothing was done") from None
        raise PermanentUsageError(f"there is no file {name}; nothing was done")
    known = shelf(folder)
    if name not in known:
        raise PermanentUsageError(f"no {folder} file is called {name!r}; {nearest(name, known)}; nothing was done")
    return known[name]


def shelf(folder: str) -> dict[str, Path]:
    """The files that are shipped of this kind (`configs`, `ontologies`), by name."""
    package = Path(__file__).parent
    place = next(place for place in (package / folder, package.parent / folder) if place.is_dir())
    return {path.stem: path for path in sorted(place.glob("*.yaml"))}


def is_path(name: str) -> bool:
    return Path(name).suffix in (".yaml", ".yml")


def read_document(path: Path, model: type[Content]) -> Document[Content]:
    """Raises PermanentUsageError, in one line, for a file that is no YAML, gives a key twice or does not fit."""
    try:
        text = path.read_text(encoding="utf-8")
        root = yaml.compose(text, yaml.SafeLoader)
        data = yaml.safe_load(text)
        lines = _lines(path, root)
    except yaml.MarkedYAMLError as error:
        line = f":{error.problem_mark.line + 1}" if error.problem_mark else ""
        raise PermanentUsageError(f"{path}{line}: is no YAML: {error.problem}") from error
    except (yaml.YAMLError, ValueError, OSError, RecursionError) as error:
        raise PermanentUsageError(f"{path} cannot be read as YAML: {str(error).splitlines()[0]}") from error
    try:
        return Document(path, model.model_validate(data), lines)
    except ValidationError as error:
        first = error.errors()[0]
        added = (first["ctx"]["key"],) if first["type"] == "unknown_key" else ()
        keys = tuple(str(part) for part in (*first["loc"], *added))
        raise PermanentUsageError(f"{_at(path, lines, keys)}: {first['msg']}") from error


def _at(path: Path, lines: Mapping[Keys, int], keys: Keys) -> str:
    """The line of the key, or of the nearest one around it that the file has."""
    line = next((lines[keys[:n]] for n in range(len(keys), 0, -1) if keys[:n] in lines), None)
    return f"{path}{f':{line}' if line else ''}: {'.'.join(keys) or 'the file'}"


def _lines(path: Path, root: yaml.Node | None) -> dict[Keys, int]:
    lines: dict[Keys, int] = {}
    for keys, line in _walk(root, ()):
        if keys in lines:
            raise PermanentUsageError(f"{_at(path, {keys: line}, keys)}: given twice, first on line {lines[keys]}")
        lines[keys] = line
    return lines


def _walk(node: yaml.Node | None, above: Keys) -> Iterator[tuple[Keys, int]]:
    if isinstance(node, yaml.MappingNode):
        parts = [(str(key.value), key, value) for key, value in node.value]
    elif isinstance(node, yaml.SequenceNode):
        parts = [(str(i), item, item) for i, item in enumerate(node.value)]
    else:
        parts = []
    for name, place, inner in parts:
        yield (*above, name), place.start_mark.line + 1
        yield from _walk(inner, (*above, name))

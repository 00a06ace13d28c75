"""What a trial found, put into a person's prompt map: only what it changes is touched, all else stays byte for byte.

The places come from the YAML parser that reads the maps; text is put in and replaced there. Writing the parsed file
anew would reflow it and move comments.
"""

from __future__ import annotations

import difflib
import os
import re
import stat
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Any, cast

import yaml

from autolabel.documents import is_path, read_document, shelf
from autolabel.errors import PermanentUsageError
from autolabel.prompt_map import PromptMap

OURS = "# trial: "
BREAK = re.compile(r"\r\n|[\r\n\x85\u2028\u2029]")
STALE = re.compile(r"^\s*# trial: (?:(?!was:).)*?(?=  #|$)")
"""A comment of ours that may go: one that keeps what stood there may not."""

Splice = tuple[int, int, str]


@dataclass(frozen=True)
class ClassEdit:
    """What is to change of a class of the map; None leaves what is there.

    - `switched_off`: people draw it; its prompts stay in a comment.
    - `calibration`: (raw score, confidence), both rising.
    - `why`: one line, for the comment on it.
    """

    name: str
    threshold: float | None = None
    switched_off: bool = False
    calibration: tuple[tuple[float, float], ...] | None = None
    why: str = ""


@dataclass(frozen=True)
class Proposal:
    """A map as it is, and as it would be."""

    path: Path
    old: str
    new: str

    @property
    def diff(self) -> str:
        """Unified, for people to confirm; empty where nothing would change."""
        lines = self.old.splitlines(), self.new.splitlines()
        return "\n".join(difflib.unified_diff(*lines, str(self.path), f"{self.path} (proposed)", lineterm=""))


def editable_map(prompt_map: str | None) -> Path:
    """The file of a recipe's `prompt_map`. Raises PermanentUsageError where it has none of its own."""
    if prompt_map is not None and is_path(prompt_map):
        path = Path(prompt_map)
        if path.resolve() not in {shipped.resolve() for shipped in shelf("ontologies").values()}:
            return path
    what = (
        "has no prompt map" if prompt_map is None else f"uses the prompt map {prompt_map}, which came with autolabel"
    )
    raise PermanentUsageError(
        f"the recipe {what}, so there is none to write into; nothing was changed. Write one "
        "(`autolabel ontology init --project HASH --out tools.yaml`), and name it in a recipe of your own "
        "(`prompt_map: tools.yaml`)"
    )


def propose(path: Path, edits: Sequence[ClassEdit], calibrated_for: str | None = None) -> Proposal:
    """The map at `path` with the edits; a class that it does not name, and is asked for by that name, gets an entry.

    A `calibrated_for` other than the file's puts every calibration out of force that is not among the edits. Raises
    PermanentUsageError for a file that is no map, or of which the edits would change more than they say.
    """
    read_document(path, PromptMap)
    source = _Source(path.read_bytes().decode("utf-8"))
    data = yaml.safe_load(source.text)
    top = {} if calibrated_for in (None, data.get("calibrated_for")) else {"calibrated_for": calibrated_for}
    changes = {name: {"calibration": None} for name, own in data["classes"].items() if top and own.get("calibration")}
    changes |= {edit.name: changes.get(edit.name, {}) | _wanted(edit) for edit in edits}
    changed = {name: _differing(data["classes"].get(name, {}), wanted) for name, wanted in changes.items()}
    changed = {name: own for name, own in changed.items() if own}
    why = {edit.name: "".join(c if c.isprintable() else " " for c in edit.why) for edit in edits}

    writer = _Writer(source)
    writer.edit_classes(changed, why)
    writer.edit(source.root, top)
    new = writer.result()
    classes = {name: data["classes"].get(name, {}) | own for name, own in changed.items()}
    if _loaded(new) != data | top | {"classes": data["classes"] | classes}:
        raise PermanentUsageError(
            f"{path} cannot be edited by a program without changing more than what is meant (do its entries share "
            "parts by anchors?); nothing was changed. Edit it by hand"
        )
    return Proposal(path, source.text, new)


def write(proposal: Proposal) -> None:
    """Put the proposed text in the old one's place, at once and with its mode.

    Raises PermanentUsageError where the file was changed since, or cannot be written; it is then as it was.
    """
    path, half = proposal.path.resolve(), None
    try:
        is_same = path.read_bytes() == proposal.old.encode()
        if is_same:
            with NamedTemporaryFile(dir=path.parent, prefix=f"{path.name}.", suffix=".part", delete=False) as half:
                half.write(proposal.new.encode())
                half.flush()
                os.fsync(half.fileno())
            Path(half.name).chmod(stat.S_IMODE(path.stat().st_mode))
            Path(half.name).replace(path)
    except OSError as error:
        with suppress(OSError):
            if half is not None:
                Path(half.name).unlink()
        raise PermanentUsageError(f"{path} cannot be written ({error.strerror}); nothing was changed") from error
    if not is_same:
        raise PermanentUsageError(f"{path} was changed since it was read; nothing was written. Do it again")


def _wanted(edit: ClassEdit) -> dict[str, Any]:
    calibration = [[float(score), float(value)] for score, value in edit.calibration or ()]
    return {
        **({"prompts": []} if edit.switched_off else {}),
        **({} if edit.threshold is None else {"threshold": float(edit.threshold)}),
        **({} if edit.calibration is None else {"calibration": calibration}),
    }


def _differing(own: Mapping[str, Any], wanted: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in wanted.items() if key not in own or own[key] != value}


def _loaded(text: str) -> Any:
    with suppress(yaml.YAMLError):
        return yaml.safe_load(text)


def _flow(value: Any) -> str:
    """A value as YAML on one line; safe as a key too."""
    printable = str(value).isprintable()
    text: str = yaml.safe_dump(
        [value], default_flow_style=True, width=float("inf"), allow_unicode=printable, sort_keys=False
    )
    return text.rstrip()[1:-1]


@dataclass
class _Source:
    """A YAML file's text, and where its parts stand in it."""

    text: str
    root: yaml.MappingNode = field(init=False)
    newline: str = field(init=False)

    def __post_init__(self) -> None:
        self.root = cast(yaml.MappingNode, yaml.compose(self.text, yaml.SafeLoader))
        self.newline = "\r\n" if "\r\n" in self.text else "\n"
        tokens = yaml.scan(self.text, yaml.SafeLoader)
        self._tokens = [token for token in tokens if token.end_mark.index > token.start_mark.index]
        self._ends = [len(self.text[: token.end_mark.index].rstrip()) for token in self._tokens]

    def last(self, index: int) -> tuple[yaml.Token, int]:
        """The last token that ends up to `index`, and where."""
        place = bisect_right(self._ends, index) - 1
        return self._tokens[place], self._ends[place]

    def value(self, key: yaml.Node, value: yaml.Node) -> tuple[int, int]:
        """From behind a key's colon to the end of its value."""
        place = next(
            i
            for i in range(bisect_right(self._ends, key.end_mark.index - 1), len(self._ends))
            if isinstance(self._tokens[i], yaml.ValueToken)
        )
        if value.start_mark.index < key.start_mark.index:  # an alias: its node stands where the anchor is
            return self._ends[place], self._ends[place + 1]
        return self._ends[place], max(self._ends[place], self.last(value.end_mark.index)[1])

    def line_end(self, index: int) -> int:
        found = BREAK.search(self.text, index)
        return found.start() if found else len(self.text)

    def spliced(self, splices: Sequence[Splice]) -> str:
        """The text with each stretch replaced; what goes to one place goes there in the order given."""
        parts, done = [], 0
        for start, end, new in sorted(splices, key=lambda splice: splice[0]):
            parts += [self.text[done:start], new]
            done = end
        return "".join((*parts, self.text[done:]))


@dataclass
class _Writer:
    """Collects what is to be put where."""

    source: _Source
    _splices: list[Splice] = field(default_factory=list)
    _added: list[Splice] = field(default_factory=list)
    _notes: dict[int, list[str]] = field(default_factory=dict)

    def result(self) -> str:
        return self.source.spliced([*self._splices, *map(self._comment, self._notes), *self._added])

    def edit_classes(self, changed: Mapping[str, Mapping[str, Any]], why: Mapping[str, str]) -> None:
        classes = next(value for key, value in self.source.root.value if key.value == "classes")
        entries = {key.value: value for key, value in classes.value}
        for name, own in changed.items():
            if name in entries:
                self.edit(entries[name], own, why.get(name, ""))
        fresh = {name: own for name, own in changed.items() if name not in entries}
        parts = [(f"{_flow(name)}: {_flow(own)}", _block(name, own, why[name])) for name, own in fresh.items()]
        self._add(classes, parts, "; ".join(f"{name}: {why[name]}" for name in fresh if why[name]))

    def edit(self, mapping: yaml.MappingNode, values: Mapping[str, Any], why: str = "") -> None:
        """Give keys of a mapping these values, with a comment on what is most to be explained."""
        present = {key.value: (key, value) for key, value in mapping.value}
        fresh = {key: value for key, value in values.items() if key not in present}
        for key, value in values.items():
            if key in present:
                start, end = self.source.value(*present[key])
                self._replace(mapping, (start, end), value, _reason(key, values, why))
        note = "".join(_reason(key, values, why) for key in fresh)
        self._add(mapping, [(f"{key}: {_flow(own)}", _line(key, values, why)) for key, own in fresh.items()], note)

    def _replace(self, mapping: yaml.MappingNode, place: tuple[int, int], value: Any, why: str) -> None:
        start, end = place
        old = self.source.text[start:end]
        if value != []:
            self._splices.append((start, end, f" {_flow(value)}"))
            self._note(end, why)
        elif mapping.flow_style:
            self._splices.append((start, end, " []"))
            self._note(mapping.end_mark.index, f"{why}, was: {' '.join(old.split())}")
        else:
            stop = self.source.line_end(end)
            kept = BREAK.sub(lambda found: f"{found[0]}#", self.source.text[start:stop].rstrip())
            self._splices.append((start, stop, f" []  {OURS}{why}, was:{kept}"))

    def _add(self, mapping: yaml.MappingNode, parts: Sequence[tuple[str, str]], note: str) -> None:
        """Put keys at a mapping's end; each as it is written in braces and on lines of its own."""
        if parts and mapping.flow_style:
            token, end = self.source.last(mapping.end_mark.index - 1)
            joint = "" if not mapping.value else " " if isinstance(token, yaml.FlowEntryToken) else ", "
            self._added.append((end, end, joint + ", ".join(flow for flow, _ in parts)))
            self._note(mapping.end_mark.index, note)
        elif parts:
            end = self.source.line_end(self.source.last(mapping.end_mark.index)[1])
            indent = " " * mapping.value[0][0].start_mark.column
            lines = [indent + line for _, block in parts for line in block.split("\n")]
            self._added.append((end, end, "".join(self.source.newline + line for line in lines)))

    def _note(self, index: int, why: str) -> None:
        if why:
            self._notes.setdefault(self.source.line_end(index), []).append(why)

    def _comment(self, line_end: int) -> Splice:
        """A comment at a line's end: before a person's, in place of an earlier one of ours."""
        start = self.source.last(line_end)[1]
        kept = STALE.sub("", self.source.text[start:line_end]).strip()
        return start, line_end, "  ".join(("", OURS + "; ".join(self._notes[line_end]), *([kept] if kept else [])))


def _reason(key: str, values: Mapping[str, Any], why: str) -> str:
    """The comment for a key: on its prompts where a class is switched off, else on its threshold."""
    return why if key == ("prompts" if "prompts" in values else "threshold") else ""


def _line(key: str, values: Mapping[str, Any], why: str) -> str:
    reason = _reason(key, values, why)
    return f"{key}: {_flow(values[key])}{f'  {OURS}{reason}' if reason else ''}"


def _block(name: str, own: Mapping[str, Any], why: str) -> str:
    return "\n  ".join((f"{_flow(name)}:", *(_line(key, own, why) for key in own)))

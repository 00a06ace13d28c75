"""Takes our own labels back, and nothing else: a row is saved as it was read, less the objects that go.

It reads and writes the platform's own dictionary of a row: the SDK's objects forget what they do not know, and a save
replaces the whole row, so that what they forgot would be deleted.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from dataclasses import replace
from typing import Any
from uuid import UUID

from encord.objects import LabelRowV2
from encord.project import Project
from encord.workflow.stages.agent import AgentStage, AgentTask
from encord.workflow.stages.annotation import AnnotationStage, AnnotationTask, AnnotationTaskStatus

from autolabel.errors import PermanentRejectedError
from autolabel.protocols import Claim, Standing
from autolabel.remote import shapes
from autolabel.remote.client import Connection, remote_call, retrying
from autolabel.remote.shapes import Content
from autolabel.remote.source import READ_BUNDLE, label_row

Raw = dict[str, Any]
"""A label row as the platform serves it and takes it back."""


class EncordRetractor:
    """`protocols.Retractor` over the SDK, for one project."""

    def __init__(self, connection: Connection) -> None:
        self._project, self._writing = connection.project, connection.writing

    def look(self, claims: Sequence[Claim]) -> Mapping[str, Standing]:
        found: dict[str, Standing] = {}
        for start in range(0, len(claims), READ_BUNDLE):
            found |= self._look(claims[start : start + READ_BUNDLE])
        return found

    @retrying
    def _look(self, claims: Sequence[Claim]) -> dict[str, Standing]:
        by_hash = {claim.data_hash: claim for claim in claims}
        read = read_rows(self._project, list(by_hash), claims[0].branch)
        return {row.data_hash: _standing(row, raw, by_hash[row.data_hash]) for row, raw in read}

    @retrying
    def remove(self, claim: Claim, choose: Callable[[Standing], frozenset[str]]) -> Standing | None:
        """Repeating all of it after a lost answer is safe: it begins with a fresh read."""
        read = read_rows(self._project, [claim.data_hash], claim.branch)
        if not read:
            return None
        ((row, raw),) = read
        before = _standing(row, raw, claim)
        going = choose(before)
        if not going:
            return before
        if not going <= before.untouched:
            raise AssertionError("only objects that nobody touched may be removed")
        left = _without(shapes.from_platform(row), going)
        saved: Any = [_less(raw, going)]
        with remote_call(f"taking {len(going)} objects out of {row.data_title!r} on branch {claim.branch}"):
            self._writing._client.save_label_rows([str(row.label_hash)], saved)
        return self._read_back(claim, left)

    def _read_back(self, claim: Claim, expected: Content) -> Standing | None:
        read = read_rows(self._project, [claim.data_hash], claim.branch)
        if not read:
            return None
        ((row, raw),) = read
        served = content_of(row, raw)
        if served is None or not shapes.same(expected, served):
            raise PermanentRejectedError(
                f"{row.data_title!r} on branch {claim.branch} is not served as it was saved: somebody "
                "saved it at the same moment, or the platform did not take the save"
            )
        return _standing(row, raw, claim)

    @retrying
    def waiting(self, stage_uuid: str, data_hashes: Sequence[str]) -> frozenset[str]:
        stage: AnnotationStage = self._project.workflow.get_stage(uuid=UUID(stage_uuid))
        with remote_call(f"listing new tasks at {stage.title}"):
            tasks = stage.get_tasks(status=AnnotationTaskStatus.NEW)
            return frozenset(str(task.data_hash) for task in tasks if _is_free(task)).intersection(data_hashes)

    @retrying
    def move(self, data_hash: str, from_uuid: str, to_uuid: str) -> None:
        stage: AgentStage | AnnotationStage = self._writing.workflow.get_stage(uuid=UUID(from_uuid))
        with remote_call(f"moving a task on from {stage.title}"):
            for task in stage.get_tasks(data_hash=data_hash):
                if _is_free(task):
                    task.move(destination_stage_uuid=UUID(to_uuid))


def read_rows(project: Project, data_hashes: Sequence[str], branch: str) -> list[tuple[LabelRowV2, Raw]]:
    """Rows as listed, with what stands in them; nothing in those that no branch row exists for. Creates none."""
    with remote_call(f"reading {len(data_hashes)} rows of branch {branch}"):
        listed = project.list_label_rows_v2(data_hashes=list(data_hashes), branch_name=branch)
        hashes = [row.label_hash for row in listed if row.label_hash is not None]
        read = project._client.get_label_rows(hashes, get_signed_url=False, include_archived=True) if hashes else []
    by_hash = {raw["label_hash"]: dict(raw) for raw in read}
    # A row that the answer left out is treated as one that vanished: it is left, never taken for empty.
    return [
        (row, by_hash.get(row.label_hash, {}))
        for row in listed
        if row.label_hash is None or row.label_hash in by_hash
    ]


def _is_free(task: AgentTask | AnnotationTask) -> bool:
    begun = isinstance(task, AnnotationTask) and task.status != AnnotationTaskStatus.NEW
    return task.assignee is None and not begun


def _standing(row: LabelRowV2, raw: Raw, claim: Claim) -> Standing:
    listed = label_row(row)
    if row.label_hash is None:
        return Standing(listed)
    content = content_of(row, raw)
    if content is None:
        return Standing(listed, is_readable=False)
    names = claim.objects
    as_written = content.digest == claim.digest
    if names is None or not as_written:
        written = shapes.to_platform(claim.instances(listed))
        names = written.hashes if names is None else names
    mine = content.hashes & names
    untouched = {
        name
        for name in mine
        if not _is_answered(raw, name) and (as_written or shapes.same(_only(written, name), _only(content, name)))
    }
    return Standing(
        listed,
        frozenset(untouched),
        frozenset(mine - untouched),
        has_others=bool(content.classifications or content.hashes - names),
    )


def content_of(row: LabelRowV2, raw: Raw) -> Content | None:
    """What stands in a row; None where the SDK cannot read it, which is no reason to stop for the other rows."""
    try:
        with remote_call(f"reading {row.data_title!r}"):
            row.from_labels_dict(deepcopy(raw))
    except (PermanentRejectedError, LookupError, TypeError, ValueError):
        return None
    return shapes.from_platform(row)


def _is_answered(raw: Raw, object_hash: str) -> bool:
    """We give no attribute an answer, so whatever is answered was answered by somebody else."""
    answers = raw["object_answers"].get(object_hash, {}).get("classifications")
    return bool(answers or raw["object_actions"].get(object_hash, {}).get("actions"))


def _only(content: Content, object_hash: str) -> Content:
    return Content(tuple(item for item in content.placed if item.object_hash == object_hash))


def _without(content: Content, going: frozenset[str]) -> Content:
    left = tuple(item for item in content.placed if item.object_hash not in going)
    return replace(content, placed=left)


def _less(raw: Raw, going: frozenset[str]) -> Raw:
    """The row less some objects: their places on every frame, and their entries among answers and actions."""

    def less(labels: Raw) -> Raw:
        return labels | {"objects": [item for item in labels["objects"] if item["objectHash"] not in going]}

    def unit_less(unit: Raw) -> Raw:
        labels = unit["labels"]
        by_frame = (
            {frame: less(part) for frame, part in labels.items()} if raw["data_type"] == "video" else less(labels)
        )
        return unit | {"labels": by_frame}

    entries = {
        part: {name: entry for name, entry in raw[part].items() if name not in going}
        for part in ("object_answers", "object_actions")
    }
    return raw | entries | {"data_units": {key: unit_less(unit) for key, unit in raw["data_units"].items()}}

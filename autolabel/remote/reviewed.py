"""Reads what people made of our labels, and how long that took them. Creates and changes nothing on the platform."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime

from encord.objects import LabelRowV2, ObjectInstance

from autolabel.core.detections import Detection
from autolabel.core.rows import LabelRow
from autolabel.evaluation.values import TimeEntry, Track
from autolabel.protocols import Claim, Reviewed
from autolabel.remote import shapes
from autolabel.remote.client import Connection, remote_call, retrying
from autolabel.remote.retract import Raw, content_of, read_rows
from autolabel.remote.shapes import Content, Placed
from autolabel.remote.source import READ_BUNDLE, label_row
from autolabel.remote.truth import as_detection

SizesPx = Mapping[int, tuple[int, int]]
"""Frame index -> (width, height); of frames on which something was written, since no other is ever compared."""


class EncordInspector:
    """`protocols.Inspector` over the SDK, for one project."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def look(self, claims: Sequence[Claim]) -> Mapping[str, Reviewed]:
        found: dict[str, Reviewed] = {}
        for start in range(0, len(claims), READ_BUNDLE):
            found |= self._look(claims[start : start + READ_BUNDLE])
        return found

    @retrying
    def _look(self, claims: Sequence[Claim]) -> dict[str, Reviewed]:
        by_hash = {claim.data_hash: claim for claim in claims}
        read = read_rows(self._connection.project, list(by_hash), claims[0].branch)
        return {row.data_hash: _reviewed(row, raw, by_hash[row.data_hash]) for row, raw in read}

    @retrying
    def time_spent(self, stage_uuids: Sequence[str], since: datetime) -> list[TimeEntry]:
        """The platform tells whole days, and nothing of data units on which nobody spent time."""
        if not stage_uuids:  # which the platform takes as all of them
            return []
        seconds: Counter[tuple[str, str, str]] = Counter()
        with remote_call("reading how long people worked"):
            for told in self._connection.project.list_time_spent(since, workflow_stage_uuid=list(stage_uuids)):
                stage_uuid = str(told.workflow_stage.uuid) if told.workflow_stage else ""
                seconds[str(told.data_uuid), stage_uuid, told.user_email] += told.time_spent_seconds
        return [TimeEntry(*key, total) for key, total in seconds.items()]


def _reviewed(row: LabelRowV2, raw: Raw, claim: Claim) -> Reviewed:
    listed = label_row(row)
    served = Content(()) if row.label_hash is None else content_of(row, raw)
    if served is None:
        return Reviewed(listed, standing=None)
    written, sizes_px = _written(listed, served, claim)
    kept = _as_written(written, served)
    people = {} if row.label_hash is None else _people(row.get_object_instances(), written.hashes)
    tracks = (_tracks(written.placed, sizes_px, kept, {}), _tracks(served.placed, sizes_px, kept, people))
    return Reviewed(listed, *tracks, kept)


def _written(row: LabelRow, served: Content, claim: Claim) -> tuple[Content, SizesPx]:
    """What was written, with the sizes of its frames; a row that is served as it was tells the first by itself."""
    names = claim.objects or frozenset()
    if served.digest == claim.digest:
        return Content(tuple(item for item in served.placed if item.object_hash in names)), {}
    instances = [one for one in claim.instances(row) if one.object_hash in names]
    places = [place for one in instances for place in one.placements]
    return shapes.to_platform(instances), {place.frame_index: (place.width_px, place.height_px) for place in places}


def _as_written(written: Content, served: Content) -> frozenset[str]:
    """Hashes of objects that stand as they were on every frame on which they were written."""
    there = {(item.object_hash, item.frame): item for item in served.placed}
    changed = {
        item.object_hash
        for item in written.placed
        if (now := there.get((item.object_hash, item.frame))) is None or not shapes.same_place(item, now)
    }
    return written.hashes - changed


def _tracks(
    placed: Iterable[Placed], sizes_px: SizesPx, as_written: frozenset[str], people: Mapping[str, str]
) -> tuple[Track, ...]:
    """Objects in pixels, but not where nobody will look: those that stand as written are most, and cost time."""
    classes: dict[str, str] = {}
    places: defaultdict[str, dict[int, Detection]] = defaultdict(dict)
    for item in placed:
        classes[item.object_hash] = item.feature_hash
        if item.object_hash in as_written or item.frame not in sizes_px:
            continue
        if found := as_detection(item, *sizes_px[item.frame]):
            places[item.object_hash][item.frame] = found
    return tuple(Track(key, classes[key], places[key], people.get(key, "")) for key in classes)


def _people(objects: Iterable[ObjectInstance], ours: frozenset[str]) -> dict[str, str]:
    """Object hash -> who changed it last if it is ours, and who made it if not; not all can be told."""
    return {item.object_hash: (_editor if item.object_hash in ours else _maker)(item) for item in objects}


def _editor(item: ObjectInstance) -> str:
    last = max(item.get_annotations(), key=lambda annotation: annotation.last_edited_at)
    return "" if last.last_edited_by in (None, last.created_by) else str(last.last_edited_by)


def _maker(item: ObjectInstance) -> str:
    return next((annotation.created_by for annotation in item.get_annotations() if annotation.created_by), "")

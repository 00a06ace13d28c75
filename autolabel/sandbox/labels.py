"""Label rows: creating, reading, saving, copying between branches.

Decided here, because the real server's behaviour is not known (dossier, section 14):
- a label hash belongs to one (data unit, branch): a read carries no branch name, so it must;
- a save replaces the whole row whatever happened since it was read (the SDK's docstring says so),
  and an array of saves is checked as a whole first, then applied as a whole;
- the checks of a save are the ones in `_check`, with and without `validate_before_saving`;
- saving the same content again is a save like any other: it bumps `last_edited_at`;
- objects get no `objectNumber` unless the client sends one.
"""

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from autolabel.sandbox.store import (
    Call,
    Dataset,
    DataUnit,
    Item,
    Json,
    LabelRow,
    LegacyRoutes,
    Ontology,
    Project,
    RefusedError,
    Store,
    V2Routes,
    derived_uuid,
)

MAIN = "main"
EMPTY_LABELS: Json = {"objects": [], "classifications": []}
GEOMETRY = {
    "boundingBox", "rotatableBoundingBox", "polygon", "polygons", "polyline", "point", "skeleton",
    "circle", "ellipse",
}  # fmt: skip


def label_hash_of(project_hash: str, data_hash: str, branch: str) -> str:
    return derived_uuid(project_hash, data_hash, "labels", branch)


def find_row(store: Store, project: Project, data_hash: str, branch: str) -> LabelRow | None:
    return store.table(LabelRow).get(label_hash_of(project.project_hash, data_hash, branch))


def rows_of(store: Store, project: Project) -> list[LabelRow]:
    rows = store.table(LabelRow).values()
    return [row for row in rows if row.project_hash == project.project_hash]


# ---------------------------------------------------------------------------- create and read


def create_rows(call: Call) -> list[Json]:
    """labelrow/PUT: a write, and idempotent: rows that exist are answered as they are."""
    project = call.store.get(Project, call.ids["resource"])
    branch = call.payload.get("branch_name") or MAIN
    units = {unit.data_hash for unit in call.store.units(project)}
    if not units.issuperset(call.uid):
        raise RefusedError(404, "RESOURCE_NOT_FOUND_ERROR", "no such data unit in this project")
    fresh = [
        new_row(call.store, project, data_hash, branch)
        for data_hash in dict.fromkeys(call.uid)
        if find_row(call.store, project, data_hash, branch) is None
    ]
    call.store.commit("label_row_created", call.user, *fresh)
    hashes = [label_hash_of(project.project_hash, data_hash, branch) for data_hash in call.uid]
    return [_encoded(call, call.store.get(LabelRow, label_hash)) for label_hash in hashes]


def new_row(store: Store, project: Project, data_hash: str, branch: str) -> LabelRow:
    """An initialised row with nothing drawn in it."""
    label_hash = label_hash_of(project.project_hash, data_hash, branch)
    unit, now = store.get(DataUnit, data_hash), store.now()
    labels = {key: {} if item.data_type == "video" else EMPTY_LABELS for key, item in store.frames(unit)}
    return LabelRow(label_hash, project.project_hash, data_hash, branch, now, now, labels=labels)


def read_rows(call: Call) -> list[Json]:
    """labelrow/GET."""
    return [_encoded(call, _own_row(call, label_hash)) for label_hash in call.uid]


def _own_row(call: Call, label_hash: str) -> LabelRow:
    row = call.store.get(LabelRow, label_hash)
    if row.project_hash != call.ids["resource"]:
        raise RefusedError(403, "AUTHORISATION_ERROR", "this label row is of another project")
    return row


def _encoded(call: Call, row: LabelRow) -> Json:
    """A row as the SDK reads it, filtered by feature where the call asks for that."""
    unit = call.store.get(DataUnit, row.data_hash)
    item = call.store.get(Item, unit.item_uuid)
    dataset = call.store.get(Dataset, unit.dataset_hash)
    units = {key: _encoded_unit(call, key, file, row.labels[key]) for key, file in call.store.frames(unit)}
    if item.data_type == "img_group":
        units = {key: one | {"data_sequence": str(i)} for i, (key, one) in enumerate(units.items())}
    encoded = {
        "label_hash": row.label_hash,
        "branch_name": row.branch,
        "created_at": _long_date(row.created_at),
        "last_edited_at": _long_date(row.last_edited_at),
        "data_hash": unit.data_hash,
        "dataset_hash": unit.dataset_hash,
        "dataset_title": dataset.title,
        "data_title": unit.title,
        "data_type": item.data_type,
        "label_status": "LABEL_IN_PROGRESS",
        "is_valid": True,
        "data_units": units,
        "object_answers": row.object_answers,
        "classification_answers": row.classification_answers,
        "object_actions": row.object_actions,
        "spaces": {},
    }
    return _with_features(encoded, call.payload)


def _encoded_unit(call: Call, key: str, item: Item, labels: Json) -> Json:
    with_url = call.payload.get("get_signed_url")
    encoded: Json = {
        "data_hash": key,
        "data_title": item.name,
        "data_link": call.signed_url("GET", f"/blobs/{item.uuid}") if with_url else None,
        "data_type": item.mime_type,
        "data_sequence": 0,
        "width": item.width,
        "height": item.height,
        "labels": labels,
    }
    return encoded | ({"data_fps": item.fps, "data_duration": item.duration_s} if item.fps else {})


def _with_features(encoded: Json, wanted: Json) -> Json:
    """Hide the labels of other features. Saving what is left would delete them: that is real."""
    objects = wanted.get("include_object_feature_hashes")
    classifications = wanted.get("include_classification_feature_hashes")
    if objects is not None:
        units = {key: _keep_objects(u, objects) for key, u in encoded["data_units"].items()}
        kept = {label["objectHash"] for unit in units.values() for label in _objects(unit["labels"])}
        for part in ("object_answers", "object_actions"):
            encoded |= {part: {key: answer for key, answer in encoded[part].items() if key in kept}}
        encoded |= {"data_units": units}
    if classifications is not None:
        answers = encoded["classification_answers"].items()
        kept_answers = {k: a for k, a in answers if a["featureHash"] in classifications}
        encoded = encoded | {"classification_answers": kept_answers}
    return encoded


def _keep_objects(unit: Json, features: list[str]) -> Json:
    def kept(labels: Json) -> Json:
        return labels | {"objects": [label for label in labels["objects"] if label["featureHash"] in features]}

    return unit | {"labels": per_frame(kept, unit["labels"])}


def per_frame(change: Callable[[Json], Json], labels: Json) -> Json:
    """The labels of one data unit, changed frame by frame: a video has them by frame number."""
    return change(labels) if "objects" in labels else {frame: change(part) for frame, part in labels.items()}


def _objects(labels: Json) -> list[Json]:
    frames = [labels] if "objects" in labels else labels.values()
    return [label for frame in frames for label in frame["objects"]]


def parse_moment(text: str) -> datetime:
    """A moment without an offset, which the SDK sends for a naive datetime, is taken as UTC."""
    moment = datetime.fromisoformat(text)
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def _long_date(iso: str) -> str:
    """Label rows carry dates to the second, as `Thu, 09 Feb 2023 14:12:03 UTC`."""
    return parse_moment(iso).strftime("%a, %d %b %Y %H:%M:%S UTC")


# ---------------------------------------------------------------------------------------- save


def save_rows(call: Call) -> bool:
    """labelrow/POST: replaces each row as a whole. The last writer wins."""
    rows = [
        saved(call.store, _own_row(call, label_hash), label, call.user)
        for label_hash, label in zip(call.uid, call.payload["labels"], strict=True)
    ]
    call.store.commit("label_row_saved", call.user, *rows)
    return True


def saved(store: Store, row: LabelRow, label: Json, user: str) -> LabelRow:
    """`row` with the content of `label` in place of its own, or a refusal."""
    _check(store, row, label)
    decimals = store.settings().coordinate_decimals
    units = label["data_units"]
    answers = label["classification_answers"].items()

    def stored(labels: Json) -> Json:
        return _stored_labels(labels, user, decimals)

    return replace(
        row,
        last_edited_at=store.now(),
        revision=row.revision + 1,
        labels={key: per_frame(stored, units[key]["labels"]) for key in row.labels},
        object_answers=label["object_answers"],
        classification_answers={key: _signed_by(answer, user) for key, answer in answers},
        object_actions=label["object_actions"],
    )


def _stored_labels(labels: Json, user: str, decimals: int) -> Json:
    objects = [
        {
            key: _rounded(value, decimals) if key in GEOMETRY else value
            for key, value in _signed_by(label, user).items()
        }
        for label in labels["objects"]
    ]
    return EMPTY_LABELS | {"objects": objects}


def _signed_by(label: Json, user: str) -> Json:
    """Where the client names no author, the authenticated user is it."""
    authors = {name: label.get(name) or user for name in ("createdBy", "lastEditedBy")}
    return label | authors


def _rounded(value: Any, decimals: int) -> Any:
    if isinstance(value, float):
        return round(value, decimals)
    if isinstance(value, dict):
        return {key: _rounded(part, decimals) for key, part in value.items()}
    if isinstance(value, list):
        return [_rounded(part, decimals) for part in value]
    return value


def _check(store: Store, row: LabelRow, label: Json) -> None:
    if not _is_finite(label):
        raise RefusedError(400, "INVALID_ARGUMENTS_ERROR", "a number is NaN or infinite")
    if label.get("branch_name") != row.branch:
        raise RefusedError(400, "INVALID_ARGUMENTS_ERROR", f"row {row.label_hash} is on {row.branch}")
    item = store.get(Item, store.get(DataUnit, row.data_hash).item_uuid)
    _check_units(row, label["data_units"], item)
    objects = [o for unit in label["data_units"].values() for o in _objects(unit["labels"])]
    answers = label["classification_answers"]
    project = store.get(Project, row.project_hash)
    known = set(_features(store.get(Ontology, project.ontology_hash).editor))
    labelled = [*objects, *answers.values()]
    if not known.issuperset(entry.get("featureHash") for entry in labelled):
        raise RefusedError(400, "FEATURE_DOES_NOT_EXIST_ERROR", "a feature is not in the ontology")
    if not set(label["object_answers"]).issuperset(o["objectHash"] for o in objects):
        raise RefusedError(400, "ANSWER_DICTIONARY_ERROR", "an object has no entry in object_answers")
    if not all(0 <= frame < item.frame_count for frame in _frames(label)):
        raise RefusedError(400, "CORRUPTED_LABEL_ERROR", "a frame is outside the data unit")


def _check_units(row: LabelRow, units: Json, item: Item) -> None:
    """Labels are for the files of the row, and by frame number for a video only."""
    if set(units) != set(row.labels):
        raise RefusedError(400, "CORRUPTED_LABEL_ERROR", "the data units are not those of the row")
    if any(("objects" in unit["labels"]) == (item.data_type == "video") for unit in units.values()):
        raise RefusedError(
            400, "CORRUPTED_LABEL_ERROR", f"these are not the labels of a row of type {item.data_type}"
        )


def _is_finite(node: Any) -> bool:
    """The SDK sends a bare `NaN` if it is given one, and cannot read it back."""
    if isinstance(node, float):
        return math.isfinite(node)
    if isinstance(node, dict | list):
        return all(_is_finite(part) for part in (node.values() if isinstance(node, dict) else node))
    return True


def _features(node: Any) -> Iterator[str]:
    """Every feature hash of an ontology, at any depth."""
    if isinstance(node, dict):
        if "featureNodeHash" in node:
            yield node["featureNodeHash"]
        for part in node.values():
            yield from _features(part)
    elif isinstance(node, list):
        for part in node:
            yield from _features(part)


def _frames(label: Json) -> Iterator[int]:
    """Every frame of a video that has labels, and both ends of every range that the answers speak of."""
    for unit in label["data_units"].values():
        if "objects" not in unit["labels"]:
            yield from map(int, unit["labels"])
    dynamic = [a for entry in label["object_actions"].values() for a in entry["actions"]]
    for answer in [*label["classification_answers"].values(), *dynamic]:
        for start, end in answer.get("range") or []:
            yield start
            yield end


# ------------------------------------------------------------------------------------ branches


def list_branches(call: Call) -> Json:
    """Branches exist once a row is on them; main always does."""
    names = dict.fromkeys([MAIN, *(row.branch for row in rows_of(call.store, call.project()))])
    return {"results": [{"name": name} for name in names], "nextPageToken": None}


def copy_branch(call: Call) -> Json:
    """Copy rows to another branch; without `overwrite`, only where that branch has no row yet.

    The whole batch is one change, and each row is looked at in the same step that writes it: a
    person who makes the row first keeps it. That the real server is as strict is assumption A1.
    """
    store, project, wanted = call.store, call.project(), call.payload
    target = wanted["targetBranchName"]
    copies = [
        _copied(store, project, source, target)
        for source in _sources(call, wanted)
        if wanted.get("overwrite") or find_row(store, project, source.data_hash, target) is None
    ]
    store.commit("labels_copied", call.user, *copies)
    return {"copiedCount": len(copies)}


def _sources(call: Call, wanted: Json) -> Iterable[LabelRow]:
    hashes = wanted.get("labelUuids")
    for row in rows_of(call.store, call.project()):
        on_branch = row.branch == wanted["sourceBranchName"]
        if on_branch and (hashes is None or row.label_hash in hashes):
            yield row


def _copied(store: Store, project: Project, source: LabelRow, target: str) -> LabelRow:
    """The target's row with the source's content: its identity and age stay its own."""
    own = find_row(store, project, source.data_hash, target)
    own = own or new_row(store, project, source.data_hash, target)
    return replace(
        source,
        label_hash=own.label_hash,
        branch=target,
        created_at=own.created_at,
        last_edited_at=store.now(),
        revision=own.revision + 1,
    )


def classifications(call: Call) -> Json:
    """The classification answers of many rows at once."""
    rows = [call.store.get(LabelRow, label_hash) for label_hash in call.payload["labelUuids"]]
    return {
        "labels": [
            {
                "labelUuid": row.label_hash,
                "dataUuid": row.data_hash,
                "dataTitle": call.store.get(DataUnit, row.data_hash).title,
                "branchName": row.branch,
                "classificationAnswers": row.classification_answers,
            }
            for row in rows
            if row.branch == (call.payload.get("branchName") or MAIN)
        ]
    }


def validation_state(call: Call) -> Json:
    """Every row in the store passed the checks when it was saved, so every row is valid."""
    row = call.store.get(LabelRow, call.ids["label"])
    return {
        "labelHash": row.label_hash,
        "branchName": row.branch,
        "version": row.revision,
        "isValid": True,
        "errors": [],
    }


LEGACY: LegacyRoutes = {
    ("labelrow", "PUT"): create_rows,
    ("labelrow", "GET"): read_rows,
    ("labelrow", "POST"): save_rows,
}
V2: V2Routes = [
    ("GET", "/projects/{project}/branches", list_branches),
    ("POST", "/projects/{project}/labels/copy-branch", copy_branch),
    ("GET", "/projects/{project}/labels/{label}/validation-state", validation_state),
    ("POST", "/projects/{project}/label-rows/classifications", classifications),
]

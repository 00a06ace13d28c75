"""What people do in the stand-in.

People work as the editor is thought to: opening a row creates it on main and assigns its task, and
everything they draw is saved as a whole row. Not known of the real editor, and decided here: an
edit changes the geometry and `lastEditedBy`, and leaves `manualAnnotation` and `confidence` alone.
"""

import base64
import os
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace

from autolabel.sandbox import labels, timers, workflow
from autolabel.sandbox.store import Json, LabelRow, Ontology, Project, RefusedError, Store, Task

ANNOTATOR = "annotator@example.com"


@dataclass(frozen=True)
class Person:
    """One simulated action of one person on one row."""

    store: Store
    project: Project
    data_hash: str
    email: str
    wanted: Json

    def task(self) -> Task:
        return self.store.task(self.project.key, self.data_hash)

    def row(self) -> LabelRow:
        """The main row, made on the spot if this person is the first to open it."""
        row = labels.find_row(self.store, self.project, self.data_hash, labels.MAIN)
        return row or labels.new_row(self.store, self.project, self.data_hash, labels.MAIN)

    def save(self, label: Json) -> LabelRow:
        return labels.saved(self.store, self.row(), label, self.email)

    @property
    def frame(self) -> int:
        return int(self.wanted.get("frame", 0))

    def frame_labels(self, label: Json) -> Json:
        """The labels of the wanted frame: of a group's file, or by number in a video."""
        units: Json = label["data_units"]
        if self.data_hash not in units:
            chosen: Json = list(units.values())[self.frame]["labels"]
            return chosen
        labels: Json = units[self.data_hash]["labels"]
        if "objects" in labels:
            return labels
        by_frame: Json = labels.setdefault(str(self.frame), {"objects": [], "classifications": []})
        return by_frame

    def feature(self, kind: str) -> Json:
        """The wanted ontology object or classification, by feature hash or by name."""
        wanted = self.wanted.get("class")
        ontology = self.store.get(Ontology, self.project.ontology_hash)
        entries: list[Json] = ontology.editor[kind]
        for entry in entries:
            name = entry.get("name") or entry["attributes"][0]["name"]
            if wanted in (None, name, entry["featureNodeHash"]):
                return entry
        raise _invalid(f"the ontology has no {wanted!r} among its {kind}")


def act_as_person(store: Store, wanted: Json) -> Json:
    """Do one thing a person does; answers the row and task as they stand then.

    `seconds`: how long the person was at it, booked to the stage at which the task sits before. `keeps_out`: refused
    while the task sits at an Agent stage. That the platform does so is assumption A2.
    """
    project = store.get(Project, wanted["project"])
    email = wanted.get("email", ANNOTATOR)
    person = Person(store, project, wanted["data_hash"], email, wanted)
    if wanted.get("keeps_out") and project.stage(person.task().stage_uuid)["stageType"] == "AGENT":
        raise _invalid("people cannot open a row whose task sits at an Agent stage")
    act = ACTS.get(wanted["action"])
    if act is None:
        raise _invalid(f"people cannot {wanted['action']}; they can {', '.join(ACTS)}")
    spent = timers.spent(store, person.task(), email, wanted.get("seconds", 0))
    changed = act(person)
    store.commit(f"human_{wanted['action']}", email, *changed, *spent)
    return {"changed": [asdict(entity) for entity in changed]}


Changed = list[LabelRow | Task]


def _open(person: Person) -> Changed:
    task = person.task()
    assigned = replace(task, assignee=task.assignee or person.email, status="ASSIGNED")
    return [person.row(), assigned]


def _draw(person: Person) -> Changed:
    label = _as_label(person.row())
    _put_object(person, label)
    return [person.save(label)]


def _put_object(person: Person, label: Json) -> None:
    """Something new: a `geometry` as labels have it, or what that shape makes of a `box_norm`."""
    entry, now = person.feature("objects"), person.store.now()
    object_hash = person.wanted.get("object_hash") or base64.b64encode(os.urandom(6)).decode()
    drawn = {
        "name": entry["name"],
        "color": entry["color"],
        "shape": entry["shape"],
        "value": entry["name"].lower().replace(" ", "_"),
        "createdAt": now,
        "lastEditedAt": now,
        "confidence": 1.0,
        "objectHash": object_hash,
        "featureHash": entry["featureNodeHash"],
        "manualAnnotation": True,
        **(person.wanted.get("geometry") or _geometry(entry["shape"], person.wanted["box_norm"])),
    }
    person.frame_labels(label)["objects"].append(drawn)
    label["object_answers"][object_hash] = {"objectHash": object_hash, "classifications": []}


def _autosave(person: Person) -> Changed:
    """A tab from before saves what it shows, whole, over whatever is there by now.

    `copy` is the row as it was when the tab was opened, None if there was none; with a `box_norm` something was drawn
    in it since.
    """
    copy = person.wanted.get("copy")
    shown = LabelRow(**copy) if copy else labels.new_row(person.store, person.project, person.data_hash, labels.MAIN)
    label = _as_label(shown)
    if "box_norm" in person.wanted:
        _put_object(person, label)
    return [person.save(label)]


def _geometry(shape: str, box_norm: list[float]) -> Json:
    x, y, w, h = box_norm
    corners = [(x, y), (x + w, y), (x + w, y + h), (x, y + h)]
    points = {str(i): {"x": x, "y": y} for i, (x, y) in enumerate(corners)}
    if shape == "bounding_box":
        return {"boundingBox": {"x": x, "y": y, "w": w, "h": h}}
    if shape == "polygon":
        flat = [value for corner in corners for value in corner]
        return {"polygon": points, "polygons": [[flat]]}
    if shape == "polyline":
        return {"polyline": points}
    raise _invalid(f"this stand-in's people cannot draw a {shape}")


def _edit(person: Person) -> Changed:
    label = _as_label(person.row())
    drawn = _find_object(label, person)
    drawn |= _geometry(drawn["shape"], person.wanted["box_norm"])
    drawn |= {"lastEditedBy": person.email, "lastEditedAt": person.store.now()}
    return [person.save(label)]


def _delete(person: Person) -> Changed:
    """The whole object, from every frame that has it."""
    label = _as_label(person.row())
    gone = _find_object(label, person)["objectHash"]

    def without(frame: Json) -> Json:
        return frame | {"objects": [drawn for drawn in frame["objects"] if drawn["objectHash"] != gone]}

    for unit in label["data_units"].values():
        unit["labels"] = labels.per_frame(without, unit["labels"])
    for part in ("object_answers", "object_actions"):
        label[part].pop(gone, None)
    return [person.save(label)]


def _empty(person: Person) -> Changed:
    """Every object, from every frame."""
    label = _as_label(person.row())
    for unit in label["data_units"].values():
        unit["labels"] = labels.per_frame(lambda frame: frame | {"objects": []}, unit["labels"])
    return [person.save(label | {"object_answers": {}, "object_actions": {}})]


def _classify(person: Person) -> Changed:
    entry, now = person.feature("classifications"), person.store.now()
    question = entry["attributes"][0]
    option = question["options"][0]
    chosen = {key: option[name] for key, name in OPTION_KEYS.items()}
    classification_hash = base64.b64encode(os.urandom(6)).decode()
    answer = {
        "name": question["name"],
        "value": question["name"].lower().replace(" ", "_"),
        "answers": [chosen],
        "featureHash": question["featureNodeHash"],
        "manualAnnotation": True,
    }
    label = _as_label(person.row())
    answers = label["classification_answers"]
    for key in [key for key, given in answers.items() if _is_answer(given, entry, person.frame)]:
        del answers[key]  # a question has one answer a frame
    answers[classification_hash] = {
        "classifications": [answer],
        "classificationHash": classification_hash,
        "featureHash": entry["featureNodeHash"],
        "spaces": {},
        "range": [[person.frame, person.frame]],
        "createdAt": now,
        "lastEditedAt": now,
        "confidence": 1.0,
        "manualAnnotation": True,
    }
    return [person.save(label)]


def _is_answer(given: Json, entry: Json, frame: int) -> bool:
    on_frame = any(start <= frame <= end for start, end in given["range"])
    return on_frame and given["featureHash"] == entry["featureNodeHash"]


OPTION_KEYS = {"name": "label", "value": "value", "featureHash": "featureNodeHash"}


def _skip(person: Person) -> Changed:
    return [replace(person.task(), status="SKIPPED", last_actioned_by=person.email)]


def _reopen(person: Person) -> Changed:
    """Back to the first annotators, from wherever it is."""
    annotate = next(stage for stage in person.project.stages if stage["stageType"] == "ANNOTATION")
    moved = replace(person.task(), stage_uuid=annotate["uuid"], status="REOPENED", last_actioned_by=person.email)
    return [moved]


def _through_workflow(action: str) -> Callable[[Person], Changed]:
    def act(person: Person) -> Changed:
        task = replace(person.task(), last_actioned_by=person.email)
        stage = person.project.stage(task.stage_uuid)
        taken = {"action": action, "assignee": person.email if action == "ASSIGN" else None}
        return [workflow.acted_on(person.project, stage, task, taken)]

    return act


ACTS: dict[str, Callable[[Person], Changed]] = {
    "open": _open,
    "draw": _draw,
    "edit": _edit,
    "delete": _delete,
    "empty": _empty,
    "autosave": _autosave,
    "classify": _classify,
    "skip": _skip,
    "reopen": _reopen,
    "assign": _through_workflow("ASSIGN"),
    "submit": _through_workflow("SUBMIT"),
    "approve": _through_workflow("APPROVE"),
    "reject": _through_workflow("REJECT"),
}


def _as_label(row: LabelRow) -> Json:
    """A copy of the row's content in the form in which a save sends it."""
    content: Json = asdict(row)
    units = {key: {"labels": unit_labels} for key, unit_labels in content["labels"].items()}
    parts = ("object_answers", "classification_answers", "object_actions")
    return {"branch_name": row.branch, "data_units": units} | {p: content[p] for p in parts}


def _find_object(label: Json, person: Person) -> Json:
    for drawn in person.frame_labels(label)["objects"]:
        if drawn["objectHash"] == person.wanted["object_hash"]:
            found: Json = drawn
            return found
    raise _invalid(f"no object {person.wanted['object_hash']} on this row")


def _invalid(message: str) -> RefusedError:
    return RefusedError(400, "INVALID_ARGUMENTS_ERROR", message)

"""What tests and demos ask for beyond the API: planned faults, simulated people, a look inside.

People work as the editor is thought to: opening a row creates it on main and assigns its task, and
everything they draw is saved as a whole row. Not known of the real editor, and decided here: an
edit changes the geometry and `lastEditedBy`, and leaves `manualAnnotation` and `confidence` alone.
"""

import base64
import os
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from starlette.responses import JSONResponse, Response

from autolabel.sandbox import labels, workflow
from autolabel.sandbox.store import Call, Handler, Json, LabelRow, Ontology, Project, RefusedError, Store, Task

ANNOTATOR = "annotator@example.com"
EXPIRED_URL = "<Error><Code>ExpiredToken</Code><Message>Invalid argument.</Message></Error>"
LEGACY_CODES = {
    400: "INVALID_ARGUMENTS_ERROR",
    401: "AUTHENTICATION_ERROR",
    403: "AUTHORISATION_ERROR",
    404: "RESOURCE_NOT_FOUND_ERROR",
}


# --------------------------------------------------------------------------------------- faults


@dataclass
class Fault:
    """A planned mishap: it lets `after` matching requests pass, then meets `times` of them.

    drip: applied, and then the answer comes a byte every `delay_s`.
    not_json: applied, and then the answer is 200 and a page for people.
    drop_items: the named items of a bundle are neither applied nor answered, and nothing says so.
    fail_items: the same, and the answer is an error although the other items were applied.
    Where the request is no bundle (a listing), drop_items takes the items out of the answer.
    """

    id: int
    kind: str
    times: int
    match: Json = field(default_factory=dict)
    after: int = 0
    status: int = 503
    retry_after_s: int | str | None = None  # or whatever the header is to say instead
    delay_s: float = 0.0
    items: list[int] = field(default_factory=list)
    seen: int = 0
    met: int = 0

    ON_ITEMS = ("drop_items", "fail_items")
    KINDS = ("status", "reset_before", "reset_after", "slow", "truncate", "drip", "not_json", "expire_url", *ON_ITEMS)
    TRAITS = ("method", "path_contains", "query_type", "query_method")

    def __post_init__(self) -> None:
        if self.kind not in self.KINDS:
            raise ValueError(f"no fault of kind {self.kind}; there are {', '.join(self.KINDS)}")
        if not set(self.match) <= set(self.TRAITS):
            raise ValueError(f"faults are matched on {', '.join(self.TRAITS)}")

    def meets(self, traits: Json) -> bool:
        wanted = dict(self.match)
        if wanted.pop("path_contains", "") not in traits["path"]:
            return False
        if any(traits[name] != value for name, value in wanted.items()):
            return False
        self.seen += 1
        return self.after < self.seen and self.met < self.times

    def answer(self, *, in_envelope: bool) -> Response:
        """What is said instead of the real answer; the legacy dialect says most of it within a 200."""
        if self.kind == "expire_url":
            return Response(EXPIRED_URL, 403, media_type="application/xml")
        if self.kind == "not_json":
            return Response("<html>Please come back later</html>", 200, media_type="text/html")
        if in_envelope and self.status in LEGACY_CODES:
            content = {"status": self.status, "response": [LEGACY_CODES[self.status]], "payload": "a planned fault"}
            return JSONResponse(content)
        wait = {} if self.retry_after_s is None else {"Retry-After": str(self.retry_after_s)}
        return JSONResponse({"message": "a planned fault"}, self.status, headers=wait)

    def handled(self, handler: Handler, call: Call) -> Any:
        """What `handler` answers to the call under this fault."""
        if self.kind not in self.ON_ITEMS:
            return handler(call)
        bundle = self._bundle_less_items(call)
        answer = handler(bundle) if bundle else self._less_items(handler(call))
        if self.kind == "fail_items":
            raise RefusedError(self.status, "UNKNOWN_ERROR", "some items could not be handled")
        return answer

    def _bundle_less_items(self, call: Call) -> Call | None:
        """The call without the named items; None where it carries no items."""
        if call.uid:
            payload = call.payload
            if "labels" in payload:
                payload = payload | {"labels": self._less_items(payload["labels"])}
            return replace(call, uid=self._less_items(call.uid), payload=payload)
        if call.payload is not None and "resource" not in call.ids:
            return replace(call, payload=self._less_items(call.payload))
        return None

    def _less_items(self, value: Any) -> Any:
        """`value` less the named items: of itself if it is a list, else of the lists in it."""
        if isinstance(value, list):
            return [item for i, item in enumerate(value) if i not in self.items]
        return {k: self._less_items(v) if isinstance(v, list) else v for k, v in value.items()}


# --------------------------------------------------------------------------------------- people


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
    """Do one thing a person does; answers the row and task as they stand then."""
    project = store.get(Project, wanted["project"])
    email = wanted.get("email", ANNOTATOR)
    person = Person(store, project, wanted["data_hash"], email, wanted)
    act = ACTS.get(wanted["action"])
    if act is None:
        raise _invalid(f"people cannot {wanted['action']}; they can {', '.join(ACTS)}")
    changed = act(person)
    store.commit(f"human_{wanted['action']}", email, *changed)
    return {"changed": [asdict(entity) for entity in changed]}


Changed = list[LabelRow | Task]


def _open(person: Person) -> Changed:
    task = person.task()
    assigned = replace(task, assignee=task.assignee or person.email, status="ASSIGNED")
    return [person.row(), assigned]


def _draw(person: Person) -> Changed:
    entry, now = person.feature("objects"), person.store.now()
    object_hash = base64.b64encode(os.urandom(6)).decode()
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
        **_geometry(entry["shape"], person.wanted["box_norm"]),
    }
    label = _as_label(person.row())
    person.frame_labels(label)["objects"].append(drawn)
    label["object_answers"][object_hash] = {"objectHash": object_hash, "classifications": []}
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
    label["classification_answers"][classification_hash] = {
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


OPTION_KEYS = {"name": "label", "value": "value", "featureHash": "featureNodeHash"}


def _skip(person: Person) -> Changed:
    return [replace(person.task(), status="SKIPPED", last_actioned_by=person.email)]


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
    "classify": _classify,
    "skip": _skip,
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


# --------------------------------------------------------------------------------------- routes


class Admin:
    """The /admin routes. Planned faults are in memory only: a restarted server has none."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._faults: list[Fault] = []
        self._routes: dict[tuple[str, str], Callable[[Mapping[str, str], Any], Any]] = {
            ("POST", "/admin/faults"): self._plan_faults,
            ("GET", "/admin/faults"): lambda _query, _body: [asdict(f) for f in self._faults],
            ("DELETE", "/admin/faults"): lambda _query, _body: self._faults.clear(),
            ("POST", "/admin/human"): lambda _query, body: act_as_person(store, body),
            ("POST", "/admin/settings"): self._change_settings,
            ("GET", "/admin/log"): lambda query, _body: list(store.log.since(int(query.get("since", 0)))),
            ("GET", "/admin/rows"): lambda query, _body: dump_rows(store, query["project"]),
        }

    def handle(self, method: str, path: str, query: Mapping[str, str], body: Any) -> Any:
        handler = self._routes.get((method, path))
        if handler is None:
            known = ", ".join(f"{method} {path}" for method, path in self._routes)
            raise RefusedError(404, "", f"the admin routes are {known}")
        try:
            return handler(query, body)
        except (LookupError, TypeError, ValueError) as error:
            raise _invalid(f"{type(error).__name__}: {error}") from error

    def meet_fault(self, traits: Json) -> Fault | None:
        """The first planned fault that this request meets, counted as met."""
        for fault in self._faults:
            if fault.meets(traits):
                fault.met += 1
                return fault
        return None

    def _plan_faults(self, _query: Mapping[str, str], wanted: list[Json]) -> Json:
        fresh = [Fault(id=i, **fault) for i, fault in enumerate(wanted, len(self._faults))]
        self._faults += fresh
        return {"ids": [fault.id for fault in fresh]}

    def _change_settings(self, _query: Mapping[str, str], wanted: Json) -> Json:
        settings = replace(self._store.settings(), **wanted)
        self._store.commit("settings_changed", "admin", settings)
        return asdict(settings)


def dump_rows(store: Store, project_hash: str) -> dict[str, dict[str, Json]]:
    """Branch -> data hash -> what is stored of that label row."""
    dump: dict[str, dict[str, Json]] = {}
    for row in labels.rows_of(store, store.get(Project, project_hash)):
        dump.setdefault(row.branch, {})[row.data_hash] = asdict(row)
    return dump

"""Where the rows of a project stand: the listing, the stages, the tasks and their moves.

An array of actions is one change: one stale task (not at this stage any more) refuses all of it,
which Encord confirmed (encord-agents PR #207). Not known of the real server, and decided here:
- SUBMIT and APPROVE go to the next stage of the list, REJECT to the nearest Annotate stage before,
  with status REOPENED; nobody is assigned there unless the call says who;
- a task sent back by a reviewer lists as RETURNED, one at an Agent stage as QUEUED;
- tasks are handed out by priority, highest first, then in the order in which they were added; a
  page token names the last task seen, so tasks that move on while being paged are never skipped.
"""

import re
from dataclasses import replace
from typing import Any

from autolabel.sandbox.labels import MAIN, find_row, parse_moment, rows_of
from autolabel.sandbox.store import (
    Call,
    Dataset,
    DataUnit,
    Item,
    Json,
    LegacyRoutes,
    Project,
    RefusedError,
    Store,
    Task,
    V2Routes,
    derived_uuid,
)

PAGE_SIZE = 100
ACTIONS = {
    "AGENT": {"PATHWAY_ACTION"},
    "ANNOTATION": {"SUBMIT", "ASSIGN", "RELEASE"},
    "REVIEW": {"APPROVE", "REJECT", "ASSIGN", "RELEASE"},
    "DONE": set[str](),
}


def new_stages(project_hash: str, agent_title: str | None = None) -> list[Json]:
    """Annotate -> Review -> Complete, with an Agent stage before it where one is named."""
    kinds = [("ANNOTATION", "Annotate"), ("REVIEW", "Review"), ("DONE", "Complete")]
    stages: list[Json] = [
        {"stageType": kind, "uuid": derived_uuid(project_hash, title), "title": title} for kind, title in kinds
    ]
    if agent_title is None:
        return stages
    pathway = {
        "uuid": derived_uuid(project_hash, "pathway"),
        "title": "annotate",
        "destinationUuid": stages[0]["uuid"],
    }
    agent = {
        "stageType": "AGENT",
        "uuid": derived_uuid(project_hash, agent_title),
        "title": agent_title,
        "pathways": [pathway],
    }
    return [agent, *stages]


def new_tasks(store: Store, project: Project, units: list[DataUnit]) -> list[Task]:
    """A task for each of these data units, waiting at the first stage."""
    now, stage = store.now(), project.stages[0]["uuid"]
    first = sum(task.project_hash == project.key for task in store.table(Task).values())
    return [
        Task(
            derived_uuid(project.project_hash, unit.data_hash, "task"),
            project.project_hash,
            unit.data_hash,
            ordinal,
            stage,
            now,
            now,
        )
        for ordinal, unit in enumerate(units, first)
    ]


# ------------------------------------------------------------------------------------- listing


def list_rows(call: Call) -> list[Json]:
    """labelrowmetadata/GET: the whole project at once, as the real one does; creates nothing.

    With all branches asked for, main is listed even where only another one has labels: the task
    is still there.
    """
    store, wanted = call.store, call.payload
    project = store.get(Project, call.ids["resource"])
    first = wanted["branch_name"] or MAIN
    others = _other_branches(store, project, first) if wanted["include_all_label_branches"] else {}
    listed = (
        _metadata(store, project, unit, branch) | _images_data(store, unit, wanted)
        for unit in store.units(project)
        if _is_in(unit.data_hash, wanted["data_hashes"])
        for branch in [first, *others.get(unit.data_hash, [])]
    )
    return [row for row in listed if _matches(row, wanted)]


def _other_branches(store: Store, project: Project, than: str) -> dict[str, list[str]]:
    branches: dict[str, list[str]] = {}
    for row in rows_of(store, project):
        if row.branch != than:
            branches.setdefault(row.data_hash, []).append(row.branch)
    return branches


def _metadata(store: Store, project: Project, unit: DataUnit, branch: str) -> Json:
    row = find_row(store, project, unit.data_hash, branch)
    item = store.get(Item, unit.item_uuid)
    task = store.task(project.project_hash, unit.data_hash)
    stage = project.stage(task.stage_uuid)
    return {
        "label_hash": row and row.label_hash,
        "created_at": row and row.created_at,
        "last_edited_at": row and row.last_edited_at,
        "branch_name": branch,
        "data_hash": unit.data_hash,
        "dataset_hash": unit.dataset_hash,
        "dataset_title": store.get(Dataset, unit.dataset_hash).title,
        "data_title": unit.title,
        "data_type": item.data_type.upper(),
        "data_link": None,
        "label_status": "LABEL_IN_PROGRESS" if row else "NOT_LABELLED",
        "annotation_task_status": _task_status(task, stage),
        "workflow_graph_node": {"uuid": stage["uuid"], "title": stage["title"]},
        "is_shadow_data": False,
        "number_of_frames": item.frame_count,
        "frames_per_second": item.fps if item.data_type == "video" else None,
        "duration": item.duration_s if item.data_type == "video" else None,
        "height": item.height,
        "width": item.width,
        "task_uuid": task.uuid,
        "priority": None if stage["stageType"] == "DONE" else task.priority,
        "file_type": item.mime_type,
        "is_valid": True,
        "backing_item_uuid": item.uuid,
        "assigned_user_email": task.assignee,
        "last_actioned_by_user_email": task.last_actioned_by,
        "spaces": {},
    }


def _images_data(store: Store, unit: DataUnit, wanted: Json) -> Json:
    """The frames of an image group, where the listing is asked for them."""
    if not wanted.get("include_images_data") or store.get(Item, unit.item_uuid).data_type != "img_group":
        return {}
    frames = [
        {
            "index": index,
            "title": item.name,
            "file_type": item.mime_type,
            "height": item.height,
            "width": item.width,
            "image_hash": frame_hash,
        }
        for index, (frame_hash, item) in enumerate(store.frames(unit))
    ]
    return {"images_data": frames}


def _task_status(task: Task, stage: Json) -> str:
    if stage["stageType"] == "DONE":
        return "COMPLETED"
    if stage["stageType"] == "REVIEW":
        return "IN_REVIEW"
    if task.status == "REOPENED":
        return "RETURNED"
    return "ASSIGNED" if task.assignee else "QUEUED"


def _matches(row: Json, wanted: Json) -> bool:
    node = row["workflow_graph_node"]["title"]
    return (
        (row["label_hash"] is not None or bool(wanted.get("include_uninitialised_labels")))
        and _is_in(row["label_hash"], wanted.get("label_hashes"))
        and _is_in(row["annotation_task_status"], wanted.get("label_statuses"))
        and _equals(row["data_title"], wanted.get("data_title_eq"))
        and is_like(row["data_title"], wanted.get("data_title_like"))
        and _equals(node, wanted.get("workflow_graph_node_title_eq"))
        and is_like(node, wanted.get("workflow_graph_node_title_like"))
        and _edited_within(row, wanted.get("edited_after"), wanted.get("edited_before"))
    )


def _is_in(value: str | None, allowed: list[str] | None) -> bool:
    return allowed is None or value in allowed


def _equals(value: str, wanted: str | None) -> bool:
    return wanted is None or value == wanted


def is_like(value: str, pattern: str | None) -> bool:
    """SQL LIKE; case-sensitive, which is a guess."""
    if pattern is None:
        return True
    regex = re.escape(pattern).replace("%", ".*").replace("_", ".")
    return re.fullmatch(regex, value, re.DOTALL) is not None


def _edited_within(row: Json, after: str | None, before: str | None) -> bool:
    if after is None and before is None:
        return True
    if row["last_edited_at"] is None:
        return False
    edited = parse_moment(row["last_edited_at"])
    return (after is None or edited > parse_moment(after)) and (before is None or edited < parse_moment(before))


# --------------------------------------------------------------------------------------- tasks


def list_tasks(call: Call) -> Json:
    project = call.project()
    stage = project.stage(call.ids["stage"])
    waiting = [
        task for task in call.store.table(Task).values() if task.stage_uuid == stage["uuid"] and _wanted(call, task)
    ]
    waiting.sort(key=_place)
    if token := call.query.get("pageToken"):
        after = _place_of_token(token[0])
        waiting = [task for task in waiting if _place(task) > after]
    page = waiting[:PAGE_SIZE]
    more = len(waiting) > PAGE_SIZE
    return {
        "results": [_encoded(call.store, task, stage["stageType"]) for task in page],
        "nextPageToken": _token(page[-1]) if more else None,
    }


def _place(task: Task) -> tuple[float, int]:
    return (-task.priority, task.ordinal)


def _token(task: Task) -> str:
    return f"{task.priority!r}~{task.ordinal}"


def _place_of_token(token: str) -> tuple[float, int]:
    try:
        priority, ordinal = token.split("~")
        return (-float(priority), int(ordinal))
    except ValueError as error:
        raise RefusedError(400, "INVALID_ARGUMENTS_ERROR", "this is no page token") from error


def _wanted(call: Call, task: Task) -> bool:
    query, unit = call.query, call.store.get(DataUnit, task.data_hash)
    title = query.get("dataTitleContains", [""])[0]
    return (
        task.assignee in query.get("userEmails", [task.assignee])
        and task.data_hash in query.get("dataHashes", [task.data_hash])
        and unit.dataset_hash in query.get("datasetHashes", [unit.dataset_hash])
        and title in unit.title
        and task.status in query.get("statuses", [task.status])
    )


def _encoded(store: Store, task: Task, stage_type: str) -> Json:
    encoded: Json = {
        "uuid": task.uuid,
        "createdAt": task.created_at,
        "updatedAt": task.updated_at,
        "dataHash": task.data_hash,
        "dataTitle": store.get(DataUnit, task.data_hash).title,
    }
    if stage_type == "DONE":
        return encoded
    encoded |= {"status": task.status, "assignee": task.assignee}
    if stage_type == "REVIEW":
        return encoded
    return encoded | {"labelBranchName": "main", "lastActionedBy": task.last_actioned_by}


# ------------------------------------------------------------------------------------- actions


def act(call: Call) -> None:
    """Actions on tasks of one stage: all of them, or none."""
    project = call.project()
    stage = project.stage(call.ids["stage"])
    acted: dict[str, Task] = {}
    for action in call.payload:
        task = acted.get(action["taskUuid"]) or call.store.get(Task, action["taskUuid"])
        task = replace(task, updated_at=call.store.now(), last_actioned_by=call.user)
        acted[task.uuid] = acted_on(project, stage, task, action)
    moved = {action["action"] for action in call.payload} - {"ASSIGN", "RELEASE"}
    call.store.commit("task_moved" if moved else "task_assigned", call.user, *acted.values())


def acted_on(project: Project, stage: Json, task: Task, action: Json) -> Task:
    """The task after one action taken at `stage`, or a refusal."""
    _require_at(task, stage)
    name = action["action"]
    if name not in ACTIONS[stage["stageType"]]:
        raise _invalid(f"{name} is not an action of stage {stage['title']}")
    if name == "ASSIGN":
        return replace(task, assignee=action["assignee"], status="ASSIGNED")
    if name == "RELEASE":
        return replace(task, assignee=None, status="RELEASED")
    kept = task.assignee if action.get("retainAssignee") else None
    assignee = action.get("assignee") or kept
    status = "REOPENED" if name == "REJECT" else "ASSIGNED" if assignee else "NEW"
    destination = _destination(project, stage, action)
    return replace(task, stage_uuid=destination, status=status, assignee=assignee)


def _destination(project: Project, stage: Json, action: Json) -> str:
    place = project.stages.index(stage)
    if action["action"] == "PATHWAY_ACTION":
        return str(_pathway(stage, action)["destinationUuid"])
    if action["action"] == "REJECT":
        before = [s for s in project.stages[:place] if s["stageType"] == "ANNOTATION"]
        return str(before[-1]["uuid"])
    return str(project.stages[place + 1]["uuid"])


def _pathway(stage: Json, action: Json) -> Any:
    for pathway in stage["pathways"]:
        if action.get("pathwayUuid") == pathway["uuid"]:
            return pathway
        if action.get("pathwayName") == pathway["title"]:
            return pathway
    raise _invalid(f"stage {stage['title']} has no such pathway")


def move(call: Call) -> None:
    """Move tasks to any stage. Assignee and priority are kept; that is assumption A12."""
    project = call.project()
    origin = project.stage(call.ids["stage"])
    destination = project.stage(call.payload["destinationStageUuid"])
    tasks = [call.store.get(Task, task_uuid) for task_uuid in call.payload["taskUuids"]]
    for task in tasks:
        _require_at(task, origin)
    now = call.store.now()
    moved = [
        replace(task, stage_uuid=destination["uuid"], updated_at=now, last_actioned_by=call.user) for task in tasks
    ]
    call.store.commit("task_moved", call.user, *moved)


def set_priorities(call: Call) -> None:
    """Keyed by data hash, whatever the SDK's docstring says of task hashes."""
    project = call.project()
    tasks = [
        replace(call.store.task(project.project_hash, data_hash), priority=priority)
        for data_hash, priority in call.payload["priorities"]
    ]
    if not all(0 <= task.priority <= 1 for task in tasks):
        raise _invalid("priorities lie between 0 and 1")
    call.store.commit("priority_set", call.user, *tasks)


def _require_at(task: Task, stage: Json) -> None:
    if task.stage_uuid != stage["uuid"]:
        raise _invalid(f"task {task.uuid} is not at stage {stage['title']}")


def _invalid(message: str) -> RefusedError:
    return RefusedError(400, "INVALID_ARGUMENTS_ERROR", message)


LEGACY: LegacyRoutes = {("labelrowmetadata", "GET"): list_rows}
V2: V2Routes = [
    ("POST", "/projects/{project}/priorities", set_priorities),
    ("GET", "/projects/{project}/workflow/stages/{stage}/tasks", list_tasks),
    ("POST", "/projects/{project}/workflow/stages/{stage}/actions", act),
    ("POST", "/projects/{project}/workflow/stages/{stage}/move-tasks", move),
]

"""How long people worked on tasks: the timers of the editor, and the route that tells them.

Not known of the real server, and decided here: a day is one of UTC and is told whole if any of it lies in the window;
work that goes over midnight counts to the days on which it was done; people have the role that their stage asks for.
"""

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta

from autolabel.sandbox.labels import parse_moment
from autolabel.sandbox.store import (
    Call,
    Dataset,
    DataUnit,
    Json,
    Project,
    RefusedError,
    Store,
    Task,
    TimeSpent,
    V2Routes,
)

PAGE_SIZE = 100
DAY = timedelta(days=1)
ANNOTATOR, REVIEWER = 1, 2


def spent(store: Store, task: Task, email: str, seconds: int) -> list[TimeSpent]:
    """The timers of a person who worked on a task for these whole seconds until now, where it sits now."""
    booked = []
    for day, part_s in _by_day(parse_moment(store.now()), seconds):
        empty = TimeSpent(task.uuid, task.stage_uuid, email, day)
        before = store.table(TimeSpent).get(empty.key, empty)
        booked.append(replace(before, seconds=before.seconds + part_s))
    return booked


def _by_day(until: datetime, seconds: int) -> Iterator[tuple[str, int]]:
    """The last day first."""
    while seconds > 0:
        today_s = until.hour * 3600 + until.minute * 60 + until.second + 1
        part_s = min(seconds, today_s)
        yield until.date().isoformat(), part_s
        seconds -= part_s
        until = until.replace(hour=23, minute=59, second=59) - DAY


def list_time_spent(call: Call) -> Json:
    """A page of the timers of a project; the token tells how many of them the pages before went through."""
    project = call.store.get(Project, call.query["projectUuid"][0])
    tasks = {task.uuid: task for task in call.store.table(Task).values() if task.project_hash == project.key}
    timers = [timer for timer in call.store.table(TimeSpent).values() if timer.task_uuid in tasks]
    told = [_encoded(call.store, project, tasks[timer.task_uuid], timer) for timer in timers]
    wanted = [entry for entry in told if _is_wanted(call, entry)]
    first = _place(call)
    last = first + PAGE_SIZE
    return {"results": wanted[first:last], "nextPageToken": str(last) if last < len(wanted) else None}


def _place(call: Call) -> int:
    (token,) = call.query.get("pageToken", ["0"])
    if not token.isdecimal():
        raise RefusedError(400, "INVALID_ARGUMENTS_ERROR", "this is no page token")
    return int(token)


def _encoded(store: Store, project: Project, task: Task, timer: TimeSpent) -> Json:
    stage = project.stage(timer.stage_uuid)
    unit = store.get(DataUnit, task.data_hash)
    day = datetime.fromisoformat(timer.day).replace(tzinfo=UTC)
    return {
        "periodStartTime": day.isoformat(),
        "periodEndTime": (day + DAY).isoformat(),
        "timeSpentSeconds": timer.seconds,
        "userEmail": timer.email,
        "projectUserRole": REVIEWER if stage["stageType"] == "REVIEW" else ANNOTATOR,
        "dataUuid": unit.data_hash,
        "dataTitle": unit.title,
        "datasetUuid": unit.dataset_hash,
        "datasetTitle": store.get(Dataset, unit.dataset_hash).title,
        "workflowTaskUuid": task.uuid,
        "workflowStage": {key: stage[key] for key in ("stageType", "uuid", "title")},
    }


def _is_wanted(call: Call, entry: Json) -> bool:
    query = call.query
    return (
        parse_moment(entry["periodEndTime"]) > parse_moment(query["after"][0])
        and ("before" not in query or parse_moment(entry["periodStartTime"]) < parse_moment(query["before"][0]))
        and entry["workflowStage"]["uuid"] in query.get("workflowStageUuids", [entry["workflowStage"]["uuid"]])
        and entry["userEmail"] in query.get("userEmails", [entry["userEmail"]])
        and entry["datasetUuid"] in query.get("datasetUuids", [entry["datasetUuid"]])
        and entry["dataUuid"] in query.get("dataUuids", [entry["dataUuid"]])
        and query.get("dataTitle", [""])[0] in entry["dataTitle"]
    )


V2: V2Routes = [("GET", "/analytics/time-spent", list_time_spent)]

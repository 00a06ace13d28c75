"""What may never happen, checked afterwards: the platform's log and the ledgers in, a list of violations out.

One function an invariant (I1 to I10 of the reliability rules; I7 is about webhooks). Nothing here is shared with
what is checked: the steps that a row may take and the names of objects are written down a second time.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from functools import lru_cache
from itertools import pairwise
from pathlib import Path

import psutil

from evidence import Book, Change, Json, Platform, drawn_in, hashes, parts, read_ledger, read_log

MAIN = "main"
STEPS: Mapping[str, set[str]] = {
    "": {"found"},
    "found": {"leased", "left_alone"},
    "leased": {"found", "inferred", "left_alone", "set_aside"},
    "inferred": {"intent", "done", "left_alone", "set_aside"},
    "intent": {"intent", "written", "left_alone", "set_aside"},
    "written": {"intent", "done", "left_alone", "set_aside"},
    "done": {"left_alone"},
    "left_alone": {"found"},
    "set_aside": {"found"},
}
ENDS = {"done", "left_alone", "set_aside"}
GEOMETRY = ("boundingBox", "rotatableBoundingBox", "polygons", "polygon", "rleString", "bitmask")
MOST_SLOTS = 2000
SIGNED_URL = rb"token=[0-9a-f]{64}"


def human_work_lost(platform: Platform) -> list[str]:
    """I1: what people made or changed stays until people remove it, and what they removed does not come back."""
    found: list[str] = []
    theirs: dict[str, dict[tuple[str, ...], Json]] = defaultdict(dict)
    removed: dict[str, set[str]] = defaultdict(set)
    for change in platform.rows:
        before, after = parts(change.before), parts(change.after)
        held, gone = theirs[change.after["label_hash"]], removed[change.after["data_hash"]]
        if change.by_machine:
            found += [f"I1: {key} of people changed: {change.where}" for key in held if after.get(key) != held[key]]
            back = {key[-1] for key in after.keys() - before.keys()} & gone
            found += [f"I1: {name}, removed by people, came back: {change.where}" for name in sorted(back)]
        else:
            held.update({key: value for key, value in after.items() if before.get(key) != value})
            gone.update({key[-1] for key in before} - {key[-1] for key in after})
        for key in held.keys() - after.keys():
            del held[key]
    return found + [f"I1: task that is not ours was moved: {c.where}" for c in platform.tasks if _takes(platform, c)]


def _takes(platform: Platform, change: Change) -> bool:
    """Whether the product touched a task that is somebody's: only an Agent stage's, or one that waits for anybody."""
    task = change.before
    if not change.by_machine or task is None:
        return False
    kind = platform.stages.get(task["stage_uuid"])
    is_free = kind == "AGENT" or (kind == "ANNOTATION" and task["assignee"] is None and task["status"] == "NEW")
    if is_free:
        return any(task[name] != change.after[name] for name in ("assignee", "priority"))
    return not _is_given_back(platform, change)


def _is_given_back(platform: Platform, taken: Change) -> bool:
    """Whether the next that became of a task was that the product put it back as it was, but for when that was and
    by whom: somebody took it between a look and the move that followed."""
    changes = [change for change in platform.tasks if change.after["uuid"] == taken.after["uuid"]]
    after = changes[changes.index(taken) + 1 :]
    return bool(after) and after[0].by_machine and _place(after[0].after) == _place(taken.before or {})


def _place(task: Json) -> Json:
    return {name: value for name, value in task.items() if name not in ("updated_at", "last_actioned_by")}


def wrong_objects(platform: Platform, books: Sequence[Book]) -> list[str]:
    """I2: each object once, under a name that its recipe gives it; one recipe a row."""
    recipes = sorted({run["recipe_id"] for book in books for run in book.runs})
    found: list[str] = []
    machine_made: dict[str, set[str]] = defaultdict(set)
    by_people: dict[str, set[str]] = defaultdict(set)
    for change in platform.rows:
        drawn = list(drawn_in(change.after))
        ours = machine_made[change.after["label_hash"]]
        added, theirs = hashes(change.after) - hashes(change.before), by_people[change.after["data_hash"]]
        if not change.by_machine:
            theirs |= added
            continue
        ours |= added - theirs  # a copy of a branch takes along what people drew there
        mine = [(unit, frame, one) for unit, frame, one in drawn if one["objectHash"] in ours]
        names = Counter((unit, frame, one["objectHash"]) for unit, frame, one in mine)
        found += [f"I2: {key[2]} stands {times} times: {change.where}" for key, times in names.items() if times > 1]
        looks = Counter((unit, frame, one["featureHash"], _looks(one)) for unit, frame, one in mine)
        found += [
            f"I2: {count} objects of one class in one place: {change.where}" for count in looks.values() if count > 1
        ]
        owners = {_recipe_of(recipes, change.after["data_hash"], one) for _, _, one in mine} if recipes else set()
        if None in owners:
            found.append(f"I2: an object bears a name that no recipe gives: {change.where}")
        elif len(owners) > 1:
            found.append(f"I2: objects of {len(owners)} recipes: {change.where}")
    return found


def _looks(drawn: Json) -> str:
    return json.dumps([drawn.get(name) for name in GEOMETRY], sort_keys=True)


def _recipe_of(recipes: Sequence[str], data_hash: str, drawn: Json) -> str | None:
    for slots in (50, MOST_SLOTS):
        for recipe in recipes:
            if drawn["objectHash"] in _names(recipe, data_hash, drawn["featureHash"], slots):
                return recipe
    return None


@lru_cache(maxsize=4096)
def _names(recipe: str, data_hash: str, feature: str, slots: int) -> frozenset[str]:
    keys = ("\0".join([recipe, data_hash, feature, str(slot), "0"]) for slot in range(slots))
    return frozenset(base64.b64encode(hashlib.sha256(key.encode()).digest()[:6]).decode() for key in keys)


def broken_receipts(platform: Platform, books: Sequence[Book]) -> list[str]:
    """I3: what a receipt names stood there when it was given, and stands until people remove it; done needs one."""
    found: list[str] = []
    for book in books:
        undone = {_key(row) for row in book.rows if row["reason"] == "undone"}
        for receipt in book.receipts:
            changes = platform.of_row(receipt["data_hash"], receipt["branch"])
            if receipt["project_hash"] in {c.after["project_hash"] for c in changes} or _is_known(platform, receipt):
                given_s = receipt["at"] if book.tells_time else float("inf")
                found += _broken(receipt, changes, given_s, is_undone=_key(receipt) in undone)
        kept = {_key(receipt) for receipt in book.receipts}
        for steps in _steps(book).values():
            for earlier, later in pairwise(steps):
                if (earlier["state"], later["state"]) == ("written", "done") and _key(later) not in kept:
                    found.append(f"I3: {later['data_hash']} is done without a receipt")
    return found


def _is_known(platform: Platform, receipt: Json) -> bool:
    return any(change.after["project_hash"] == receipt["project_hash"] for change in platform.rows)


def _broken(receipt: Json, changes: Sequence[Change], given_s: float, *, is_undone: bool) -> Iterator[str]:
    about = f"of {receipt['data_hash']} on {receipt['branch']}"
    ever = {name for change in changes if change.at_s <= given_s for name in hashes(change.after)}
    yield from (
        f"I3: a receipt names {name} {about}, which never stood there" for name in receipt["objects"].keys() - ever
    )
    if is_undone:
        return
    for change in changes:
        if change.by_machine:
            lost = (hashes(change.before) - hashes(change.after)) & receipt["objects"].keys()
            yield from (f"I3: {name} {about} has a receipt and was removed again" for name in lost)


def _key(row: Json) -> tuple[str, str, str]:
    return row["project_hash"], row["recipe_id"], row["data_hash"]


def _steps(book: Book) -> dict[tuple[str, ...], list[Json]]:
    """The events of each row of each job, in order."""
    steps: dict[tuple[str, ...], list[Json]] = defaultdict(list)
    for event in book.events:
        steps[*_key(event), event["destination"]].append(event)
    return steps


def miscounted(books: Sequence[Book], *, settled: bool = False) -> list[str]:
    """I4: the rows of a run add up, each row stands where its events say; `settled`: none is left under way."""
    found: list[str] = []
    for book in books:
        for run in book.runs:
            summary = json.loads(run["summary"] or "{}")
            if "total" in summary:
                found += [f"I4: run {run['id']} counts {_counted(summary)} of {summary['total']} rows"] * (
                    _counted(summary) != summary["total"]
                )
        steps = _steps(book)
        for row in book.rows:
            last = steps.get((*_key(row), row["destination"]), [{"state": ""}])[-1]["state"]
            found += [f"I4: {row['data_hash']} is {row['state']}, its last event says {last}"] * (
                last != row["state"]
            )
            if settled and row["state"] not in ENDS:
                found.append(f"I4: {row['data_hash']} is left in {row['state']}")
    return found


def _counted(summary: Json) -> int:
    whole = sum(summary[name] for name in ("labelled", "empty", "done_before", "pending"))
    return int(whole + sum(sum(summary.get(name, {}).values()) for name in ("left_alone", "set_aside", "elsewhere")))


def forbidden_steps(books: Sequence[Book]) -> list[str]:
    """I5: rows go the ways of the table only, and no count of attempts is below none in the end.

    Whether a count ever fell cannot be seen: the ledger keeps the last one only. T8 holds it against a model.
    """
    found: list[str] = []
    for book in books:
        for steps in _steps(book).values():
            states = ["", *(step["state"] for step in steps)]
            for earlier, later in pairwise(states):
                if later not in STEPS[earlier]:
                    found.append(f"I5: {steps[0]['data_hash']} went from {earlier or 'nothing'} to {later}")
        found += [
            f"I5: {row['data_hash']} has {row['attempts']} attempts" for row in book.rows if row["attempts"] < 0
        ]
    return found


def unannounced_writes(platform: Platform, books: Sequence[Book]) -> list[str]:
    """I6: no write without its intent; on main directly only at an Agent stage; no task moved early.

    "Had lost the row" is judged by its last state alone: a request does not tell its run. A run that writes while
    another has announced the row too passes here; what that does to labels is for I1, I2 and I8 to see.
    """
    began_s = min((book.began_s for book in books), default=float("inf"))
    tell_time = all(book.tells_time for book in books)
    found: list[str] = []
    for change in platform.rows:
        if not change.by_machine or change.at_s < began_s:
            continue
        adds = parts(change.after).keys() - parts(change.before).keys()
        direct = change.after["branch"] == MAIN and change.event != "labels_copied"
        states = _states_before(books, change)
        if (adds or change.before is None) and "intent" not in states:
            found.append(f"I6: written without an intent: {change.where}")
        elif adds and direct and tell_time and states[-1] != "intent":
            found.append(f"I6: written by a run that had lost the row ({states[-1]}): {change.where}")
        if direct and _stage_at(platform, change) != "AGENT":
            found.append(f"I6: main was written although its task is not at an Agent stage: {change.where}")
        if change.event == "labels_copied" and change.after["branch"] == MAIN and change.before is not None:
            found.append(f"I6: a copy replaced what stood there: {change.where}")
    early = [change for change in platform.tasks if tell_time and _early(platform, books, change)]
    return found + [f"I6: moved on before its receipt was kept: {change.where}" for change in early]


def _states_before(books: Sequence[Book], change: Change) -> list[str]:
    """What the ledgers say of its row up to then; one with a clock of its own, whenever."""
    timed = all(book.tells_time for book in books)
    return [event["state"] for event in _about(books, change) if not timed or event["at"] <= change.at_s]


def _about(books: Sequence[Book], change: Change) -> list[Json]:
    wanted = (change.after["project_hash"], change.after["data_hash"])
    return [e for book in books for e in book.events if (e["project_hash"], e["data_hash"]) == wanted]


def _stage_at(platform: Platform, change: Change) -> str:
    wanted = (change.after["project_hash"], change.after["data_hash"])
    tasks = [
        c.after
        for c in platform.tasks
        if (c.after["project_hash"], c.after["data_hash"]) == wanted and c.at_s <= change.at_s
    ]
    return platform.stages.get(tasks[-1]["stage_uuid"], "") if tasks else ""


def _early(platform: Platform, books: Sequence[Book], change: Change) -> bool:
    """A task left its Agent stage while its row was announced only, and the row was written all the same."""
    before = _states_before(books, change)
    if not change.by_machine or change.before is None or before[-1:] != ["intent"]:
        return False
    if platform.stages.get(change.before["stage_uuid"]) != "AGENT":
        return False  # it was taken in
    later = [event["state"] for event in _about(books, change) if event["at"] > change.at_s]
    return next((state for state in later if state in ENDS | {"written"}), "") in ("written", "done")


def needless_writes(platform: Platform, books: Sequence[Book]) -> list[str]:
    """I8: a row is saved once by each run that announced it, and again only after an answer that came too late."""
    found: list[str] = []
    saves: dict[str, list[Change]] = defaultdict(list)
    for change in platform.rows:
        if change.by_machine and change.event == "label_row_saved" and hashes(change.after):
            saves[change.after["label_hash"]].append(change)
    for changes in saves.values():
        runs = {e["run_id"] for e in _about(books, changes[0]) if e["state"] == "intent"}
        allowed = len(runs) + sum(change.is_slow for change in changes)
        if runs and len(changes) > allowed:
            found.append(f"I8: saved {len(changes)} times by {len(runs)} runs: {changes[0].where}")
    return found


def leaks(folder: Path, canaries: Iterable[bytes] = (), apart: Collection[Path] = ()) -> list[str]:
    """I9: no secret, and no signed URL, in any byte of any file; folders in `apart` are somebody else's."""
    patterns = [re.compile(SIGNED_URL), *(re.compile(re.escape(canary)) for canary in canaries)]
    files = [path for path in folder.rglob("*") if path.is_file() and not {*path.parents} & {*apart}]
    return [
        f"I9: {path.relative_to(folder)} holds a secret: {pattern.pattern[:12]!r}..."
        for path in files
        for pattern in patterns
        if pattern.search(path.read_bytes())
    ]


def left_behind(before: Mapping[str, int], after: Mapping[str, int], margin: Mapping[str, int]) -> list[str]:
    """I10: counts of what a process holds (files, children, bytes) are back where they began, within a margin."""
    return [
        f"I10: {name} went from {before[name]} to {count}"
        for name, count in after.items()
        if count > before[name] + margin.get(name, 0)
    ]


def left_over(home: Path) -> list[str]:
    """I10, where all runs of a home have ended: no file of theirs in the spool, no process with a file open there.

    A kill between two calls may leave a lock there, an empty file; one that is held, the second part sees.
    """
    left = [path for path in (home / "spool").glob("*") if path.suffix != ".lock"]
    found = [f"I10: {path.relative_to(home)} is left" for path in left]
    for process in psutil.process_iter():
        with suppress(psutil.Error):  # it ended meanwhile, or is not ours to look into
            if any(Path(file.path).is_relative_to(home) for file in process.open_files()):
                found.append(f"I10: process {process.pid} lives on")
    return found


def check(platform: Platform, books: Sequence[Book], *, settled: bool = False) -> list[str]:
    """All that the log and the ledgers together can show."""
    return [
        *human_work_lost(platform),
        *wrong_objects(platform, books),
        *broken_receipts(platform, books),
        *miscounted(books, settled=settled),
        *forbidden_steps(books),
        *unannounced_writes(platform, books),
        *needless_writes(platform, books),
    ]


def check_folder(folder: Path, put_ahead_s: float = 0.0) -> list[str]:
    """I1 to I9 of all the sandboxes and ledgers in a folder. `put_ahead_s`: see `read_ledger`."""
    logs = sorted(folder.rglob("log.jsonl"))
    ledgers = sorted([*folder.rglob("ledger.sqlite"), *folder.rglob("ledger.url")])
    platform = read_log(entry for log in logs for entry in _entries(log))
    found = check(platform, [read_ledger(path, put_ahead_s) for path in ledgers])
    keys = [key.read_bytes().splitlines()[1] for key in folder.rglob("sandbox_key")]
    for home in (path.parent for path in ledgers):
        found += leaks(home, keys, [log.parent for log in logs])
    return found


def _entries(log: Path) -> Iterator[Json]:
    with suppress(json.JSONDecodeError):  # the last line, where the sandbox was killed
        for line in log.read_text().splitlines():
            yield json.loads(line)

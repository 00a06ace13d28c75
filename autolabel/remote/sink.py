"""Writes to the platform so that nobody's work can be overwritten, reads back what it served, moves tasks on.

Labels are saved to a branch of our own and copied to `main` only where `main` has no row: the one create-if-absent
that the platform offers. A save on `main` itself would be a blind overwrite of the whole row.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from uuid import UUID

from encord.objects import LabelRowV2
from encord.project import Project
from encord.workflow.stages.agent import AgentStage

from autolabel.core.rows import LabelRow, Reason
from autolabel.engine import in_batches
from autolabel.errors import (
    PermanentInferenceError,
    PermanentNotFoundError,
    PermanentRejectedError,
    PermanentTooLargeError,
    TransientServiceError,
)
from autolabel.protocols import Left, Outcome, Receipt, Refused, Write
from autolabel.remote import shapes
from autolabel.remote.client import Connection, remote_call, retrying
from autolabel.remote.shapes import Content, ContentTooLargeError
from autolabel.remote.source import skipped_tasks

MAIN = "main"


class EncordSink:
    """`protocols.Sink` over the SDK, for one project and one recipe's branch."""

    def __init__(self, connection: Connection, branch: str, max_row_bytes: int) -> None:
        if branch == MAIN:
            raise AssertionError("opening a row creates it; on main that would mark a person's task as begun")
        self._connection = connection
        self._branch = branch
        self._max_row_bytes = max_row_bytes

    def save_to_branch(self, writes: Sequence[Write]) -> Mapping[str, Outcome]:
        by_hash = {write.row.data_hash: write for write in writes}
        sent = {key for key, write in by_hash.items() if write.announced}
        return _isolated(lambda keys: self._save([by_hash[key] for key in keys], sent), list(by_hash))

    def copy_to_main(self, rows: Sequence[LabelRow]) -> Mapping[str, Outcome]:
        by_hash = {row.data_hash: row for row in rows}
        return _isolated(lambda keys: self._copy([by_hash[key] for key in keys]), list(by_hash))

    @retrying
    def _save(self, writes: Sequence[Write], sent: set[str]) -> dict[str, Outcome]:
        """Read, save what is still free, read again. Repeating all of it after a lost answer is safe.

        `sent`: rows that a save of just this content may have reached already; those of this call are added.
        """
        wanted: dict[str, Content] = {}
        outcomes: dict[str, Outcome] = {}
        for write in writes:
            try:
                wanted[write.row.data_hash] = shapes.to_platform(write.instances, self._max_row_bytes)
            except PermanentInferenceError as error:
                outcomes[write.row.data_hash] = Refused(Reason.INVALID_OUTPUT, str(error))
            except ContentTooLargeError as error:
                outcomes[write.row.data_hash] = self._too_large(write, error.size_bytes)
        rows = self._open(list(wanted))
        outcomes |= {key: Left(Reason.GONE) for key in wanted if key not in rows}
        to_save, expected = [], {}
        for write in writes:
            if (row := rows.get(key := write.row.data_hash)) is None:
                continue
            stands = shapes.from_platform(row)
            unconfirmed = key in sent and not write.on_branch and not stands.has_human_work
            expected[key] = wanted[key] if unconfirmed else stands
            if stands == Content(()) and write.on_branch:
                outcomes[key] = Left(Reason.HAS_ROW_EMPTY)
            elif stands == Content(()):
                shapes.fill(row, wanted[key], self._connection.project.ontology_structure)
                to_save.append(row)
                sent.add(key)
                expected[key] = wanted[key]
        self._save_bundle(to_save)
        rest = {key: content for key, content in expected.items() if key not in outcomes}
        return outcomes | self._receipts(self._branch, rest)

    def _too_large(self, write: Write, size_bytes: int) -> Refused:
        limit = self._max_row_bytes
        message = f"its labels would come to about {size_bytes} bytes, the limit is {limit} (AUTOLABEL_MAX_ROW_BYTES)"
        if write.samples_per_second is not None:
            fits = write.samples_per_second * limit / size_bytes
            message += f"; with video_fps: {fits * 0.95:.2g} in the recipe they fit"
        return Refused(Reason.TOO_LARGE, message)

    def _save_bundle(self, rows: Sequence[LabelRowV2]) -> None:
        if not rows:
            return
        doing = f"saving {len(rows)} rows on branch {self._branch}"
        with remote_call(doing), self._connection.writing.create_bundle() as bundle:
            for row in rows:
                row.save(bundle=bundle)

    @retrying
    def _copy(self, rows: Sequence[LabelRow]) -> dict[str, Outcome]:
        """Look at `main` once more, copy where it is still free, then read both sides and compare."""
        listed = {row.data_hash: row for row in self._list(MAIN, [row.data_hash for row in rows])}
        skipped = skipped_tasks(self._connection.project)
        taken = {row.data_hash: _taken(row, listed.get(row.data_hash), skipped) for row in rows}
        outcomes: dict[str, Outcome] = {key: Left(reason) for key, reason in taken.items() if reason is not None}
        free = [key for key, reason in taken.items() if reason is None]
        on_branch = {row.data_hash: row for row in self._read(self._branch, free)}
        lost = Refused(Reason.READ_BACK, f"its row on branch {self._branch} is gone")
        outcomes |= {key: lost for key in free if key not in on_branch}
        expected = {key: shapes.from_platform(row) for key, row in on_branch.items()}
        emptied = {key for key, content in expected.items() if content == Content(())}
        outcomes |= {key: Left(Reason.HAS_ROW_EMPTY) for key in emptied}
        expected = {key: content for key, content in expected.items() if key not in emptied}
        to_copy = [str(on_branch[key].label_hash) for key in expected if listed[key].label_hash is None]
        if to_copy:
            with remote_call(f"copying {len(to_copy)} rows from branch {self._branch} to main"):
                self._connection.writing.copy_labels_to_branch(
                    MAIN, source_branch=self._branch, overwrite=False, label_hashes=to_copy
                )
        return outcomes | self._receipts(MAIN, expected)

    def _receipts(self, branch: str, expected: Mapping[str, Content]) -> dict[str, Outcome]:
        """Read rows as served and hold them against what is to stand there."""
        served = {row.data_hash: row for row in self._read(branch, list(expected))}
        return {key: _judge(branch, items, served.get(key)) for key, items in expected.items()}

    def _list(self, branch: str, data_hashes: Sequence[str], project: Project | None = None) -> list[LabelRowV2]:
        """Rows as the reading project lists them, or `project`."""
        if not data_hashes:
            return []
        with remote_call(f"listing {len(data_hashes)} rows of branch {branch}"):
            lister = project or self._connection.project
            return lister.list_label_rows_v2(data_hashes=list(data_hashes), branch_name=branch)

    def _read(self, branch: str, data_hashes: Sequence[str]) -> list[LabelRowV2]:
        """Rows of a branch that exist there, with their labels. Creates none."""
        rows = [row for row in self._list(branch, data_hashes) if row.label_hash is not None]
        _initialise(self._connection.project, rows, branch)
        return rows

    def _open(self, data_hashes: Sequence[str]) -> dict[str, LabelRowV2]:
        """Rows of our own branch with their labels, created where missing, to be written to."""
        writing = self._connection.writing
        rows = self._list(self._branch, data_hashes, writing)
        _initialise(writing, rows, self._branch)
        return {row.data_hash: row for row in rows}

    def proceed(self, rows: Sequence[LabelRow], stage_uuid: str, pathway_uuid: str) -> frozenset[str]:
        """One stale task makes the platform refuse the whole array, so a refused array is repeated task by task."""
        try:
            return self._proceed(rows, stage_uuid, pathway_uuid)
        except PermanentRejectedError:
            if len(rows) == 1:
                return frozenset()
            return frozenset[str]().union(*(self.proceed([row], stage_uuid, pathway_uuid) for row in rows))

    @retrying
    def _proceed(self, rows: Sequence[LabelRow], stage_uuid: str, pathway_uuid: str) -> frozenset[str]:
        """Only tasks that are still there are moved, so that a repeat after a lost answer finds nothing to do."""
        stage = self._connection.writing.workflow.get_stage(uuid=UUID(stage_uuid), type_=AgentStage)
        doing = f"moving {len(rows)} tasks on from {stage.title}"
        with remote_call(doing):
            tasks = list(stage.get_tasks(data_hash=[row.data_hash for row in rows]))
            with self._connection.writing.create_bundle() as bundle:
                for task in tasks:
                    task.proceed(pathway_uuid=pathway_uuid, bundle=bundle)
        return frozenset(row.data_hash for row in rows)


def _isolated(
    step: Callable[[Sequence[str]], Mapping[str, Outcome]], data_hashes: Sequence[str]
) -> Mapping[str, Outcome]:
    """Do a step for many rows; where the platform refuses, for fewer, so that a bad one never stops the rest."""
    try:
        return step(data_hashes)
    except (PermanentRejectedError, PermanentNotFoundError) as error:
        if len(data_hashes) == 1:
            is_gone = isinstance(error, PermanentNotFoundError)
            return {data_hashes[0]: Left(Reason.GONE) if is_gone else Refused(Reason.REJECTED, str(error))}
        size = (len(data_hashes) + 1) // 2 if isinstance(error, PermanentTooLargeError) else 1
    return {key: outcome for part in in_batches(data_hashes, size) for key, outcome in _isolated(step, part).items()}


def _initialise(project: Project, rows: Sequence[LabelRowV2], branch: str) -> None:
    """One fresh bundle of one branch; the SDK says nothing of a row that the answer leaves out, so look."""
    if not rows:
        return
    doing = f"opening {len(rows)} rows on branch {branch}"
    with remote_call(doing), project.create_bundle() as bundle:
        for row in rows:
            row.initialise_labels(bundle=bundle)
    missing = [row.data_title for row in rows if not row.is_labelling_initialised]
    if missing:
        raise TransientServiceError(f"the platform's answer left out {len(missing)} rows, {missing[0]!r} first")


def _taken(before: LabelRow, now: LabelRowV2 | None, skipped: frozenset[str]) -> Reason | None:
    """Whether a person came between the plan and this moment; an opened row is judged by its content instead."""
    if now is None:
        return Reason.GONE
    if now.label_hash is not None:
        return None
    if now.assigned_user_email is not None:
        return Reason.ASSIGNED
    if now.data_hash in skipped:
        return Reason.SKIPPED_BY_HUMAN
    node = now.workflow_graph_node
    return None if node is not None and str(node.uuid) == before.stage_uuid else Reason.WRONG_STAGE


def _judge(branch: str, expected: Content, row: LabelRowV2 | None) -> Outcome:
    """Hold what is served against what is to stand there; only on `main` may a person have come first."""
    if row is None:
        return Refused(Reason.READ_BACK, f"it is not on branch {branch} although the write was accepted")
    served = shapes.from_platform(row)
    if shapes.same(expected, served):
        ours = {item.object_hash: item.feature_hash for item in served.placed if not item.by_human}
        return Receipt(branch=branch, label_hash=str(row.label_hash), objects=ours, digest=served.digest)
    if branch == MAIN and served == Content(()):
        return Left(Reason.HAS_ROW_EMPTY)
    if branch == MAIN and (served.has_human_work or not served.hashes <= expected.hashes):
        return Left(Reason.HUMAN_CONTENT)
    message = f"branch {branch} serves {len(served.placed)} objects that differ from the {len(expected.placed)} sent"
    return Refused(Reason.READ_BACK, message)

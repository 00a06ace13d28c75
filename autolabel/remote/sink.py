"""Writes to the platform so that nobody's work can be overwritten, reads back what it served, moves tasks on.

Labels are saved to a branch of our own and copied to `main` only where `main` has no row: the one create-if-absent
that the platform offers. A save on `main` itself is a blind overwrite of the whole row: it is made only while the
task sits at the Agent stage, where people do not work, by a run that has the project for itself.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import NamedTuple
from uuid import UUID

from encord.objects import LabelRowV2
from encord.project import Project
from encord.workflow.stages.agent import AgentStage, AgentTask
from encord.workflow.stages.annotation import AnnotationTask

from autolabel.core.rows import MAIN_BRANCH as MAIN
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
from autolabel.remote.source import edited_at_s, skipped_tasks, unclaimed_tasks

EMPTY = Content(())


class _Served(NamedTuple):
    """An opened row; `edited_at_s` is from the listing before that, so that any later change is told by the next."""

    row: LabelRowV2
    edited_at_s: float | None


class EncordSink:
    """`protocols.Sink` over the SDK, for one project and one recipe's branch."""

    def __init__(self, connection: Connection, branch: str, max_row_bytes: int) -> None:
        if branch == MAIN:
            raise AssertionError("our own branch is never the one on which people work")
        self._connection = connection
        self._branch = branch
        self._max_row_bytes = max_row_bytes
        self._read_back: dict[str, _Served] = {}
        """The branch rows of the latest save, as served; each is good for one copy."""

    def save_to_branch(self, writes: Sequence[Write]) -> Mapping[str, Outcome]:
        return self._isolated_save(self._branch, writes, None)

    def save_at_stage(self, writes: Sequence[Write], stage_uuid: str) -> Mapping[str, Outcome]:
        return self._isolated_save(MAIN, writes, stage_uuid)

    def copy_to_main(self, rows: Sequence[LabelRow], *, include_assigned: bool) -> Mapping[str, Outcome]:
        by_hash = {row.data_hash: row for row in rows}
        return _isolated(lambda keys: self._copy([by_hash[key] for key in keys], include_assigned), list(by_hash))

    def _isolated_save(self, branch: str, writes: Sequence[Write], stage_uuid: str | None) -> Mapping[str, Outcome]:
        by_hash = {write.row.data_hash: write for write in writes}
        sent = {key for key, write in by_hash.items() if write.announced}

        def save(keys: Sequence[str]) -> Mapping[str, Outcome]:
            return self._save(branch, [by_hash[key] for key in keys], sent, stage_uuid)

        return _isolated(save, list(by_hash))

    @retrying
    def _save(
        self, branch: str, writes: Sequence[Write], sent: set[str], stage_uuid: str | None
    ) -> dict[str, Outcome]:
        """Read, save what is still free, read again. Repeating all of it after a lost answer is safe.

        - `sent`: rows that a save of just this content may have reached already; those of this call are added.
        - `stage_uuid`: where their tasks must sit; None on our own branch. What may be there already, by an earlier
          write of ours, is read wherever the task is by now.
        """
        wanted, outcomes = self._wanted(writes)
        rows = {row.data_hash: row for row in self._list(branch, list(wanted), self._connection.writing)}
        closed = {key: reason for key in wanted if (reason := _closed(rows.get(key), stage_uuid))}
        may_be_there = sent | {write.row.data_hash for write in writes if write.landed}
        there = {key for key in closed if key in may_be_there and key in rows and rows[key].label_hash is not None}
        outcomes |= {key: Left(reason) for key, reason in closed.items() if key not in there}
        opened = [write for write in writes if write.row.data_hash in wanted.keys() - outcomes.keys()]
        stands = self._open(branch, [rows[write.row.data_hash] for write in opened])
        expected: dict[str, Content] = {}
        to_save: list[LabelRowV2] = []
        for write in opened:
            key = write.row.data_hash
            verdict = _verdict(write, wanted[key], stands[key], is_sent=key in sent, on_main=branch == MAIN)
            if verdict is None and key in closed:
                outcomes[key] = Left(closed[key])
            elif isinstance(verdict, Left):
                outcomes[key] = verdict
            else:
                expected[key] = verdict or wanted[key]
                to_save += [rows[key]] if verdict is None else []
        for row in to_save:
            shapes.fill(row, wanted[row.data_hash], self._connection.project.ontology_structure)
        saved = {row.data_hash for row in to_save}
        sent |= saved
        self._save_bundle(branch, to_save)
        return outcomes | self._receipts(branch, expected, saved)

    def _open(self, branch: str, rows: Sequence[LabelRowV2]) -> dict[str, Content]:
        """Open rows, which creates those that are not there yet, and say what stands in each, by data hash.

        The SDK does not show every answer that is stored, and a save would delete what it does not show. So rows of
        people that seem empty are asked about in another way.
        """
        old = [row for row in rows if row.label_hash is not None]
        _initialise(self._connection.writing, rows, branch)
        stands = {row.data_hash: shapes.from_platform(row) for row in rows}
        empty = [str(row.label_hash) for row in old if branch == MAIN and stands[row.data_hash] == EMPTY]
        with remote_call(f"looking for answers in {len(empty)} rows that seem empty"):
            for entry in self._connection.project.get_label_classifications(list[str | UUID](empty)):
                stands[str(entry.data_uuid)] = Content((), frozenset(entry.classification_answers))
        return stands

    def _wanted(self, writes: Sequence[Write]) -> tuple[dict[str, Content], dict[str, Outcome]]:
        """What is to stand in each row, and the rows for which that cannot be."""
        wanted: dict[str, Content] = {}
        outcomes: dict[str, Outcome] = {}
        for write in writes:
            try:
                wanted[write.row.data_hash] = shapes.to_platform(write.instances, self._max_row_bytes)
            except PermanentInferenceError as error:
                outcomes[write.row.data_hash] = Refused(Reason.INVALID_OUTPUT, str(error))
            except ContentTooLargeError as error:
                outcomes[write.row.data_hash] = self._too_large(write, error.size_bytes)
        return wanted, outcomes

    def _too_large(self, write: Write, size_bytes: int) -> Refused:
        limit = self._max_row_bytes
        message = f"its labels would come to about {size_bytes} bytes, the limit is {limit} (AUTOLABEL_MAX_ROW_BYTES)"
        if write.samples_per_second is not None:
            fits = write.samples_per_second * limit / size_bytes
            message += f"; with video_fps: {fits * 0.95:.2g} in the recipe they fit"
        return Refused(Reason.TOO_LARGE, message)

    def _save_bundle(self, branch: str, rows: Sequence[LabelRowV2]) -> None:
        if not rows:
            return
        doing = f"saving {len(rows)} rows on branch {branch}"
        with remote_call(doing), self._connection.writing.create_bundle() as bundle:
            for row in rows:
                row.save(bundle=bundle)

    @retrying
    def _copy(self, rows: Sequence[LabelRow], include_assigned: bool) -> dict[str, Outcome]:
        """Look at `main` once more, copy where it is still free, then read both sides and compare."""
        listed = {row.data_hash: row for row in self._list(MAIN, [row.data_hash for row in rows])}
        skipped = skipped_tasks(self._connection.project, list(listed))
        taken = {row.data_hash: _taken(row, listed.get(row.data_hash), skipped, include_assigned) for row in rows}
        outcomes: dict[str, Outcome] = {key: Left(reason) for key, reason in taken.items() if reason is not None}
        free = [key for key, reason in taken.items() if reason is None]
        known = {key: self._read_back.pop(key) for key in free if key in self._read_back}
        known |= self._read(self._branch, [key for key in free if key not in known])
        on_branch = {key: served.row for key, served in known.items()}
        lost = Refused(Reason.READ_BACK, f"its row on branch {self._branch} is gone")
        outcomes |= {key: lost for key in free if key not in on_branch}
        expected = {key: shapes.from_platform(row) for key, row in on_branch.items()}
        emptied = {key for key, content in expected.items() if content == EMPTY}
        outcomes |= {key: Left(Reason.HAS_ROW_EMPTY) for key in emptied}
        expected = {key: content for key, content in expected.items() if key not in emptied}
        to_copy = [str(on_branch[key].label_hash) for key in expected if listed[key].label_hash is None]
        if to_copy:
            with remote_call(f"copying {len(to_copy)} rows from branch {self._branch} to main"):
                self._connection.writing.copy_labels_to_branch(
                    MAIN, source_branch=self._branch, overwrite=False, label_hashes=to_copy
                )
        return outcomes | self._receipts(MAIN, expected)

    def _receipts(
        self, branch: str, expected: Mapping[str, Content], unattended: Collection[str] = ()
    ) -> dict[str, Outcome]:
        """Read rows as served and hold them against what is to stand there.

        `unattended`: rows that people cannot have come to since they were written.
        """
        served = self._read(branch, list(expected))
        if branch == self._branch:
            self._read_back = dict(served)
        return {
            key: _judge(branch, items, served.get(key), attended=branch == MAIN and key not in unattended)
            for key, items in expected.items()
        }

    def _list(self, branch: str, data_hashes: Sequence[str], project: Project | None = None) -> list[LabelRowV2]:
        """Rows as the reading project lists them, or `project`."""
        if not data_hashes:
            return []
        with remote_call(f"listing {len(data_hashes)} rows of branch {branch}"):
            lister = project or self._connection.project
            return lister.list_label_rows_v2(data_hashes=list(data_hashes), branch_name=branch)

    def _read(self, branch: str, data_hashes: Sequence[str]) -> dict[str, _Served]:
        """Rows of a branch that exist there, with their labels. Creates none."""
        rows = [_Served(row, edited_at_s(row)) for row in self._list(branch, data_hashes) if row.label_hash]
        _initialise(self._connection.project, [served.row for served in rows], branch)
        return {served.row.data_hash: served for served in rows}

    def pull(self, rows: Sequence[LabelRow], from_stage_uuid: str, to_stage_uuid: str) -> None:
        """One stale task makes the platform refuse the whole array here too; what stays, the next look tells."""
        try:
            self._pull([row.data_hash for row in rows], from_stage_uuid, to_stage_uuid)
        except PermanentRejectedError:
            for row in rows if len(rows) > 1 else ():
                self.pull([row], from_stage_uuid, to_stage_uuid)

    @retrying
    def _pull(self, data_hashes: Sequence[str], from_stage_uuid: str, to_stage_uuid: str) -> None:
        """A task that a person took between the look and the move goes back, still theirs."""
        self._move(unclaimed_tasks(self._connection.writing, from_stage_uuid, list(data_hashes)), to_stage_uuid)
        here = self._agent_tasks(data_hashes, to_stage_uuid)
        self._move([task for task in here if task.assignee is not None], from_stage_uuid)

    def _agent_tasks(self, data_hashes: Sequence[str], stage_uuid: str) -> list[AgentTask]:
        stage = self._connection.writing.workflow.get_stage(uuid=UUID(stage_uuid), type_=AgentStage)
        with remote_call(f"listing tasks at {stage.title}"):
            return list(stage.get_tasks(data_hash=list(data_hashes)))

    def _move(self, tasks: Sequence[AnnotationTask | AgentTask], stage_uuid: str) -> None:
        if not tasks:
            return
        with (
            remote_call(f"moving {len(tasks)} tasks to another stage"),
            self._connection.writing.create_bundle() as bundle,
        ):
            for task in tasks:
                task.move(destination_stage_uuid=UUID(stage_uuid), bundle=bundle)

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
        tasks = self._agent_tasks([row.data_hash for row in rows], stage_uuid)
        doing = f"moving {len(tasks)} tasks on from the Agent stage"
        with remote_call(doing), self._connection.writing.create_bundle() as bundle:
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
    """One fresh bundle of one branch, with labels of archived classes too: a save deletes what was not read.

    The SDK says nothing of a row that the answer leaves out, so look.
    """
    if not rows:
        return
    doing = f"opening {len(rows)} rows on branch {branch}"
    with remote_call(doing), project.create_bundle() as bundle:
        for row in rows:
            row.initialise_labels(bundle=bundle, include_archived=True)
    missing = [row.data_title for row in rows if not row.is_labelling_initialised]
    if missing:
        raise TransientServiceError(f"the platform's answer left out {len(missing)} rows, {missing[0]!r} first")


def _closed(row: LabelRowV2 | None, stage_uuid: str | None) -> Reason | None:
    """Why a row may not be opened for a save, or None; without a stage, because it is on our own branch."""
    if row is None:
        return Reason.GONE
    if stage_uuid is None:
        return None
    if row.assigned_user_email is not None:
        return Reason.ASSIGNED
    return None if _stage_uuid(row) == stage_uuid else Reason.WRONG_STAGE


def _stage_uuid(row: LabelRowV2) -> str:
    return str(row.workflow_graph_node.uuid) if row.workflow_graph_node is not None else ""


def _verdict(
    write: Write, wanted: Content, stands: Content, *, is_sent: bool, on_main: bool
) -> Content | Left | None:
    """Of an opened row: what is to stand there by now, or why it is left; None where it is still to be written."""
    if on_main and not _are_ours(stands, wanted):
        return Left(Reason.HUMAN_CONTENT)
    if stands != EMPTY:
        unconfirmed = is_sent and not write.landed and not stands.has_human_work
        return wanted if unconfirmed else stands
    return Left(Reason.HAS_ROW_EMPTY) if write.landed else None


def _are_ours(stands: Content, wanted: Content) -> bool:
    """Whether nothing stands there but objects that bear the names of this write, untouched."""
    return not stands.has_human_work and stands.hashes <= wanted.hashes


def _taken(
    before: LabelRow, now: LabelRowV2 | None, skipped: frozenset[str], include_assigned: bool
) -> Reason | None:
    """Whether a person came between the plan and this moment; an opened row is judged by its content instead."""
    if now is None:
        return Reason.GONE
    if now.label_hash is not None:
        return None
    if now.assigned_user_email is not None and not include_assigned:
        return Reason.ASSIGNED
    if now.data_hash in skipped:
        return Reason.SKIPPED_BY_HUMAN
    return None if _stage_uuid(now) == before.stage_uuid else Reason.WRONG_STAGE


def _judge(branch: str, expected: Content, found: _Served | None, *, attended: bool) -> Outcome:
    """Hold what is served against what is to stand there; where a row is `attended`, a person may have come first."""
    if found is None:
        return Refused(Reason.READ_BACK, f"it is not on branch {branch} although the write was accepted")
    served, label_hash = shapes.from_platform(found.row), str(found.row.label_hash)
    if shapes.same(expected, served):
        ours = {item.object_hash: item.feature_hash for item in served.placed if not item.by_human}
        return Receipt(branch, label_hash, ours, served.digest, found.edited_at_s)
    if attended and served == EMPTY:
        return Left(Reason.HAS_ROW_EMPTY)
    if branch == MAIN and not _are_ours(served, expected):
        return Left(Reason.HUMAN_CONTENT)
    if attended and served.hashes != expected.hashes:
        return Left(Reason.HUMAN_CONTENT)
    message = f"branch {branch} serves {len(served.placed)} objects that differ from the {len(expected.placed)} sent"
    return Refused(Reason.READ_BACK, message)

"""Writes to the platform so that nobody's work can be overwritten, reads back what it served, moves tasks on.

Labels are saved to a branch of our own and copied to `main` only where `main` has no row: the one create-if-absent
that the platform offers. A save on `main` itself would be a blind overwrite of the whole row.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from uuid import UUID

from encord.objects import LabelRowV2
from encord.project import Project
from encord.workflow.stages.agent import AgentStage

from autolabel.core.rows import LabelRow, Reason
from autolabel.errors import (
    PermanentRejectedError,
    TransientServiceError,
)
from autolabel.protocols import Left, Outcome, Receipt, Refused, Write
from autolabel.remote import shapes
from autolabel.remote.client import Connection, remote_call, retrying
from autolabel.remote.shapes import Content

MAIN = "main"


class EncordSink:
    """`protocols.Sink` over the SDK's writing client, for one project and one recipe's branch."""

    def __init__(self, connection: Connection, branch: str) -> None:
        self._connection = connection
        self._branch = branch

    # A refused request of many rows is tried again row by row, so that one bad row never stops the rest.

    def save_to_branch(self, writes: Sequence[Write]) -> Mapping[str, Outcome]:
        try:
            return self._save(writes)
        except PermanentRejectedError as error:
            if len(writes) == 1:
                return {writes[0].row.data_hash: Refused(Reason.REJECTED, str(error))}
            return {k: v for write in writes for k, v in self.save_to_branch([write]).items()}

    def copy_to_main(self, rows: Sequence[LabelRow]) -> Mapping[str, Outcome]:
        try:
            return self._copy(rows)
        except PermanentRejectedError as error:
            if len(rows) == 1:
                return {rows[0].data_hash: Refused(Reason.REJECTED, str(error))}
            return {k: v for row in rows for k, v in self.copy_to_main([row]).items()}

    @retrying
    def _save(self, writes: Sequence[Write]) -> dict[str, Outcome]:
        """Read, save what differs, read again. Repeating all of it after a lost answer is safe."""
        wanted = {write.row.data_hash: shapes.to_platform(write.instances) for write in writes}
        rows = self._open(self._branch, wanted)
        outcomes: dict[str, Outcome] = {data_hash: Left(Reason.GONE) for data_hash in wanted if data_hash not in rows}
        to_save = []
        for data_hash, row in rows.items():
            served = shapes.from_platform(row)
            if served.has_human_work:
                outcomes[data_hash] = Left(Reason.HUMAN_CONTENT)
            elif not shapes.same(wanted[data_hash], served):
                shapes.fill(row, wanted[data_hash], self._connection.writing.ontology_structure)
                to_save.append(row)
        self._save_bundle(to_save)
        rest = {data_hash: items for data_hash, items in wanted.items() if data_hash not in outcomes}
        return outcomes | self._receipts(self._branch, rest)

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
        outcomes: dict[str, Outcome] = {}
        for row in rows:
            reason = _taken(row, listed.get(row.data_hash))
            if reason is not None:
                outcomes[row.data_hash] = Left(reason)
        free = [row.data_hash for row in rows if row.data_hash not in outcomes]
        on_branch = {row.data_hash: row for row in self._read(self._branch, free)}
        outcomes |= {key: Left(Reason.GONE) for key in free if key not in on_branch}
        to_copy = [str(row.label_hash) for key, row in on_branch.items() if listed[key].label_hash is None]
        if to_copy:
            with remote_call(f"copying {len(to_copy)} rows from branch {self._branch} to main"):
                self._connection.writing.copy_labels_to_branch(
                    MAIN, source_branch=self._branch, overwrite=False, label_hashes=to_copy
                )
        expected = {key: shapes.from_platform(row) for key, row in on_branch.items()}
        return outcomes | self._receipts(MAIN, expected)

    def _receipts(self, branch: str, expected: Mapping[str, Content]) -> dict[str, Outcome]:
        """Read rows as served and hold them against what is to stand there."""
        served = {row.data_hash: row for row in self._read(branch, list(expected))}
        return {key: _judge(branch, items, served.get(key)) for key, items in expected.items()}

    def _list(self, branch: str, data_hashes: Sequence[str]) -> list[LabelRowV2]:
        if not data_hashes:
            return []
        with remote_call(f"listing {len(data_hashes)} rows of branch {branch}"):
            return self._connection.writing.list_label_rows_v2(data_hashes=list(data_hashes), branch_name=branch)

    def _read(self, branch: str, data_hashes: Sequence[str]) -> list[LabelRowV2]:
        """Rows of a branch that exist there, with their labels. Creates none."""
        rows = [row for row in self._list(branch, data_hashes) if row.label_hash is not None]
        _initialise(self._connection.writing, rows, branch)
        return rows

    def _open(self, branch: str, data_hashes: Iterable[str]) -> dict[str, LabelRowV2]:
        """Rows of our own branch with their labels, created where missing."""
        if branch == MAIN:
            raise AssertionError("initialise_labels creates rows; on main that would mark a person's task as begun")
        rows = self._list(branch, list(data_hashes))
        _initialise(self._connection.writing, rows, branch)
        return {row.data_hash: row for row in rows}

    @retrying
    def proceed(self, rows: Sequence[LabelRow], stage_uuid: str, pathway_uuid: str) -> None:
        stage = self._connection.writing.workflow.get_stage(uuid=UUID(stage_uuid), type_=AgentStage)
        with remote_call(f"listing tasks at {stage.title}"):
            tasks = list(stage.get_tasks(data_hash=[row.data_hash for row in rows]))
        try:
            doing = f"moving {len(tasks)} tasks on from {stage.title}"
            with remote_call(doing), self._connection.writing.create_bundle() as bundle:
                for task in tasks:
                    task.proceed(pathway_uuid=pathway_uuid, bundle=bundle)
        except PermanentRejectedError:
            # One stale task makes the platform refuse the whole array; alone, a refused task that has left is fine.
            if len(rows) > 1:
                for row in rows:
                    self.proceed([row], stage_uuid, pathway_uuid)
            elif list(stage.get_tasks(data_hash=rows[0].data_hash)):
                raise


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


def _taken(before: LabelRow, now: LabelRowV2 | None) -> Reason | None:
    """Whether a person came between the plan and this moment; an opened row is judged by its content instead."""
    if now is None:
        return Reason.GONE
    if now.label_hash is not None:
        return None
    if now.assigned_user_email is not None:
        return Reason.ASSIGNED
    node = now.workflow_graph_node
    return None if node is not None and str(node.uuid) == before.stage_uuid else Reason.WRONG_STAGE


def _judge(branch: str, expected: Content, row: LabelRowV2 | None) -> Outcome:
    if row is None:
        return Refused(Reason.READ_BACK, f"the row is not on branch {branch} although the write was accepted")
    served = shapes.from_platform(row)
    if shapes.same(expected, served):
        ours = [item for item in served.placed if not item.by_human]
        return Receipt(
            branch=branch,
            label_hash=str(row.label_hash),
            object_hashes=tuple(sorted({item.object_hash for item in ours})),
            feature_hashes=tuple(sorted({item.feature_hash for item in ours})),
            digest=served.digest,
        )
    if branch != MAIN:
        message = (
            f"branch {branch} serves {len(served.placed)} objects, not the {len(expected.placed)} that were sent"
        )
        return Refused(Reason.READ_BACK, message)
    return Left(Reason.HUMAN_CONTENT if served.placed or served.classifications else Reason.HAS_ROW_EMPTY)

"""Parts that are broken on purpose: for each bug that we fear most, a double that has it.

Each is a subclass or a wrapper of the part it breaks; nothing of the product is patched. A harness that stays green
with one of these proves nothing, so for each there is a test that must turn red: see `table`.
"""

from __future__ import annotations

import base64
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from encord.http.bundle import Bundle
from encord.http.constants import RequestsSettings
from encord.objects import LabelRowV2
from encord.user_client import EncordUserClient

from autolabel.album import Album
from autolabel.bootstrap import Session, new_album
from autolabel.core.assemble import Instance
from autolabel.core.rows import LabelRow, Reason
from autolabel.errors import PermanentMediaError
from autolabel.ledger import Ledger
from autolabel.plan import Plan
from autolabel.protocols import Clip, Outcome, Receipt, Write
from autolabel.remote import shapes
from autolabel.remote.client import Connection
from autolabel.remote.shapes import Content
from autolabel.remote.sink import MAIN, EncordSink
from autolabel.remote.source import EncordSource
from autolabel.states import Job, Move, State
from autolabel.sync import Run

# ------------------------------------------------------------------------------------------------ sinks


class RandomNames(EncordSink):
    """Names objects by chance, as the SDK does where it is not told a name."""

    def save_to_branch(self, writes: Sequence[Write]) -> Mapping[str, Outcome]:
        return super().save_to_branch([replace(one, instances=tuple(map(_renamed, one.instances))) for one in writes])


def _renamed(instance: Instance) -> Instance:
    return replace(instance, object_hash=base64.b64encode(random.randbytes(6)).decode())


class NoReadBack(EncordSink):
    """Takes a 200 for the labels."""

    def _receipts(self, branch: str, expected: Mapping[str, Content], *_: Any) -> dict[str, Outcome]:
        return {key: _receipt(branch, content) for key, content in expected.items()}


def _receipt(branch: str, content: Content) -> Receipt:
    return Receipt(branch, "", {item.object_hash: item.feature_hash for item in content.placed}, content.digest)


class NoCoordinates(EncordSink):
    """Compares names when it reads back, and not where things are."""

    def _receipts(self, branch: str, expected: Mapping[str, Content], *more: Any) -> dict[str, Outcome]:
        rows = self._connection.project.list_label_rows_v2(data_hashes=list(expected), branch_name=branch)
        lenient = dict(expected)
        for row in rows if expected else ():
            row.initialise_labels()
            served = shapes.from_platform(row)
            if served.hashes == expected[row.data_hash].hashes:
                lenient[row.data_hash] = served
        return super()._receipts(branch, lenient, *more)


SINKS = {cls.__name__: cls for cls in (RandomNames, NoReadBack, NoCoordinates)}

# ---------------------------------------------------------------------- the SDK's project, used in a wrong way


class Project:
    """An SDK project that does the rest as it always did."""

    def __init__(self, project: Any) -> None:
        self._project = project

    def __getattr__(self, name: str) -> Any:
        return getattr(self._project, name)


class BundleTwice(Project):
    """Executes a bundle again when it failed, instead of looking what has arrived."""

    def create_bundle(self) -> Bundle:
        return _Stubborn()


class _Stubborn(Bundle):
    def execute(self) -> None:
        try:
            super().execute()
        except Exception:  # noqa: BLE001 - that is the bug
            super().execute()


class OpensMain(Project):
    """Looks into rows of main by `initialise_labels`, which creates them."""

    def list_label_rows_v2(self, *arguments: Any, **wanted: Any) -> list[LabelRowV2]:
        rows: list[LabelRowV2] = self._project.list_label_rows_v2(*arguments, **wanted)
        for row in rows if wanted.get("branch_name") == MAIN else ():
            row.initialise_labels()
        return rows


class FilterThenSave(Project):
    """Reads only the objects of its own classes, and saves what it has read."""

    def list_label_rows_v2(self, *arguments: Any, **wanted: Any) -> list[LabelRowV2]:
        rows: list[LabelRowV2] = self._project.list_label_rows_v2(*arguments, **wanted)
        ours = {item.feature_node_hash for item in self._project.ontology_structure.objects[:4]}
        for row in rows:
            row.initialise_labels = _filtered(row, ours)  # type: ignore[method-assign]
        return rows


def _filtered(row: LabelRowV2, ours: set[str]) -> Callable[..., None]:
    whole = row.initialise_labels
    return lambda **wanted: whole(**wanted, include_object_feature_hashes=ours)


PROJECTS = {cls.__name__: cls for cls in (BundleTwice, OpensMain, FilterThenSave)}


def _resending(session: Session) -> Any:
    """A project through a client that repeats what got no answer."""
    settings = session.settings
    client = EncordUserClient.create_with_ssh_private_key(
        ssh_private_key_path=str(settings.ssh_key_file),
        domain=settings.domain,
        requests_settings=RequestsSettings(backoff_factor=0.01),
        user_agent_suffix="autolabel/resending",
    )
    return client.get_project(session.project.project_hash)


def _rewired(connection: Connection, wrap: Callable[[Any], Any]) -> Connection:
    names = {field.name for field in fields(connection)} & {"project", "writing"}
    return replace(connection, **{name: wrap(getattr(connection, name)) for name in names})


# ---------------------------------------------------------------------------------- source, ledger, session


class TellsUrls(EncordSource):
    """Says in its errors where it failed, signature and all."""

    def download(self, row: LabelRow, folder: Path) -> list[Clip]:
        (item,) = self._connection.client.get_storage_items([row.item_uuid], sign_url=True)
        raise _PlainError(Reason.DOWNLOAD, f"no file at {item.get_signed_url()}")


class _PlainError(PermanentMediaError):
    """Its message as it was given."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(reason, message)
        self.args = (message,)


class NormalSync(Ledger):
    """Commits that a power cut may take back."""

    def __init__(self, *arguments: Any) -> None:
        sa.event.listen(sa.pool.Pool, "checkout", lambda raw, *_: raw.execute("PRAGMA synchronous = NORMAL").close())
        super().__init__(*arguments)


class AttemptAfterWork(Ledger):
    """Counts an attempt when it is over: one that kills the run is never counted."""

    def start_attempt(self, job: Job, run_id: str, data_hashes: Sequence[str]) -> None:
        pass

    def give_back_attempt(self, job: Job, run_id: str, data_hashes: Sequence[str]) -> None:
        pass


class LateReceipts(Ledger):
    """Keeps a receipt only when the row is done, after its task was handed on."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._late: dict[str, Move] = {}

    def move(self, job: Job, run_id: str, moves: Sequence[Move]) -> frozenset[str]:
        held = {move.data_hash: move for move in moves if move.state == State.WRITTEN}
        self._late |= held
        now = [move for move in moves if move.state != State.WRITTEN]
        before = [self._late.pop(move.data_hash) for move in now if move.data_hash in self._late]
        return super().move(job, run_id, [*before, *now]) | held.keys()


LEDGERS = {cls.__name__: cls for cls in (NormalSync, AttemptAfterWork, LateReceipts)}


class LeaseOnly(Session):
    """Trusts its lease where one writer alone may write: it holds no lock."""

    @contextmanager
    def running(self, plan: Plan, *, saves: bool = True) -> Iterator[tuple[Run, Album]]:
        with new_album(self.settings, self.project.classes, self.run_id) as album:
            yield Run(plan, self.recipe, self.ports, self.run_id, album, saves=saves), album


# ------------------------------------------------------------------------------------------------- wiring


def broken(session: Session, name: str | None, open_ledger: Callable[[type[Ledger]], Ledger]) -> Session:
    """The session, one of its parts replaced by the double of that name."""
    ports = session.ports
    if name == LeaseOnly.__name__:
        return LeaseOnly(**{field.name: getattr(session, field.name) for field in fields(session)})
    if name in LEDGERS:
        ports = replace(ports, ledger=open_ledger(LEDGERS[name]))
    elif name == TellsUrls.__name__:
        source = TellsUrls(_connection(ports.source), session.settings.max_media_bytes)
        ports = replace(ports, source=source)
    elif name is not None:
        ports = replace(ports, sink=_sink(session, name))
    return replace(session, ports=ports)


def _sink(session: Session, name: str) -> EncordSink:
    connection: Connection = _connection(session.ports.sink)
    if name in PROJECTS:
        connection = _rewired(connection, PROJECTS[name])
    elif name == "Resending":
        project = _resending(session)
        connection = _rewired(connection, lambda _: project)
    kind: type[EncordSink] = SINKS.get(name, EncordSink)
    return kind(connection, session.recipe.branch, session.settings.max_row_bytes)


def _connection(part: Any) -> Connection:
    connection: Connection = part._connection
    return connection

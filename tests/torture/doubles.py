"""Parts that are broken on purpose: for each bug that we fear most, a double that has it.

Each is a subclass or a wrapper of the part it breaks; nothing of the product is patched. A harness that stays green
with one of these proves nothing, so for each there is a test that must turn red (`seeded`).
"""

from __future__ import annotations

import base64
import random
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from encord.http.constants import RequestsSettings
from encord.objects import LabelRowV2
from encord.user_client import EncordUserClient

from autolabel.bootstrap import Session
from autolabel.core.rows import LabelRow, Reason
from autolabel.errors import PermanentMediaError
from autolabel.ledger import Ledger
from autolabel.protocols import Clip, Outcome, Receipt, Write
from autolabel.remote.client import remote_call
from autolabel.remote.shapes import Content
from autolabel.remote.sink import MAIN, EncordSink
from autolabel.remote.source import EncordSource
from autolabel.states import Job, Move, State
from autolabel.sync import Ports
from torture.pushes import Job as Torture
from torture.pushes import ledger_of


class RandomNames(EncordSink):
    """Names objects by chance, as the SDK does where it is not told a name."""

    def save_to_branch(self, writes: Sequence[Write]) -> Mapping[str, Outcome]:
        return super().save_to_branch([replace(one, instances=tuple(map(_renamed, one.instances))) for one in writes])


def _renamed(instance: Any) -> Any:
    return replace(instance, object_hash=base64.b64encode(random.randbytes(6)).decode())


class BundleTwice(EncordSink):
    """Executes a bundle again when it failed, instead of looking what has arrived."""

    def _save_bundle(self, rows: Sequence[LabelRowV2]) -> None:
        if not rows:
            return
        bundle = self._connection.project.create_bundle()
        for row in rows:
            row.save(bundle=bundle)
        with remote_call("saving"):
            try:
                bundle.execute()
            except Exception:  # noqa: BLE001 - that is the bug
                bundle.execute()


class NoReadBack(EncordSink):
    """Takes a 200 for the labels."""

    def _receipts(self, branch: str, expected: Mapping[str, Content]) -> dict[str, Outcome]:
        return {key: self._believed(branch, content) for key, content in expected.items()}

    def _believed(self, branch: str, content: Content) -> Receipt:
        return Receipt(branch, "", {item.object_hash: item.feature_hash for item in content.placed}, content.digest)


class NoCoordinates(EncordSink):
    """Compares names when it reads back, and not where things are."""

    def _receipts(self, branch: str, expected: Mapping[str, Content]) -> dict[str, Outcome]:
        honest = super()._receipts(branch, expected)
        served = {row.data_hash: row for row in self._read(branch, list(expected))}
        return {key: self._named(branch, expected[key], served.get(key), honest[key]) for key in honest}

    def _named(self, branch: str, wanted: Content, row: LabelRowV2 | None, honest: Outcome) -> Outcome:
        names = {item.object_hash: item.feature_hash for item in wanted.placed}
        if row is None or {item.object_hash for item in row.get_object_instances()} != names.keys():
            return honest
        return Receipt(branch, str(row.label_hash), names, wanted.digest)


class OpensMain(EncordSink):
    """Looks into rows of main by `initialise_labels`, which creates them."""

    def copy_to_main(self, rows: Sequence[LabelRow]) -> Mapping[str, Outcome]:
        for row in self._list(MAIN, [row.data_hash for row in rows]):
            row.initialise_labels()
        return super().copy_to_main(rows)


class FilterThenSave(EncordSink):
    """Reads only the objects of its own classes, and saves what it has read."""

    def _open(self, data_hashes: Sequence[str]) -> dict[str, LabelRowV2]:
        rows = self._list(self._branch, data_hashes)
        shown = [item.feature_node_hash for item in self._connection.project.ontology_structure.objects[:4]]
        for row in rows:
            row.initialise_labels(include_object_feature_hashes=set(shown))
        return {row.data_hash: row for row in rows}


class Resending(EncordSink):
    """Writes through a client that repeats what got no answer."""

    @staticmethod
    def connected(session: Session) -> Any:
        settings, connection = session.settings, _part(session.ports.sink, "_connection")
        client = EncordUserClient.create_with_ssh_private_key(
            ssh_private_key_path=str(settings.ssh_key_file),
            domain=settings.domain,
            requests_settings=RequestsSettings(backoff_factor=0.01),
            user_agent_suffix="autolabel/resending",
        )
        return replace(connection, client=client, project=client.get_project(session.project.project_hash))


class TellsUrls(EncordSource):
    """Says in its errors where it failed, signature and all."""

    def download(self, row: LabelRow, folder: Path) -> list[Clip]:
        url = next(iter(self._signed_urls(row).values()))
        raise PermanentMediaError(Reason.DOWNLOAD, f"no file at {url}")


class NormalSync(Ledger):
    """Commits that a power cut may take back."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._engine.dispose()
        sa.event.listen(self._engine, "connect", lambda raw, _: raw.execute("PRAGMA synchronous = NORMAL"))


class AttemptAfterWork(Ledger):
    """Counts an attempt when it is over: one that kills the run is never counted."""

    def start_attempt(self, job: Job, run_id: str, data_hashes: Sequence[str]) -> None:
        pass

    def give_back_attempt(self, job: Job, run_id: str, data_hashes: Sequence[str]) -> None:
        pass


class LateReceipts(Ledger):
    """Keeps a receipt only when the row is done, after its task was handed on."""

    def move(self, job: Job, run_id: str, moves: Sequence[Move]) -> frozenset[str]:
        late = self.__dict__.setdefault("_late", {})
        late.update({move.data_hash: move for move in moves if move.state == State.WRITTEN})
        now = [move for move in moves if move.state != State.WRITTEN]
        before = [late.pop(move.data_hash) for move in now if move.data_hash in late]
        moved = super().move(job, run_id, [*before, *now])
        return moved | {move.data_hash for move in moves if move.data_hash in late}


_SINKS = (RandomNames, BundleTwice, NoReadBack, NoCoordinates, OpensMain, FilterThenSave)
SINKS = {cls.__name__: cls for cls in _SINKS}
LEDGERS = {cls.__name__: cls for cls in (NormalSync, AttemptAfterWork, LateReceipts)}


def swapped(job: Torture, ports: Ports, session: Session) -> Ports:
    """The parts of a push, one of them perhaps broken."""
    name = job.double
    if name in LEDGERS:
        return replace(ports, ledger=ledger_of(job, LEDGERS[name]))
    limit = session.settings.max_row_bytes
    if name in SINKS:
        return replace(ports, sink=SINKS[name](_part(ports.sink, "_connection"), session.recipe.branch, limit))
    if name == "Resending":
        return replace(ports, sink=EncordSink(Resending.connected(session), session.recipe.branch, limit))
    if name == "TellsUrls":
        return replace(ports, source=TellsUrls(_part(ports.source, "_connection"), session.settings.max_media_bytes))
    return ports


def _part(whole: object, name: str) -> Any:
    return getattr(whole, name)

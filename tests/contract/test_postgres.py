"""A ledger on a real server: durable, one clock, one writer at a time; trouble is one line without the password."""

from __future__ import annotations

import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest
from pydantic import SecretStr

from autolabel.advisory import AdvisoryLocks, is_alive
from autolabel.database import Database
from autolabel.errors import (
    AutolabelError,
    PermanentLedgerError,
    PermanentUsageError,
    TransientBusyError,
    TransientLedgerError,
)
from autolabel.ledger import Ledger
from autolabel.looks import Look, Looks
from autolabel.postgres import PostgresServer
from autolabel.states import Job
from autolabel.wakes import Hint, Wakes
from ledgers import on_server, server
from postgres_servers import PASSWORD, name_of, needs_server
from torture import ledger_model

pytestmark = needs_server
JOB = Job("project", "recipe", "main")
HOLDS = """
import sys, time
from pydantic import SecretStr
from autolabel.advisory import AdvisoryLocks
from autolabel.postgres import PostgresServer
locks = AdvisoryLocks(PostgresServer(SecretStr(sys.argv[1])))
with locks.project('p', 'run r1'), locks.life('r1'): print('held', flush=True); time.sleep(60)
"""


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    with closing(Database(on_server(tmp_path))) as opened:
        yield opened


def test_a_commit_is_durable_whatever_the_role_is_set_to(tmp_path: Path, database: Database) -> None:
    server().sql(name_of(tmp_path), f'ALTER DATABASE "{name_of(tmp_path)}" SET synchronous_commit = off')
    with closing(Database(on_server(tmp_path))) as opened, opened.write() as db:
        assert db.exec_driver_sql("SHOW synchronous_commit").scalar_one() == "on"
        assert db.exec_driver_sql("SHOW transaction_isolation").scalar_one() == "read committed"


def test_two_hosts_may_make_the_tables_at_once(tmp_path: Path) -> None:
    place = on_server(tmp_path)
    with ThreadPoolExecutor(4) as pool:
        opened = list(pool.map(lambda _: Database(place), range(4)))
    for database in opened:
        database.close()
    assert server().sql(name_of(tmp_path), "SELECT count(*) FROM schema_version") == [(1,)]


def test_a_newer_schema_and_somebody_elses_tables_are_refused(tmp_path: Path, database: Database) -> None:
    server().sql(name_of(tmp_path), "UPDATE schema_version SET version = 99")
    with pytest.raises(PermanentLedgerError, match=r"newer release \(schema 99"):
        Database(on_server(tmp_path))
    other = on_server(tmp_path / "other")
    server().sql(name_of(tmp_path / "other"), "CREATE TABLE run (id int)")
    with pytest.raises(PermanentLedgerError, match=r"holds a table run .* a database of its own$"):
        Database(other)


def test_a_reader_sees_one_moment_and_waits_for_no_writer(database: Database) -> None:
    with closing(Wakes(database, database.clock)) as wakes, database.read() as db:
        before = db.exec_driver_sql("SELECT count(*) FROM wake").scalar_one()
        wakes.request(Hint("project", "stage"))
        assert db.exec_driver_sql("SELECT count(*) FROM wake").scalar_one() == before == 0
        assert wakes.depth() == 1


def test_a_writer_that_does_not_let_go_is_a_matter_for_later(tmp_path: Path, database: Database) -> None:
    hasty = PostgresServer(SecretStr(f"{server().url(name_of(tmp_path))}?options=-clock_timeout%3D50ms"))
    with closing(Database(hasty)) as other:
        with (
            database.write(),
            pytest.raises(TransientLedgerError, match=r"another process keeps the ledger .* locked"),
            other.write(),
        ):
            pass
        with other.write():
            pass


def lose_the_connection(database: Database) -> None:
    """In the middle of a transaction."""
    with database.write() as db:
        db.exec_driver_sql("INSERT INTO lock_holder VALUES (1, 1, 'x')")
        pid = db.exec_driver_sql("SELECT pg_backend_pid()").scalar_one()
        server().sql("postgres", f"SELECT pg_terminate_backend({pid}, 5000)")
        db.exec_driver_sql("SELECT 1")


def test_a_connection_lost_in_a_transaction_leaves_nothing_of_it_and_the_next_one_goes_on(
    tmp_path: Path, database: Database
) -> None:
    with pytest.raises(TransientLedgerError, match="is out of reach"):
        lose_the_connection(database)
    assert server().sql(name_of(tmp_path), "SELECT * FROM lock_holder") == []
    looks = Looks(database, database.clock)
    looks.note(Look("project", "cli", "Title"))
    assert [look["project_title"] for look in looks.all()] == ["Title"]


def test_leases_go_by_the_servers_clock(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("time.time", lambda: 0.0)
    ledger = Ledger(database, database.clock)
    ledger.start_run("run", JOB, "Title", {})
    run = ledger.run("run")
    with database.read() as db:
        now_s = db.exec_driver_sql("SELECT extract(epoch FROM clock_timestamp())::float8").scalar_one()
    assert run is not None
    assert run["started_at"] == pytest.approx(now_s, abs=10)


def test_a_call_is_kept_once_and_its_run_is_owed_until_it_is_served(database: Database) -> None:
    wakes, hint = Wakes(database, database.clock), Hint("project", "stage")
    assert [wakes.accept(mac, hint) for mac in ("1", "1", "2")] == [True, False, True]
    (wake,) = wakes.owed()
    assert wake.requested == 2
    wakes.put_off(wake, 60.0)
    assert (wakes.owed(), wakes.depth()) == ([], 1)
    wakes.settle(wake)
    assert wakes.depth() == 0


def test_a_text_with_a_zero_byte_is_kept_without_it(database: Database) -> None:
    looks = Looks(database, database.clock)
    looks.note(Look("project", "cli", "Tit\0le"))
    assert [look["project_title"] for look in looks.all()] == ["Tit\N{REPLACEMENT CHARACTER}le"]


@pytest.fixture
def locks(tmp_path: Path, database: Database) -> Iterator[AdvisoryLocks]:
    with closing(AdvisoryLocks(on_server(tmp_path))) as taken:
        yield taken


def end_sessions_with_locks(folder: Path) -> None:
    """As a network does that breaks, or a server that starts again."""
    held = "SELECT pg_terminate_backend(pid, 5000) FROM pg_locks WHERE locktype = 'advisory'"
    server().sql(name_of(folder), held)


def test_a_run_lives_for_as_long_as_its_connection(tmp_path: Path, database: Database, locks: AdvisoryLocks) -> None:
    assert not is_alive(database, "run")
    with locks.life("run"):
        assert (is_alive(database, "run"), is_alive(database, "another")) == (True, False)
        end_sessions_with_locks(tmp_path)
        assert not is_alive(database, "run")
    with pytest.raises(TransientLedgerError, match="is out of reach"), locks.life("run"):
        pass


def test_locks_that_were_lost_are_told_before_anything_is_sent(tmp_path: Path, locks: AdvisoryLocks) -> None:
    with closing(AdvisoryLocks(on_server(tmp_path))) as other, locks.project("p", "run r1"):
        locks.check()
        end_sessions_with_locks(tmp_path)
        with other.project("p", "run r2"), pytest.raises(TransientLedgerError, match="nothing was sent"):
            locks.check()


def test_a_lock_dies_with_its_process(tmp_path: Path, database: Database, locks: AdvisoryLocks) -> None:
    url = server().url(name_of(tmp_path))
    with subprocess.Popen([sys.executable, "-c", HOLDS, url], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        with pytest.raises(TransientBusyError, match=f"^run r1 .process {process.pid} on "), locks.project("p", "r2"):
            pass
        process.kill()
    wait_for(lambda: not is_alive(database, "r1"))
    with locks.project("p", "r2"):
        pass


def wait_for(condition: Callable[[], bool]) -> None:
    """A server learns of a dead client a moment later."""
    while not condition():
        time.sleep(0.01)


def _wrong(url: str) -> dict[str, tuple[str, type[AutolabelError], str]]:
    return {
        "away": (url.replace(f":{server().port}/", ":1/"), TransientLedgerError, "refused"),
        "another password": (url.replace(PASSWORD, "canary-wrong"), PermanentLedgerError, "password authentication"),
        "another database": (url[: url.rindex("/")] + "/nowhere", PermanentLedgerError, "does not exist"),
    }


@pytest.mark.parametrize("trouble", ["away", "another password", "another database"])
def test_trouble_with_the_server_is_one_line_that_names_it_and_no_password(trouble: str) -> None:
    url, kind, why = _wrong(server().url("postgres"))[trouble]
    with pytest.raises(kind, match=rf"^the ledger (postgres|nowhere) on 127\.0\.0\.1.* .*{why}") as found:
        Database(PostgresServer(SecretStr(url)))
    assert "\n" not in str(found.value)
    assert "canary" not in "".join(traceback.format_exception(found.value))


@pytest.mark.parametrize(
    "url",
    [
        "",
        "canary",
        "mysql://u:canary@h/db",
        "postgresql://u:canary@h",
        "postgresql://u:canary@h:port/db",
        "postgresql://u:can@canary@h/db",
    ],
)
def test_an_address_that_is_none_is_refused_without_telling_it(url: str) -> None:
    with pytest.raises(PermanentUsageError, match="AUTOLABEL_LEDGER is off") as found:
        PostgresServer(SecretStr(url))
    assert "canary" not in "".join(traceback.format_exception(found.value))


def test_no_sequence_of_claims_steps_deaths_and_restarts_differs_from_the_model() -> None:
    assert ledger_model.compare(20261122, 5, lambda folder: Database(on_server(folder))) == []

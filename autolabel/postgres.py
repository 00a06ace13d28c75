"""A ledger on a Postgres server: writers one after the other, readers on one snapshot, one clock, commits durable."""

from __future__ import annotations

import hashlib
import re
import time
from typing import Any

import psycopg
import sqlalchemy as sa
from psycopg.abc import Buffer
from psycopg.types.string import StrDumper
from pydantic import SecretStr

from autolabel.errors import AutolabelError, PermanentLedgerError, PermanentUsageError, TransientLedgerError
from autolabel.schema import META, VERSION

LOCK_WAIT_S, STATEMENT_S, IDLE_S, CONNECT_S = 30, 120, 60, 10
_WAITS = {  # the address may say otherwise
    "lock_timeout": f"{LOCK_WAIT_S}s",
    "statement_timeout": f"{STATEMENT_S}s",
    "idle_in_transaction_session_timeout": f"{IDLE_S}s",  # a writer that stands still does not hold up the others
    "tcp_keepalives_idle": "10",  # a host that lost its power gives its locks back within half a minute
    "tcp_keepalives_interval": "5",
    "tcp_keepalives_count": "4",
}
_RULES = {
    "synchronous_commit": "on",  # an acknowledged commit survives a power cut
    "default_transaction_isolation": r"read\ committed",  # a writer sees what was committed before its lock
}
_KEEPALIVES = {
    "keepalives": 1,
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 4,
    "tcp_user_timeout": 30_000,
}
_REFUSED = re.compile(
    r"authentication failed|no password supplied|does not exist|pg_hba\.conf|permission denied|not permitted"
    r"|unsupported startup parameter|does not support|certificate|invalid .* value"
)
_LATER = ("08", "40", "53", "57", "55P03", "25006", "25P03")
_DISK_FULL, _LOCKED = "53100", "55P03"

OWN = sa.MetaData()
SCHEMA = sa.Table("schema_version", OWN, sa.Column("version", sa.Integer, nullable=False))
HOLDER = sa.Table(
    "lock_holder",
    OWN,
    sa.Column("lock", sa.BigInteger, primary_key=True),
    sa.Column("pid", sa.Integer, primary_key=True),  # of the server's process whose session took the lock
    sa.Column("words", sa.Text, nullable=False),
)
"""What those who hold an advisory lock, or held it, say of themselves."""


def lock_key(name: str) -> int:
    """The 64 bits, signed, that stand for a name among a database's advisory locks."""
    return int.from_bytes(hashlib.sha256(f"autolabel {name}".encode()).digest()[:8], signed=True)


class _Text(StrDumper):
    """A text column holds no zero byte, as a title may."""

    def dump(self, obj: str) -> Buffer | None:
        return super().dump(obj.replace("\0", "\N{REPLACEMENT CHARACTER}"))


def _on_connect(raw: psycopg.Connection, _record: object) -> None:
    raw.adapters.register_dumper(str, _Text)


class PostgresServer:
    """A database of its own on a server; see `database.Place`. Never behind a pooler that shares sessions.

    Raises PermanentUsageError for an address that is none.
    """

    def __init__(self, url: SecretStr) -> None:
        try:
            self._url = sa.make_url(url.get_secret_value())
        except (sa.exc.ArgumentError, ValueError):
            raise PermanentUsageError(f"the setting AUTOLABEL_LEDGER is off: {_NEEDED}") from None
        is_ours = self._url.drivername in ("postgresql", "postgres", "postgresql+psycopg")
        # A password with an @ in it, written as it is, ends in the host: that may not be told.
        if not is_ours or not self._url.database or "@" in (self._url.host or ""):
            raise PermanentUsageError(f"the setting AUTOLABEL_LEDGER is off: {_NEEDED}")
        self._ahead_s = time.time() - time.monotonic()

    def __str__(self) -> str:
        host = self._url.host or self._url.query.get("host", "this machine")
        return f"{self._url.database} on {host if isinstance(host, str) else ','.join(host)}"

    def engine(self) -> sa.Engine:
        waits, rules = (" ".join(f"-c {key}={value}" for key, value in part.items()) for part in (_WAITS, _RULES))
        options = f"{waits} {self._url.query.get('options', '')} {rules}"
        given = {key: value if isinstance(value, str) else ",".join(value) for key, value in self._url.query.items()}
        own = {"connect_timeout": CONNECT_S, **_KEEPALIVES, "application_name": "autolabel", **given}
        engine = sa.create_engine(
            self._url.set(drivername="postgresql+psycopg", query={}),
            connect_args={**own, "options": options},
            pool_pre_ping=True,
            hide_parameters=True,
        )
        sa.event.listen(engine, "connect", _on_connect)
        sa.event.listen(engine, "begin", self._on_begin)
        return engine

    def _on_begin(self, db: sa.Connection) -> None:
        if db.get_execution_options().get("writes", False):
            lock = "pg_advisory_xact_lock(%(key)s), "
        else:
            db.exec_driver_sql("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
            lock = ""
        now = f"SELECT {lock}extract(epoch FROM clock_timestamp())::float8"
        row = db.exec_driver_sql(now, {"key": lock_key("writers")} if lock else None).one()
        self._ahead_s = float(row[-1]) - time.monotonic()

    def clock(self) -> float:
        """The server's, as it was at the latest transaction's beginning, and how long ago that is."""
        return time.monotonic() + self._ahead_s

    def check(self) -> None:
        pass

    def check_room(self) -> None:
        pass

    def version(self, db: sa.Connection) -> int:
        if db.exec_driver_sql("SHOW fsync").scalar_one() != "on":
            raise PermanentLedgerError(
                f"the ledger {self} may lose what it acknowledged, since its server runs with fsync off; nothing was "
                "written. Switch it on"
            )
        names = set(sa.inspect(db).get_table_names())
        if SCHEMA.name in names:
            return int(db.scalar(sa.select(SCHEMA.c.version)) or 0)
        if strange := sorted(names & META.tables.keys()):
            raise PermanentLedgerError(
                f"the database {self} holds a table {strange[0]} that is not a ledger's; nothing was written. Give "
                "the ledger a database of its own"
            )
        return 0

    def set_version(self, db: sa.Connection) -> None:
        OWN.create_all(db)
        db.execute(SCHEMA.delete())
        db.execute(SCHEMA.insert().values(version=VERSION))

    def connect(self) -> psycopg.Connection[tuple[Any, ...]]:
        """A connection of its own, each statement a transaction. Raises what `explain` says."""
        engine = self.engine()
        try:
            pooled = engine.raw_connection()
        except sa.exc.DBAPIError as error:
            raise self.explain(error.orig) from error
        connection: psycopg.Connection[tuple[Any, ...]] = pooled.driver_connection  # type: ignore[assignment]
        pooled.detach()
        connection.autocommit = True
        return connection

    def explain(self, error: BaseException | None) -> AutolabelError:
        """A connection that was lost in a transaction, or a wait that was too long: nothing of it was kept."""
        state = getattr(error, "sqlstate", None) or ""
        why = " ".join(str(error).split())
        if state == _LOCKED:
            return TransientLedgerError(f"another process keeps the ledger {self} locked")
        is_connection = not state and isinstance(error, psycopg.OperationalError | psycopg.InterfaceError)
        may_pass = is_connection and not _REFUSED.search(why)
        if may_pass or (state.startswith(_LATER) and state != _DISK_FULL):
            return TransientLedgerError(f"the ledger {self} is out of reach ({why})")
        return PermanentLedgerError(
            f"the ledger {self} cannot be used ({why}), so nothing more is written to the platform; put it right, "
            "then run again"
        )


_NEEDED = "an address like postgresql://user@host/database is needed, signs in a password written as %40 and the like"

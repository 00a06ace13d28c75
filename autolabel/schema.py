"""The ledger's tables, and the steps from each released schema to the next."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from autolabel.core.rows import MAIN_BRANCH

VERSION = 10

META = sa.MetaData()
RUN = sa.Table(
    "run",
    META,
    sa.Column("id", sa.Text, primary_key=True),
    sa.Column("project_hash", sa.Text, nullable=False),
    sa.Column("project_title", sa.Text, nullable=False),
    sa.Column("recipe_id", sa.Text, nullable=False),
    sa.Column("recipe", sa.Text, nullable=False),
    sa.Column("destination", sa.Text, nullable=False),
    sa.Column("started_at", sa.Float, nullable=False),
    sa.Column("lease_until", sa.Float),  # what it has claimed is its own until then, or until it ends
    sa.Column("finished_at", sa.Float),
    sa.Column("summary", sa.Text),
)
ROW = sa.Table(
    "row",
    META,
    sa.Column("project_hash", sa.Text, primary_key=True),
    sa.Column("recipe_id", sa.Text, primary_key=True),
    sa.Column("destination", sa.Text, primary_key=True),
    sa.Column("data_hash", sa.Text, primary_key=True),
    sa.Column("state", sa.Text, nullable=False),
    sa.Column("reason", sa.Text),
    sa.Column("message", sa.Text),
    sa.Column("attempts", sa.Integer, nullable=False, default=0),
    sa.Column("failed_downloads", sa.Integer, nullable=False, default=0),
    sa.Column("run_id", sa.Text, nullable=False),
    sa.Column("intent_digest", sa.Text),
)
DETECTIONS = sa.Table(
    "detections",
    META,
    sa.Column("recipe_id", sa.Text, primary_key=True),
    sa.Column("data_hash", sa.Text, primary_key=True),
    sa.Column("chunk", sa.Integer, primary_key=True),  # its first frame index
    sa.Column("body", sa.LargeBinary, nullable=False),
    sa.Column("ends_row", sa.Boolean, nullable=False),
)
RECEIPT = sa.Table(
    "receipt",
    META,
    sa.Column("project_hash", sa.Text, primary_key=True),
    sa.Column("recipe_id", sa.Text, primary_key=True),
    sa.Column("data_hash", sa.Text, primary_key=True),
    sa.Column("branch", sa.Text, primary_key=True),
    sa.Column("label_hash", sa.Text, nullable=False),
    sa.Column("objects", sa.Text, nullable=False),
    sa.Column("digest", sa.Text, nullable=False),
    sa.Column("run_id", sa.Text, nullable=False),
    sa.Column("at", sa.Float, nullable=False),
    sa.Column("edited_at", sa.Float),
    sa.Column("samples_per_second", sa.Float),  # of a video, else NULL; 0 where an older release did not note it
)
UNDO = sa.Table(
    "undo",
    META,
    sa.Column("project_hash", sa.Text, primary_key=True),
    sa.Column("recipe_id", sa.Text, primary_key=True),
    sa.Column("data_hash", sa.Text, primary_key=True),
    sa.Column("branch", sa.Text, primary_key=True),
    sa.Column("from_stage", sa.Text),  # where its task is to go back to
    sa.Column("undone_at", sa.Float),
)
EVENT = sa.Table(
    "event",
    META,
    sa.Column("seq", sa.Integer, primary_key=True, autoincrement=True),
    sa.Column("at", sa.Float, nullable=False),
    sa.Column("run_id", sa.Text, nullable=False),
    sa.Column("data_hash", sa.Text, nullable=False),
    sa.Column("destination", sa.Text, nullable=False),
    sa.Column("state", sa.Text, nullable=False),
    sa.Column("reason", sa.Text),
)
INBOX = sa.Table(
    "inbox",
    META,
    sa.Column("mac", sa.Text, primary_key=True),  # of an authentic webhook: one that comes again is known by it
    sa.Column("project_hash", sa.Text, nullable=False),
    sa.Column("place", sa.Text, nullable=False),
    sa.Column("at", sa.Float, nullable=False),
)
WAKE = sa.Table(
    "wake",
    META,
    sa.Column("project_hash", sa.Text, primary_key=True),  # "" where it is still to be looked up
    sa.Column("place", sa.Text, primary_key=True),  # a stage's uuid, or dataset/HASH, folder/UUID
    sa.Column("requested", sa.Integer, nullable=False),  # how often
    sa.Column("served", sa.Integer, nullable=False),  # up to which of these a run has begun afterwards, and ended
    sa.Column("at", sa.Float, nullable=False),
    sa.Column("not_before", sa.Float, nullable=False),
)
LOOK = sa.Table(
    "look",
    META,
    sa.Column("project_hash", sa.Text, primary_key=True),
    sa.Column("project_title", sa.Text, nullable=False),
    sa.Column("called_by", sa.Text, nullable=False),
    sa.Column("at", sa.Float, nullable=False),
    sa.Column("run_id", sa.Text),  # NULL where there was nothing to do
    sa.Column("error", sa.Text),
    sa.Column("succeeded_at", sa.Float),
)


MIGRATIONS = {
    1: "ALTER TABLE detections ADD COLUMN ends_row BOOLEAN NOT NULL DEFAULT 1",
    2: "ALTER TABLE row ADD COLUMN failed_downloads INTEGER NOT NULL DEFAULT 0",
    3: "ALTER TABLE run ADD COLUMN lease_until FLOAT",
    4: "ALTER TABLE receipt ADD COLUMN edited_at FLOAT",
    5: "ALTER TABLE receipt ADD COLUMN samples_per_second FLOAT DEFAULT 0",
    6: "CREATE TABLE undo (project_hash TEXT NOT NULL, recipe_id TEXT NOT NULL, data_hash TEXT NOT NULL, "
    "branch TEXT NOT NULL, from_stage TEXT, undone_at FLOAT, "
    "PRIMARY KEY (project_hash, recipe_id, data_hash, branch))",
    7: "CREATE TABLE inbox (mac TEXT NOT NULL PRIMARY KEY, project_hash TEXT NOT NULL, place TEXT NOT NULL, "
    "at FLOAT NOT NULL)",
    8: "CREATE TABLE wake (project_hash TEXT NOT NULL, place TEXT NOT NULL, requested INTEGER NOT NULL, "
    "served INTEGER NOT NULL, at FLOAT NOT NULL, not_before FLOAT NOT NULL, PRIMARY KEY (project_hash, place))",
    9: "CREATE TABLE look (project_hash TEXT NOT NULL PRIMARY KEY, project_title TEXT NOT NULL, "
    "called_by TEXT NOT NULL, at FLOAT NOT NULL, run_id TEXT, error TEXT, succeeded_at FLOAT)",
}
"""From each schema version to the next."""


# A receipt whose labels nobody has taken back since.
STANDS = ~sa.exists().where(
    *(UNDO.c[name] == RECEIPT.c[name] for name in ("project_hash", "recipe_id", "data_hash", "branch")),
    UNDO.c.undone_at >= RECEIPT.c.at,
)


STEP = ("data_hash", "state", "reason", "message", "intent_digest")
_ITS: dict[str, sa.BindParameter[Any]] = {name: sa.bindparam(f"its_{name}") for name in STEP}
MOVE_ROW = ROW.update().where(ROW.c.data_hash == _ITS["data_hash"])
MOVE_ROW = MOVE_ROW.values({name: _ITS[name] for name in ("state", "reason", "message")})
MOVE_ROW = MOVE_ROW.values(intent_digest=sa.func.coalesce(_ITS["intent_digest"], ROW.c.intent_digest))
"""One step of each of many rows: parameters are called `its_` and a name of STEP."""


def all_detections(recipe_id: str) -> sa.ColumnElement[bool]:
    """The last chunks of rows of which all detections are kept."""
    return sa.and_(DETECTIONS.c.recipe_id == recipe_id, DETECTIONS.c.ends_row)


def on_main(project_hash: str) -> sa.ColumnElement[bool]:
    return sa.and_(RECEIPT.c.project_hash == project_hash, RECEIPT.c.branch == MAIN_BRANCH)


def insert(table: sa.Table, db: sa.Connection) -> sqlite.Insert | postgresql.Insert:
    """An INSERT that may say what becomes of a row whose key is there: each database has its own."""
    return postgresql.insert(table) if db.dialect.name == "postgresql" else sqlite.insert(table)


def upsert(table: sa.Table, db: sa.Connection) -> sa.Executable:
    """Puts rows into the table, in place of those with their keys."""
    adding = insert(table, db)
    columns = [column.name for column in table.c if not column.primary_key]
    values = {name: adding.excluded[name] for name in columns}
    return adding.on_conflict_do_update(index_elements=list(table.primary_key), set_=values)

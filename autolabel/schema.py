"""The ledger's tables, and the steps from each released schema to the next."""

from __future__ import annotations

import sqlalchemy as sa
from sqlalchemy.dialects.sqlite import insert

from autolabel.core.rows import MAIN_BRANCH

VERSION = 7

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


MIGRATIONS = {
    1: "ALTER TABLE detections ADD COLUMN ends_row BOOLEAN NOT NULL DEFAULT 1",
    2: "ALTER TABLE row ADD COLUMN failed_downloads INTEGER NOT NULL DEFAULT 0",
    3: "ALTER TABLE run ADD COLUMN lease_until FLOAT",
    4: "ALTER TABLE receipt ADD COLUMN edited_at FLOAT",
    5: "ALTER TABLE receipt ADD COLUMN samples_per_second FLOAT DEFAULT 0",
    6: "CREATE TABLE undo (project_hash TEXT NOT NULL, recipe_id TEXT NOT NULL, data_hash TEXT NOT NULL, "
    "branch TEXT NOT NULL, from_stage TEXT, undone_at FLOAT, "
    "PRIMARY KEY (project_hash, recipe_id, data_hash, branch))",
}
"""From each schema version to the next."""


# A receipt whose labels nobody has taken back since.
STANDS = ~sa.exists().where(
    *(UNDO.c[name] == RECEIPT.c[name] for name in ("project_hash", "recipe_id", "data_hash", "branch")),
    UNDO.c.undone_at >= RECEIPT.c.at,
)


def all_detections(recipe_id: str) -> sa.ColumnElement[bool]:
    """The last chunks of rows of which all detections are kept."""
    return sa.and_(DETECTIONS.c.recipe_id == recipe_id, DETECTIONS.c.ends_row)


def on_main(project_hash: str) -> sa.ColumnElement[bool]:
    return sa.and_(RECEIPT.c.project_hash == project_hash, RECEIPT.c.branch == MAIN_BRANCH)


def upsert(table: sa.Table) -> sa.Executable:
    """Puts rows into the table, in place of those with their keys."""
    adding = insert(table)
    columns = [column.name for column in table.c if not column.primary_key]
    return adding.on_conflict_do_update(None, set_={name: adding.excluded[name] for name in columns})

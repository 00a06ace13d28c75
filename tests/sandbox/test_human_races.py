"""T7: nothing that people make is lost while pushes to every destination run beside them."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence

from autolabel.core.rows import LabelRow
from autolabel.protocols import Outcome
from autolabel.remote.sink import EncordSink
from torture_people import run

SEED = 20261121
EDITS = 2000
PATIENCE_S = 3.0
"""Where the tasks are at an Agent stage, nobody comes."""


def test_nothing_that_people_make_at_any_moment_is_lost_or_claimed_as_ours() -> None:
    print(f"seed {SEED}, at least {EDITS} edits")
    assert run(SEED, EDITS) == []


class OverwritingSink(EncordSink):
    """Copies to main whatever stands there; and so that there is something, it waits for people to come first."""

    def copy_to_main(self, rows: Sequence[LabelRow], *, include_assigned: bool) -> Mapping[str, Outcome]:
        hashes = [row.data_hash for row in rows]
        project = self._connection.project
        limit_s = time.monotonic() + PATIENCE_S
        while not self._are_drawn_on(hashes) and time.monotonic() < limit_s:
            time.sleep(0.01)
        project.copy_labels_to_branch("main", source_branch=self._branch, overwrite=True, data_hashes=hashes)
        return super().copy_to_main(rows, include_assigned=include_assigned)

    def _are_drawn_on(self, hashes: Sequence[str]) -> bool:
        rows = self._connection.project.list_label_rows_v2(data_hashes=hashes, branch_name="main")
        opened = [row for row in rows if row.label_hash]
        for row in opened:
            row.initialise_labels()
        return any(row.get_object_instances() for row in opened)


def test_a_sink_that_overwrites_is_found_out() -> None:
    assert any("somebody's object" in text for text in run(SEED, 200, OverwritingSink))

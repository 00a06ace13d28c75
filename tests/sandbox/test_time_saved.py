"""People of known pace and taste work with and without pre-labels: the timers tell the ratio that they truly have."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime
from itertools import cycle
from pathlib import Path

import numpy as np

from annotators import Annotator, Thing, annotate, approve, mean_seconds, prelabel
from autolabel.evaluation.timing import describe, time_ratio
from autolabel.evaluation.values import TimeRatio
from autolabel.remote.client import connect, read_key_file
from autolabel.remote.reviewed import EncordInspector
from sandbox.conftest import RunningSandbox, Start

TEAM = [Annotator(f"{pace}@example.com", pace, noise=0.15) for pace in (0.7, 1.0, 2.0)]
TRUTH = [Thing("blue syringe", (x, 0.1, 0.2, 0.2)) for x in (0.1, 0.4, 0.7)]
SHOWN = [*TRUTH[:2], Thing("blue syringe", (0.73, 0.12, 0.2, 0.2))]
WITH = Counter({("kept", "blue syringe"): 2, ("edited", "blue syringe"): 1})
WITHOUT = Counter({("added", "blue syringe"): 3})
TRUE_RATIO = mean_seconds(TEAM[0], WITH) / mean_seconds(TEAM[0], WITHOUT)
ROWS = 48


def work(sandbox: RunningSandbox, data_hashes: Sequence[str]) -> dict[str, tuple[int, str]]:
    """Annotated in turns, reviewed in a quarter of the time: the seconds of each, and whose it was."""
    rng, done = np.random.default_rng(7), {}
    for by, data_hash in zip(cycle(TEAM), data_hashes, strict=False):
        seconds = annotate(sandbox, by, data_hash, TRUTH, rng).seconds
        approve(sandbox, "reviewer@example.com", data_hash, round(seconds / 4))
        done[data_hash] = (seconds + round(seconds / 4), by.email)
    return done


def by_timers(sandbox: RunningSandbox) -> Counter[str]:
    """Seconds of each data unit, at all stages."""
    (project_hash,) = sandbox.projects.values()
    connection = connect(project_hash, sandbox.domain, read_key_file(Path(sandbox.ssh_key_file)))
    stages = [str(stage.uuid) for stage in connection.project.workflow.stages]
    told: Counter[str] = Counter()
    for entry in EncordInspector(connection).time_spent(stages, datetime(2020, 1, 1, tzinfo=UTC)):
        told[entry.data_hash] += entry.seconds
    return told


def test_the_platforms_timers_tell_the_ratio_at_which_people_truly_work(start: Start) -> None:
    sandbox = start("demo", ROWS)
    rows = [row for row in sandbox.project().list_label_rows_v2() if row.label_hash is None]
    chance = np.random.default_rng(3)
    shown = [row for row in rows if chance.random() < 0.6]
    prelabel(sandbox.project(), shown, SHOWN)
    done = work(sandbox, [row.data_hash for row in rows])
    told = by_timers(sandbox)
    assert told == {data_hash: seconds for data_hash, (seconds, _) in done.items()}
    who = [done[data_hash][1] for data_hash in told]
    found = time_ratio(np.array([*told.values()], float), np.isin([*told], [row.data_hash for row in shown]), who)
    print(f"true ratio {TRUE_RATIO:.3f}; {describe(found)}")
    assert isinstance(found, TimeRatio)
    assert found.ratio.low <= TRUE_RATIO <= found.ratio.high < 1

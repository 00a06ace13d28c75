"""A run that has lost its locks sends nothing more, and the next one goes on from there."""

from __future__ import annotations

from pathlib import Path

import pytest

from autolabel.core.rows import MAIN_BRANCH, Destination
from autolabel.errors import TransientLedgerError
from autolabel.operate import Undo, read_run
from autolabel.plan import Options
from autolabel.protocols import Standing
from autolabel.sync import Ports, Run
from benches import Bench, agent_platform, rows, waiting
from platform_fakes import (
    AGENT,
    ANNOTATE,
    RECIPE,
    FakeGallery,
    FakePlatform,
    FakeRetractor,
    ScriptedInference,
    make_project,
    make_row,
)


def lost() -> None:
    raise TransientLedgerError("the locks of this run are lost")


@pytest.mark.parametrize("destination", [Destination.MAIN, Destination.BRANCH, Destination.AGENT_STAGE])
def test_a_push_sends_nothing_and_the_next_one_finishes(tmp_path: Path, destination: Destination) -> None:
    at_stage = destination == Destination.AGENT_STAGE
    bench = Bench(tmp_path, agent_platform(waiting("a"), waiting("b")) if at_stage else FakePlatform(rows(2)))
    ports = Ports(bench.platform, bench.platform, bench.ledger, bench.inference, tmp_path, still_held=lost)
    options = Options(destination=destination)
    plan = bench.plan(destination=destination)
    with pytest.raises(TransientLedgerError):
        Run(plan, RECIPE, ports, "run", FakeGallery()).execute(options, lambda tally: None)
    assert bench.platform.writes == []
    assert bench.push(destination=destination).tally.labelled == 2


def test_a_task_of_a_row_without_labels_is_not_moved_on_either(tmp_path: Path) -> None:
    bench = Bench(tmp_path, agent_platform(waiting("a")), ScriptedInference(cars=0))
    ports = Ports(bench.platform, bench.platform, bench.ledger, bench.inference, tmp_path, still_held=lost)
    plan = bench.plan(destination=Destination.AGENT_STAGE)
    with pytest.raises(TransientLedgerError):
        Run(plan, RECIPE, ports, "run", FakeGallery()).execute(Options(), lambda tally: None)
    assert bench.platform.writes == []


def test_an_undo_edits_nothing_and_moves_nothing(tmp_path: Path) -> None:
    bench = Bench(tmp_path, agent_platform(waiting("a")))
    run = bench.push(destination=Destination.AGENT_STAGE)
    (receipt,) = bench.ledger.receipts(run.id)
    standing = Standing(make_row("a", stage_uuid=AGENT.uuid), frozenset(receipt["objects"]))
    retractor = FakeRetractor({(MAIN_BRANCH, "a"): standing})
    work = Undo(
        read_run(bench.ledger, run.id), make_project(AGENT, ANNOTATE), retractor, bench.ledger, AGENT, still_held=lost
    )
    with pytest.raises(TransientLedgerError):
        work.execute(work.plan(via_agent_stage=False))
    assert (retractor.moves, retractor.standing[MAIN_BRANCH, "a"]) == ([], standing)

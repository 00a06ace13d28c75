"""How long people worked, told by the sandbox's timers to the real SDK and to us."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import UUID

import pytest
from encord.orm.analytics import TimeSpent

from autolabel.errors import PermanentNotFoundError
from autolabel.evaluation.values import TimeEntry
from autolabel.remote.client import Connection, connect, read_key_file
from autolabel.remote.reviewed import EncordInspector
from sandbox.conftest import RunningSandbox, Start

pytestmark = pytest.mark.sdk
ANN, REV = "ann@example.com", "rev@example.com"
LONG_AGO = datetime(2020, 1, 1, tzinfo=UTC)
ANALYTICS = {"path_contains": "time-spent"}


@pytest.fixture
def sandbox(start: Start) -> RunningSandbox:
    return start("demo", 3)


def connected(sandbox: RunningSandbox) -> Connection:
    (project_hash,) = sandbox.projects.values()
    return connect(project_hash, sandbox.domain, read_key_file(Path(sandbox.ssh_key_file)))


def told(sandbox: RunningSandbox, **wanted: object) -> list[TimeSpent]:
    return list(sandbox.project().list_time_spent(**{"start": LONG_AGO, **wanted}))  # type: ignore[arg-type]


def stages(sandbox: RunningSandbox) -> list[str]:
    return [str(stage.uuid) for stage in sandbox.project().workflow.stages]


def test_what_people_spend_is_booked_to_them_and_to_the_stage_at_which_they_act(sandbox: RunningSandbox) -> None:
    row = sandbox.project().list_label_rows_v2()[0]
    for action, email, seconds in [("open", ANN, 20), ("submit", ANN, 40), ("approve", REV, 15)]:
        sandbox.human(action, row, email=email, seconds=seconds)
    annotate, review, _done = sandbox.project().workflow.stages
    found = connected(sandbox)
    assert EncordInspector(found).time_spent(stages(sandbox), LONG_AGO) == [
        TimeEntry(row.data_hash, str(annotate.uuid), ANN, 60),
        TimeEntry(row.data_hash, str(review.uuid), REV, 15),
    ]
    assert {entry.project_user_role.name for entry in told(sandbox)} == {"ANNOTATOR", "REVIEWER"}


def test_the_timers_are_told_by_stage_by_person_and_by_window(sandbox: RunningSandbox) -> None:
    first, second, _third = sandbox.project().list_label_rows_v2()
    sandbox.human("submit", first, email=ANN, seconds=30)
    sandbox.human("approve", first, email=REV, seconds=10)
    sandbox.human("open", second, email=REV, seconds=5)
    tomorrow = datetime.now(UTC) + timedelta(days=1)
    annotate = UUID(stages(sandbox)[0])
    assert sum(entry.time_spent_seconds for entry in told(sandbox, workflow_stage_uuid=annotate)) == 35
    assert sum(entry.time_spent_seconds for entry in told(sandbox, user_email=REV)) == 15
    assert told(sandbox, start=tomorrow) == told(sandbox, end=LONG_AGO) == []


def test_work_over_midnight_is_told_day_by_day_and_summed_for_us(sandbox: RunningSandbox) -> None:
    row, week_s = sandbox.project().list_label_rows_v2()[0], 7 * 86400
    sandbox.human("open", row, seconds=week_s)
    days = told(sandbox)
    assert len({entry.period_start_time for entry in days}) == len(days) in {7, 8}
    assert all(entry.period_end_time - entry.period_start_time == timedelta(days=1) for entry in days)
    assert [entry.seconds for entry in EncordInspector(connected(sandbox)).time_spent(stages(sandbox), LONG_AGO)] == [
        week_s
    ]


def test_more_timers_than_a_page_holds_all_come_and_outlive_a_restart(sandbox: RunningSandbox, start: Start) -> None:
    row = sandbox.project().list_label_rows_v2()[0]
    people = [f"{number}@example.com" for number in range(205)]
    for number, email in enumerate(people):
        sandbox.human("open", row, email=email, seconds=number + 1)
    found = EncordInspector(connected(start())).time_spent(stages(sandbox), LONG_AGO)
    assert [(entry.user_email, entry.seconds) for entry in found] == list(zip(people, range(1, 206), strict=True))


def test_an_action_without_seconds_starts_no_timer_and_no_stage_asks_nothing(sandbox: RunningSandbox) -> None:
    sandbox.human("open", sandbox.project().list_label_rows_v2()[0])
    assert told(sandbox) == []
    connection, mark = connected(sandbox), len(sandbox.log())
    assert (EncordInspector(connection).time_spent([], LONG_AGO), len(sandbox.log())) == ([], mark)


def test_a_lost_answer_is_asked_for_again_and_a_refusal_is_ours(sandbox: RunningSandbox) -> None:
    sandbox.human("open", sandbox.project().list_label_rows_v2()[0], seconds=7)
    connection = connected(sandbox)
    sandbox.fault("reset_after", match=ANALYTICS)
    assert [entry.seconds for entry in EncordInspector(connection).time_spent(stages(sandbox), LONG_AGO)] == [7]
    sandbox.fault("status", status=404, match=ANALYTICS)
    with pytest.raises(PermanentNotFoundError, match="how long people worked"):
        EncordInspector(connection).time_spent(stages(sandbox), LONG_AGO)

"""How long people worked on data units, by the platform's own timers. Changes nothing there."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from datetime import datetime

from autolabel.evaluation.values import TimeEntry
from autolabel.remote.client import Connection, remote_call, retrying


@retrying
def time_spent(connection: Connection, stage_uuids: Sequence[str], since: datetime) -> list[TimeEntry]:
    """One entry for each person, data unit and stage, from the day of `since` (with an offset) until now.

    The platform tells whole days, and nothing of data units on which nobody spent time. Raises AutolabelError.
    """
    if not stage_uuids:  # which the platform takes as all of them
        return []
    seconds: Counter[tuple[str, str, str]] = Counter()
    with remote_call("reading how long people worked"):
        for told in connection.project.list_time_spent(since, workflow_stage_uuid=list(stage_uuids)):
            stage_uuid = str(told.workflow_stage.uuid) if told.workflow_stage else ""
            seconds[str(told.data_uuid), stage_uuid, told.user_email] += told.time_spent_seconds
    return [TimeEntry(*key, total) for key, total in seconds.items()]

"""The time that people took for rows: who worked on each, and whether those of a run went quicker."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass, field
from datetime import UTC, datetime

import numpy as np

from autolabel.errors import PermanentAccessError, PermanentNotFoundError, PermanentRejectedError
from autolabel.evaluation.timing import ARMS, describe, time_ratio
from autolabel.evaluation.values import TimeRatio, TooFew
from autolabel.protocols import Inspector

ANNOTATING = frozenset({"ANNOTATION", "CONSENSUS_ANNOTATION"})
TIMED = ANNOTATING | {"REVIEW", "CONSENSUS_REVIEW"}
MOST_UNTIMED = 0.1
"""Share of an arm's rows without an annotator's time from which on what is left of it is no sample of it."""

NO_HOLDOUT = (
    "nothing to compare with, since no row was held out: with AUTOLABEL_HOLDOUT=0.1 the next push leaves one row in "
    "ten to people, chosen by chance, and what they take for it is compared here once they have finished"
)


@dataclass(frozen=True)
class Work:
    """By data hash: who worked longest on it as an annotator, and everybody's seconds on it.

    `why_unknown`: why the platform told nothing of it, "" where it did.
    """

    annotators: Mapping[str, str] = field(default_factory=dict)
    seconds: Mapping[str, int] = field(default_factory=dict)
    why_unknown: str = ""


def read_work(inspector: Inspector, kinds: Mapping[str, str], since_s: float) -> Work:
    """Annotators' and reviewers' work since then; `kinds`: stage UUID -> its kind."""
    seconds: Counter[str] = Counter()
    annotating: defaultdict[str, Counter[str]] = defaultdict(Counter)
    timed = [uuid for uuid, kind in kinds.items() if kind in TIMED]
    try:
        spent = inspector.time_spent(timed, datetime.fromtimestamp(since_s, UTC))
    except (PermanentAccessError, PermanentNotFoundError, PermanentRejectedError) as error:
        return Work(why_unknown=str(error))
    for entry in spent:
        seconds[entry.data_hash] += entry.seconds
        if entry.seconds and kinds.get(entry.stage_uuid) in ANNOTATING:
            annotating[entry.data_hash][entry.user_email] += entry.seconds
    busiest = {key: max(sorted(people), key=people.__getitem__) for key, people in annotating.items()}
    return Work(busiest, seconds)


def compare(
    work: Work, with_labels: Set[str], held_out: Set[str], done: Set[str]
) -> tuple[TimeRatio | TooFew | None, str]:
    """How long rows took as chance assigned them, whatever came of them then; and that in words.

    Of each arm those that are `done`. No figure where rows of an arm lack an annotator's time: which ones do depends
    on what was proposed in them, so that what is left would be chosen by its outcome.
    """
    if work.why_unknown:
        return None, f"not known: {work.why_unknown}"
    if not held_out:
        return None, NO_HOLDOUT
    arms = (with_labels & done, held_out & done)
    for name, arm in zip(ARMS, arms, strict=True):
        untimed = len(arm - work.annotators.keys())
        if untimed > MOST_UNTIMED * len(arm):
            return None, (
                f"cannot be compared: no annotator worked on {untimed} of the {len(arm)} rows {name} pre-labels that "
                "are complete, and without these the two groups are not alike"
            )
    keys = sorted((arms[0] | arms[1]) & work.annotators.keys())
    result = _ratio(work, keys, arms[0])
    return result, describe(result)


def _ratio(work: Work, keys: Sequence[str], with_labels: Set[str]) -> TimeRatio | TooFew:
    seconds = np.array([work.seconds[key] for key in keys], np.float64)
    had_labels = np.array([key in with_labels for key in keys], np.bool_)
    return time_ratio(seconds, had_labels, [work.annotators[key] for key in keys])

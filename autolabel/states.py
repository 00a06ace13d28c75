"""What a row goes through, and the values that cross the ledger's border.

States and the only ways between them:

    found -> leased -> inferred -> intent -> written -> done
    found, leased, inferred, intent, written -> left_alone   (a person came first; looked at again on the next run)
    leased, inferred, intent, written        -> set_aside    (tried, refused, with its reason)
    leased                                   -> found        (the run that held it ended)
    inferred                                 -> done         (no detections: nothing to write)
    written                                  -> intent       (the run died before the task moved on: written again)
    done                                     -> left_alone   (people replaced what we wrote; or it was undone)
    left_alone, set_aside                    -> found        (it has become free; somebody asked for another try)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from autolabel.core.detections import FrameLabels
from autolabel.protocols import Receipt


class State(StrEnum):
    FOUND = "found"
    LEASED = "leased"
    INFERRED = "inferred"
    INTENT = "intent"
    WRITTEN = "written"
    DONE = "done"
    LEFT_ALONE = "left_alone"
    SET_ASIDE = "set_aside"


ENDS = frozenset({State.LEFT_ALONE, State.SET_ASIDE})
BEGUN = frozenset({State.INTENT, State.WRITTEN})
"""Where a write may have reached the platform already."""
SETTLED = ENDS | {State.DONE}
ALLOWED: Mapping[State, frozenset[State]] = {
    State.FOUND: frozenset({State.LEASED, State.LEFT_ALONE}),
    State.LEASED: ENDS | {State.FOUND, State.INFERRED},
    State.INFERRED: ENDS | {State.INTENT, State.DONE},
    State.INTENT: ENDS | {State.INTENT, State.WRITTEN},
    State.WRITTEN: ENDS | {State.INTENT, State.DONE},
    State.DONE: frozenset({State.LEFT_ALONE}),
    State.LEFT_ALONE: frozenset({State.FOUND}),
    State.SET_ASIDE: frozenset({State.FOUND}),
}


@dataclass(frozen=True)
class Job:
    """One recipe on one project towards one destination: what a row's state belongs to."""

    project_hash: str
    recipe_id: str
    destination: str


@dataclass(frozen=True)
class Record:
    """`intent_digest`: of the last write that was announced for the row."""

    state: State
    reason: str | None
    attempts: int
    run_id: str
    intent_digest: str | None = None

    @property
    def is_set_aside(self) -> bool:
        return self.state == State.SET_ASIDE


@dataclass(frozen=True)
class Landed:
    """What `main` held of ours in a row when our writes there were read back.

    - `objects`: their hashes.
    - `edited_at_s`: as the listing said then, or when it was looked at last; see `LabelRow`.
    - `age_s`: seconds since the latest write was read back.
    """

    objects: frozenset[str]
    edited_at_s: float | None
    age_s: float


@dataclass(frozen=True)
class Move:
    """A step of one row: where to, and for `left_alone` and `set_aside` why."""

    data_hash: str
    state: State
    reason: str | None = None
    message: str | None = None
    intent_digest: str | None = None
    receipt: Receipt | None = None


@dataclass(frozen=True)
class Claims:
    """What a run got, as it stands now, and which run has or settled each of the others; by data hash."""

    taken: Mapping[str, Record]
    elsewhere: Mapping[str, str]


@dataclass(frozen=True)
class Chunk:
    """What inference said of some frames of a row (at least one, in order); `ends_row` with the last of them."""

    data_hash: str
    frames: Sequence[FrameLabels]
    ends_row: bool

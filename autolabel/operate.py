"""Takes a run back as far as no person's work is in the way, and tells where an object came from."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from functools import partial
from typing import Any

from autolabel.core.assemble import Instance
from autolabel.core.rows import MAIN_BRANCH as MAIN
from autolabel.core.rows import Destination, LabelRow, Project, Stage
from autolabel.errors import PermanentNotFoundError, PermanentRejectedError, PermanentUsageError
from autolabel.ledger import Ledger
from autolabel.plan import assemble_stored
from autolabel.protocols import Claim, Retractor, Standing
from autolabel.recipe import Recipe
from autolabel.states import Job, State


class Action(StrEnum):
    """What undoing does to a row of a branch; `SETTLE`: nothing of ours stands there, so only the ledger learns."""

    EMPTY = "empty"
    EDIT = "edit"
    MOVE_AND_EDIT = "move_and_edit"
    SETTLE = "settle"
    LEAVE = "leave"


class Why(StrEnum):
    """Why a row is left as it is."""

    GONE = "gone"
    CHANGED = "changed"
    ALL_TOUCHED = "all_touched"
    ASSIGNED = "assigned"
    ELSEWHERE = "elsewhere"
    REFUSED = "refused"
    UNREADABLE = "unreadable"


WHY_TEXT: Mapping[Why, str] = {
    Why.GONE: "no longer in the project",
    Why.CHANGED: "somebody changed it on our branch",
    Why.ALL_TOUCHED: "people have worked on every object",
    Why.ASSIGNED: "assigned to a person",
    Why.ELSEWHERE: "its task is not at the Agent stage",
    Why.REFUSED: "it could not be saved:",
    Why.UNREADABLE: "something stands there that cannot be read",
}


@dataclass(frozen=True)
class Step:
    """What is to become of a run's labels in a row of one branch, or has.

    - `objects`: how many are taken away; `kept`: how many of ours stay, since somebody touched them.
    - `message`: what the platform said, where it refused.
    """

    claim: Claim
    action: Action
    title: str = ""
    objects: int = 0
    kept: int = 0
    why: Why | None = None
    message: str = ""


@dataclass(frozen=True)
class WrittenRun:
    """A run as the ledger knows it."""

    id: str
    job: Job
    recipe: Recipe

    @property
    def branch(self) -> str:
        """The one that counts: a row is undone when it is undone there."""
        return self.recipe.branch if self.job.destination == Destination.BRANCH else MAIN


def read_run(ledger: Ledger, run_id: str) -> WrittenRun:
    """Raises PermanentUsageError for an unknown run."""
    record = ledger.run(run_id)
    if record is None:
        raise PermanentUsageError(f"the ledger knows no run {run_id!r}; `autolabel status` lists them")
    job = Job(record["project_hash"], record["recipe_id"], record["destination"])
    return WrittenRun(run_id, job, Recipe.from_json(json.loads(record["recipe"])))


class Undo:
    """Plans and carries out the undoing of one run; the caller holds the project's lock alone.

    `main` is edited only where a task sits, assigned to nobody, at our `agent_stage`.
    """

    def __init__(
        self,
        run: WrittenRun,
        project: Project,
        retractor: Retractor,
        ledger: Ledger,
        agent_stage: Stage | None,
    ) -> None:
        self.run = run
        self._retractor, self._ledger = retractor, ledger
        self._agent = agent_stage.uuid if agent_stage else None
        first = project.workflow.first_human_stage
        self._first = first.uuid if first else None
        self._marks: Mapping[tuple[str, str], Mapping[str, Any]] = {}

    def plan(self, *, via_agent_stage: bool) -> list[Step]:
        """What would become of every row that the run wrote and that is not undone yet; only looks.

        `via_agent_stage`: new tasks of the first human stage may go to the Agent stage and back.
        """
        self._marks = self._ledger.undo_marks(self.run.job.project_hash, self.run.job.recipe_id)
        claims = self._claims()
        steps: list[Step] = []
        waiting: frozenset[str] = frozenset()
        if via_agent_stage and self._agent and self._first:
            on_main = [claim.data_hash for claim in claims if claim.branch == MAIN]
            waiting = self._retractor.waiting(self._first, on_main)
        for branch in dict.fromkeys(claim.branch for claim in claims):
            mine = [claim for claim in claims if claim.branch == branch]
            found = self._retractor.look(mine)
            steps += [self._judge(claim, found.get(claim.data_hash), waiting) for claim in mine]
        return steps

    def execute(self, steps: Sequence[Step]) -> list[Step]:
        """Do it, row by row, each judged afresh; what became of each. Killed anywhere, the next undo goes on."""
        return [self._isolated(step) for step in steps]

    def _claims(self) -> list[Claim]:
        """What the run wrote by its receipts; rows that it announced and never settled may hold all of theirs."""
        run, job = self.run, self.run.job
        receipts = self._ledger.receipts(run.id)
        keys = [receipt["data_hash"] for receipt in receipts]
        elsewhere = self._ledger.written_to(job.project_hash, run.recipe.branch, keys)  # and so by a run of its own
        found: list[Claim] = []
        for receipt in receipts:
            claim = self._claim(receipt["branch"], receipt["data_hash"], receipt["objects"], receipt["digest"])
            found.append(claim)
            if claim.branch == MAIN and claim.data_hash not in elsewhere:
                found.append(replace(claim, branch=run.recipe.branch))
        for data_hash in self._announced():
            found += [
                self._claim(branch, data_hash, None) for branch in dict.fromkeys((run.branch, run.recipe.branch))
            ]
        return [claim for claim in found if not self._mark(claim).get("undone_at")]

    def _announced(self) -> list[str]:
        records = self._ledger.records(self.run.job)
        return [k for k, record in records.items() if record.run_id == self.run.id and record.state == State.INTENT]

    def _claim(self, branch: str, data_hash: str, objects: Mapping[str, str] | None, digest: str = "") -> Claim:
        hashes = None if objects is None else frozenset(objects)
        return Claim(branch, data_hash, hashes, digest, partial(written_instances, self._ledger, self.run.recipe))

    def _judge(self, claim: Claim, standing: Standing | None, waiting: frozenset[str]) -> Step:
        if standing is None:
            return Step(claim, Action.LEAVE, claim.data_hash, why=Why.GONE)
        row, kept = standing.row, len(standing.touched)
        if standing.is_readable and not standing.untouched and (not kept or self._mark(claim)):
            return Step(claim, Action.SETTLE, row.title)
        if why := self._why_left(claim, standing, waiting):
            return Step(claim, Action.LEAVE, row.title, kept=kept, why=why)
        if claim.branch != MAIN:
            action = Action.EMPTY
        else:
            action = Action.EDIT if row.stage_uuid == self._agent else Action.MOVE_AND_EDIT
        return Step(claim, action, row.title, len(standing.untouched), kept)

    def _why_left(self, claim: Claim, standing: Standing, waiting: frozenset[str]) -> Why | None:
        """Our branch is emptied whole or not at all; on `main` it is the stage that says whether people may look."""
        if not standing.is_readable:
            return Why.UNREADABLE
        if claim.branch != MAIN:
            return Why.CHANGED if standing.touched or standing.has_others else None
        if not standing.untouched:
            return Why.ALL_TOUCHED
        if standing.row.assigned_to is not None:
            return Why.ASSIGNED
        reachable = standing.row.stage_uuid == self._agent or standing.row.data_hash in waiting
        return None if reachable else Why.ELSEWHERE

    def _isolated(self, step: Step) -> Step:
        """A row whose task the platform does not move stops no other; the next undo goes on with it."""
        try:
            return self._carry_out(step)
        except (PermanentRejectedError, PermanentNotFoundError) as error:
            return replace(step, action=Action.LEAVE, why=Why.REFUSED, message=str(error))

    def _carry_out(self, step: Step) -> Step:
        """One row: to the Agent stage if need be, judged and edited there, and back whatever became of it."""
        claim, job = step.claim, self.run.job
        begin = partial(self._ledger.begin_undo, job, claim.data_hash, claim.branch)
        back_to = self._mark(claim).get("from_stage")
        if step.action == Action.MOVE_AND_EDIT and self._first and self._agent:
            back_to = self._first
            begin(back_to)
            self._retractor.move(claim.data_hash, self._first, self._agent)
        if step.action not in (Action.LEAVE, Action.SETTLE):
            begin(back_to)
            step = self._remove(claim)
        if back_to and self._agent:
            self._retractor.move(claim.data_hash, self._agent, back_to)
            begin(None)
        if step.action != Action.LEAVE:
            ends_row = claim.branch == self.run.branch
            self._ledger.end_undo(job, self.run.id, claim.data_hash, claim.branch, ends_row=ends_row)
        return step

    def _remove(self, claim: Claim) -> Step:
        """Take away what the row, read afresh, lets us take."""
        steps: list[Step] = []

        def choose(standing: Standing) -> frozenset[str]:
            steps.append(self._judge(claim, standing, waiting=frozenset()))
            return standing.untouched if steps[-1].action in (Action.EMPTY, Action.EDIT) else frozenset()

        try:
            after = self._retractor.remove(claim, choose)
        except (PermanentRejectedError, PermanentNotFoundError) as error:
            title = steps[-1].title if steps else claim.data_hash
            return Step(claim, Action.LEAVE, title, why=Why.REFUSED, message=str(error))
        if after is None:
            return self._judge(claim, None, waiting=frozenset())
        applied = steps[-1].action == Action.SETTLE or steps[-1].why == Why.ALL_TOUCHED
        return steps[0] if applied else steps[-1]  # the answer to the first save was lost, and it was applied

    def _mark(self, claim: Claim) -> Mapping[str, Any]:
        """What an earlier undo noted of the claim; nothing where none began."""
        return self._marks.get((claim.data_hash, claim.branch), {})


def written_instances(ledger: Ledger, recipe: Recipe, row: LabelRow) -> tuple[Instance, ...]:
    """What a row's stored detections come to: what was written."""
    return assemble_stored(ledger, recipe, row.data_hash, recipe.samples_per_second(row)).instances


def explain(ledger: Ledger, object_hash: str) -> dict[str, Any]:
    """Where an object of ours came from, out of the ledger alone. Raises PermanentUsageError for an unknown hash."""
    receipts = ledger.receipts(naming=object_hash)
    if not receipts:
        raise PermanentUsageError(
            f"the ledger knows no object {object_hash!r}: it is not ours, or was written from another AUTOLABEL_HOME"
        )
    told, run = receipts[-1], read_run(ledger, receipts[-1]["run_id"])
    recipe, config = run.recipe, run.recipe.config
    feature_hash = told["objects"][object_hash]
    cls = next(cls for cls in recipe.plan.classes if cls.feature_hash == feature_hash)
    return {
        "object": object_hash,
        "class": {"name": cls.name, "feature_hash": feature_hash, "shape": cls.shape},
        "project": told["project_hash"],
        "data_hash": told["data_hash"],
        "recipe": recipe.id,
        "confidence": config.confidence,
        "detector": {**config.detector.model_dump(), "digest": recipe.detector_digest},
        "segmenter": config.segmenter and {**config.segmenter.model_dump(), "digest": recipe.segmenter_digest},
        "written": _written(ledger, receipts),
        "frames": _frames(ledger, recipe, told, object_hash),
    }


def _written(ledger: Ledger, receipts: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Where and when an object was written, and whether that was undone."""
    marks = ledger.undo_marks(receipts[0]["project_hash"], receipts[0]["recipe_id"])
    return [
        {
            "run": receipt["run_id"],
            "destination": read_run(ledger, receipt["run_id"]).job.destination,
            "branch": receipt["branch"],
            "at": receipt["at"],
            "undone_at": marks.get((receipt["data_hash"], receipt["branch"]), {}).get("undone_at"),
        }
        for receipt in receipts
    ]


def _frames(
    ledger: Ledger, recipe: Recipe, receipt: Mapping[str, Any], object_hash: str
) -> list[dict[str, Any]] | None:
    """What was found on each frame; None where an older release did not note what it takes to tell."""
    rate, data_hash = receipt["samples_per_second"], receipt["data_hash"]
    if rate == 0:
        return None
    instances = assemble_stored(ledger, recipe, data_hash, rate).instances
    places = next((item.placements for item in instances if item.object_hash == object_hash), ())
    digests = {frame.frame_index: frame.image_digest for frame in ledger.detections(recipe.id, data_hash)}
    return [
        {
            "frame": place.frame_index,
            "prompt": found.prompt,
            "score": found.score,
            "box_xyxy_px": found.box_xyxy_px,
            "mask_score": found.mask.score if found.mask else None,
            "image_digest": digests[place.frame_index],
        }
        for place in places
        for found in [place.detection]
    ]

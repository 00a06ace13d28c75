"""Where a project's labels go, and through which stages of its workflow: settled before anything is written."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from autolabel.core.rows import Destination, Project, Stage
from autolabel.errors import PermanentUsageError


@dataclass(frozen=True)
class Route:
    """A destination, and in words why it is that one.

    - `agent_stage`: the Agent stage that is ours, if any.
    - `pull_from`: the annotation stage whose new tasks are moved there, labelled and sent on; None for none.
    """

    destination: Destination
    why: str
    agent_stage: Stage | None = None
    pull_from: Stage | None = None

    @property
    def is_direct(self) -> bool:
        """Whether `main` itself is saved to, which takes the project for one run alone."""
        return self.destination == Destination.AGENT_STAGE


def find_route(
    project: Project,
    destination: Destination | None,
    agent_stage: str | None,
    pull_from: str | None,
    include_assigned: bool,
) -> Route:
    """Work the route out: `agent_stage` and `pull_from` are titles; without a destination the workflow decides.

    Raises PermanentUsageError for a workflow that cannot be served safely, stages that are not there, and options
    that do not go with the destination.
    """
    if project.workflow.has_consensus:
        raise PermanentUsageError(
            f"project {project.title!r} has consensus stages; whether their branches inherit `main` is not known, so "
            "pre-labels could reach one annotator and not another. Nothing was changed; use a project without them"
        )
    stage = find_agent_stage(project, agent_stage)
    chosen, why = _chosen(destination, stage)
    if pull_from is not None and chosen != Destination.AGENT_STAGE:
        raise PermanentUsageError(
            f"--pull-from moves tasks to an Agent stage, so it goes with --to {Destination.AGENT_STAGE} and not with "
            f"--to {chosen}. Nothing was changed"
        )
    if include_assigned and chosen != Destination.MAIN:
        raise PermanentUsageError(
            f"--include-assigned goes with --to {Destination.MAIN} alone, where the platform itself skips a row that "
            f"its person has opened by then; --to {chosen} takes no task that a person has. Nothing was changed"
        )
    if chosen == Destination.AGENT_STAGE and stage is None:
        raise PermanentUsageError(
            f"project {project.title!r} has no Agent stage that is clearly ours; it has {_titles(project, 'AGENT')}: "
            "put one before people, or name one in AUTOLABEL_AGENT_STAGE. Nothing was changed"
        )
    return Route(chosen, why, stage, _human_stage(project, pull_from) if pull_from is not None else None)


def _chosen(asked: Destination | None, stage: Stage | None) -> tuple[Destination, str]:
    if asked is not None:
        return asked, "as asked for by --to"
    if stage is not None:
        return Destination.AGENT_STAGE, f"since tasks pass the Agent stage {stage.title} before people get them"
    return Destination.MAIN, "since no Agent stage is clearly ours"


def find_agent_stage(project: Project, named: str | None) -> Stage | None:
    """The Agent stage that is ours, if any. Raises PermanentUsageError where one is named that is not there."""
    stage = project.workflow.agent_stage(named)
    if stage is None and named is not None:
        raise PermanentUsageError(
            f"project {project.title!r} has no Agent stage called {named!r} (AUTOLABEL_AGENT_STAGE); "
            f"it has {_titles(project, 'AGENT')}. Nothing was changed"
        )
    return stage


def _human_stage(project: Project, title: str) -> Stage:
    found = next((stage for stage in project.workflow.human_stages if stage.title == title), None)
    if found is None:
        raise PermanentUsageError(
            f"project {project.title!r} has no annotation stage called {title!r} (--pull-from); "
            f"it has {_titles(project, 'ANNOTATION')}. Nothing was changed"
        )
    return found


def _titles(project: Project, kind: str) -> str:
    return ", ".join(repr(stage.title) for stage in project.workflow.stages if stage.kind == kind) or "none"


def check_way_back(stage: Stage, pathways: Mapping[str, str], project: Project, pull_from: Stage) -> None:
    """Raises PermanentUsageError where a task that was pulled to the Agent stage would not come before people."""
    human = {item.uuid for item in project.workflow.stages if item.kind in ("ANNOTATION", "REVIEW")}
    ways = {way.uuid: way for way in stage.pathways}
    for outcome, uuid in pathways.items():
        if ways[uuid].destination_uuid not in human:
            raise PermanentUsageError(
                f"tasks of {pull_from.title!r} that end {outcome} would leave Agent stage {stage.title!r} by pathway "
                f"{ways[uuid].title!r}, past all people: set AUTOLABEL_PATHWAYS__{outcome.upper()} to one that leads "
                "back, or leave out --pull-from. Nothing was changed"
            )


def choose_pathways(stage: Stage, named: Mapping[str, str | None]) -> dict[str, str]:
    """Outcome -> uuid of the pathway that its tasks take. Raises PermanentUsageError where that is not clear."""
    by_title = {way.title: way.uuid for way in stage.pathways}
    chosen: dict[str, str] = {}
    for outcome in ("labelled", "empty", "failed"):
        title = named.get(outcome) or (next(iter(by_title)) if len(by_title) == 1 else "")
        if title not in by_title:
            raise PermanentUsageError(
                f"Agent stage {stage.title!r} needs a pathway for rows that end {outcome}: set "
                f"AUTOLABEL_PATHWAYS__{outcome.upper()} to one of: {', '.join(sorted(by_title))}. Nothing was changed"
            )
        chosen[outcome] = by_title[title]
    return chosen

"""What Prometheus reads: the ledger as it stands at each scrape. Counters never go back while a process lives."""

from __future__ import annotations

import json
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from autolabel.overview import HOUR_S, Overview

Snapshot = Callable[[], Mapping[tuple[str, str], int]]
"""Webhook calls by (route, outcome)."""


@dataclass
class _Sums:
    """Over all runs that ended; each is read once. `seen`: their ids."""

    seen: set[str] = field(default_factory=set)
    until_s: float = 0.0
    runs: Counter[tuple[str, str]] = field(default_factory=Counter)
    objects: Counter[tuple[str, str]] = field(default_factory=Counter)
    frames: Counter[tuple[str]] = field(default_factory=Counter)
    seconds: Counter[tuple[str]] = field(default_factory=Counter)
    busy_s: Counter[tuple[str]] = field(default_factory=Counter)
    calls: Counter[tuple[str]] = field(default_factory=Counter)

    def add(self, run: Mapping[str, Any]) -> None:
        project, summary = run["project_hash"], json.loads(run["summary"])
        names = _class_names(run["recipe"])
        self.seen.add(run["id"])
        self.until_s = max(self.until_s, run["finished_at"])
        self.runs[project, run["ended"]] += 1
        for key, count in summary["objects"].items():
            self.objects[project, names.get(key, key)] += count
        self.frames[(project,)] += run["frames"] or 0
        self.seconds[(project,)] += run["seconds"] or 0
        for stage, its in summary.get("speed", {}).get("stages", {}).items():
            self.busy_s[(stage,)] += its["busy_s"]
        for status, count in summary.get("remote_calls", {}).items():
            self.calls[(str(status),)] += count


class LedgerCollector(Collector):
    """For one registry. Safe between threads. Raises what the ledger raises."""

    def __init__(self, overview: Overview, calls: Snapshot) -> None:
        self._overview, self._calls = overview, calls
        self._sums, self._lock = _Sums(), threading.Lock()

    def collect(self) -> Iterable[Metric]:
        with self._lock:
            return [*self._rows(), *self._looks(), *self._runs(), *self._asked()]

    def _rows(self) -> Iterable[Metric]:
        yield _gauge(
            "autolabel_rows",
            "Label rows that the ledger knows, by what became of them, once a recipe and destination. "
            "Alert when those of outcome set_aside grow: `autolabel status` says what is wrong with each.",
            ("project", "outcome", "reason"),
            {(project, outcome, why): rows for project, outcome, why, rows in self._overview.outcomes()},
        )

    def _looks(self) -> Iterable[Metric]:
        looks = self._overview.looks()
        project = ("project",)
        yield _gauge(
            "autolabel_project_info",
            "A project's title, to join with by its hash. Always 1.",
            ("project", "title"),
            {(look["project_hash"], look["project_title"]): 1 for look in looks},
        )
        yield _gauge(
            "autolabel_last_look_timestamp_seconds",
            "When a project was looked at last, whether there was something to do or not. "
            "Alert when cron's interval has passed twice since.",
            project,
            {(look["project_hash"],): look["at"] for look in looks},
        )
        yield _gauge(
            "autolabel_last_success_timestamp_seconds",
            "When a look at a project last ended without an error. Alert when you have waited too long.",
            project,
            {(look["project_hash"],): look["succeeded_at"] for look in looks if look["succeeded_at"]},
        )
        yield _gauge(
            "autolabel_last_look_failed",
            "1 where the latest look at a project ended with an error. Alert when it stays 1 for an hour.",
            project,
            {(look["project_hash"],): int(look["error"] is not None) for look in looks},
        )

    def _runs(self) -> Iterable[Metric]:
        sums = self._sums
        for run in self._overview.finished(sums.until_s - HOUR_S):  # the clocks of several hosts are not one
            if run["id"] not in sums.seen:
                sums.add(run)
        unfinished = self._overview.unfinished()
        killed = Counter((run["project_hash"],) for run in unfinished if not run["is_alive"])
        yield _counter(
            "autolabel_runs",
            "Runs by how they ended: finished, or stopped by an error. Alert when the stopped ones increase.",
            ("project", "ended"),
            sums.runs,
        )
        yield _gauge(
            "autolabel_runs_killed",
            "Runs without an end whose process is gone. Alert when they increase.",
            ("project",),
            killed,
        )
        yield _gauge(
            "autolabel_runs_under_way",
            "Runs that are under way now, whatever called for them.",
            (),
            {(): len(unfinished) - killed.total()},
        )
        yield _counter(
            "autolabel_objects",
            "Objects written, by class, of runs that ended. Alert when the rate of a class leaves what is usual.",
            ("project", "class"),
            sums.objects,
        )
        yield _counter("autolabel_inferred_frames", "Frames that models looked at.", ("project",), sums.frames)
        yield _counter("autolabel_run_seconds", "Seconds that runs took.", ("project",), sums.seconds)
        yield _counter(
            "autolabel_stage_busy_seconds",
            "Seconds that each stage of runs was busy, on all of its threads; the largest one limits the speed.",
            ("stage",),
            sums.busy_s,
        )
        yield _counter(
            "autolabel_remote_calls",
            "Requests to the platform by HTTP status, none without an answer. Alert when 429, 5xx or none increase.",
            ("status",),
            sums.calls,
        )

    def _asked(self) -> Iterable[Metric]:
        yield _gauge(
            "autolabel_queue_depth",
            "Runs that webhooks asked for and that are still owed. Alert when it stays above 0 for long.",
            (),
            {(): self._overview.owed().total()},
        )
        yield _counter(
            "autolabel_webhook_calls",
            "Webhook calls since this process began, by route and outcome. "
            "Alert when refused ones increase: a secret is out of date, or somebody forges calls.",
            ("route", "outcome"),
            self._calls(),
        )


def registry(overview: Overview, calls: Snapshot) -> CollectorRegistry:
    """One of its own: other libraries' metrics of this process are not in it."""
    own = CollectorRegistry(auto_describe=False)
    own.register(LedgerCollector(overview, calls))
    return own


def _class_names(recipe: str) -> dict[str, str]:
    """Feature hash -> name, of a run's recipe as the ledger keeps it."""
    classes = json.loads(recipe).get("plan", {}).get("classes", [])
    return {cls["feature_hash"]: cls["name"] for cls in classes}


def _gauge(name: str, text: str, labels: tuple[str, ...], values: Mapping[Any, float]) -> Metric:
    family = GaugeMetricFamily(name, text, labels=labels)
    for key, value in values.items():
        family.add_metric(key, value)
    return family


def _counter(name: str, text: str, labels: tuple[str, ...], values: Mapping[Any, float]) -> Metric:
    family = CounterMetricFamily(name, text, labels=labels)
    for key, value in values.items():
        family.add_metric(key, value)
    return family

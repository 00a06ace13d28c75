"""What Prometheus reads: every name by its conventions, sums that are the ledger's, counters that never go back."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import closing
from pathlib import Path

from prometheus_client import generate_latest
from prometheus_client.metrics_core import Metric
from prometheus_client.parser import text_string_to_metric_families

from autolabel.ledger import Ledger
from autolabel.service.metrics import registry
from autolabel.states import State
from past import CALLS, NOW_S, Past


def families(past: Past) -> list[Metric]:
    with closing(past.overview()) as overview:
        text = generate_latest(registry(overview, lambda: CALLS)).decode()
    return list(text_string_to_metric_families(text))


def numbers(told: Iterable[Metric]) -> dict[tuple[str, ...], float]:
    """(name, *labels in the order of their names) -> value."""
    samples = [sample for family in told for sample in family.samples]
    return {(one.name, *(one.labels[name] for name in sorted(one.labels))): one.value for one in samples}


def busy(folder: Path) -> Past:
    past = Past(folder)
    past.run("run-1", labelled="ab", empty="c", ends={"d": (State.SET_ASIDE, "decode")}, summary={})
    past.look(project_title='A "title"\nof two lines', run_id="run-1")
    past.run("run-2", labelled="e", summary={"stopped_by": "the service is away", "objects": {"gone": 4}})
    past.run("run-3", "other", labelled="a")
    past.look("other", error="away")
    past.wake()
    return past


def test_every_number_is_the_ledgers(tmp_path: Path) -> None:
    assert numbers(families(busy(tmp_path))) == {
        ("autolabel_rows", "labelled", "p", ""): 3,
        ("autolabel_rows", "empty", "p", ""): 1,
        ("autolabel_rows", "set_aside", "p", "decode"): 1,
        ("autolabel_rows", "labelled", "other", ""): 1,
        ("autolabel_project_info", "p", 'A "title"\nof two lines'): 1,
        ("autolabel_project_info", "other", ""): 1,
        ("autolabel_last_look_timestamp_seconds", "p"): NOW_S + 100,
        ("autolabel_last_look_timestamp_seconds", "other"): NOW_S + 200,
        ("autolabel_last_success_timestamp_seconds", "p"): NOW_S + 100,
        ("autolabel_last_look_failed", "p"): 0,
        ("autolabel_last_look_failed", "other"): 1,
        ("autolabel_runs_total", "finished", "p"): 1,
        ("autolabel_runs_total", "stopped", "p"): 1,
        ("autolabel_runs_killed", "other"): 1,
        ("autolabel_runs_under_way",): 0,
        ("autolabel_objects_total", "Car", "p"): 6,
        ("autolabel_objects_total", "gone", "p"): 4,
        ("autolabel_inferred_frames_total", "p"): 500,
        ("autolabel_run_seconds_total", "p"): 200,
        ("autolabel_stage_busy_seconds_total", "infer"): 121,
        ("autolabel_stage_busy_seconds_total", "deliver"): 19,
        ("autolabel_remote_calls_total", "200"): 40,
        ("autolabel_remote_calls_total", "429"): 2,
        ("autolabel_queue_depth",): 1,
        ("autolabel_webhook_calls_total", "accepted", "encord"): 40,
        ("autolabel_webhook_calls_total", "refused", "encord"): 2,
        ("autolabel_webhook_calls_total", "ignored", "bucket"): 1,
    }


def test_every_metric_says_what_it_is_and_is_named_by_the_conventions(tmp_path: Path) -> None:
    told = families(busy(tmp_path))
    assert len({family.name for family in told}) == len(told)
    for family in told:
        assert family.name.startswith("autolabel_")
        assert len(family.documentation) > 20
        assert family.documentation.endswith(".")
        assert family.type in ("gauge", "counter")
        assert all(sample.name.endswith("_total") == (family.type == "counter") for sample in family.samples)


def test_a_ledger_without_any_run_can_be_scraped(tmp_path: Path) -> None:
    found = [sample.value for family in families(Past(tmp_path)) for sample in family.samples]
    assert found == [0, 0, *CALLS.values()]


def test_counters_only_grow_and_count_each_run_once(tmp_path: Path) -> None:
    past = busy(tmp_path)
    with closing(past.overview()) as overview:
        scraped = registry(overview, lambda: CALLS)
        before = numbers(scraped.collect())
        assert numbers(scraped.collect()) == before
        past.now_s -= 150  # of a host whose clock is late
        past.run("run-4", labelled="f", summary={"remote_calls": {"none": 2}})
        after = numbers(scraped.collect())
    assert [key for key in before if key[0].endswith("_total") and after[key] < before[key]] == []
    assert (after["autolabel_inferred_frames_total", "p"], after["autolabel_remote_calls_total", "none"]) == (750, 2)


def test_a_run_that_looked_dead_and_then_ends_takes_no_counter_back(tmp_path: Path) -> None:
    past = busy(tmp_path)
    with closing(past.overview()) as overview, closing(Ledger(past.database, lambda: past.now_s)) as ledger:
        scraped = registry(overview, lambda: CALLS)
        before = numbers(scraped.collect())
        ledger.finish_run("run-3", past.summary("run-3", 1, 0))
        after = numbers(scraped.collect())
    assert [key for key in before if key[0].endswith("_total") and after.get(key, 0) < before[key]] == []
    assert after["autolabel_runs_total", "finished", "other"] == 1
    assert [("autolabel_runs_killed", "other") in told for told in (before, after)] == [True, False]


def test_runs_of_older_releases_count_as_far_as_they_tell(tmp_path: Path) -> None:
    past = Past(tmp_path)
    past.run("run-1", labelled="a", summary={"speed": {}, "remote_calls": {}})
    found = {s.name: s.value for family in families(past) for s in family.samples}
    assert (found["autolabel_runs_total"], found["autolabel_objects_total"]) == (1, 3)

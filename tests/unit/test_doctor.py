"""What the doctor makes of rights, workflow, ontology, clock and disk."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from pydantic import SecretStr

from autolabel.core.lint import Finding, Severity
from autolabel.core.rows import Pathway, Stage
from autolabel.doctor import (
    Check,
    Level,
    check_disk,
    check_ledger,
    check_models,
    check_role,
    check_runs,
    check_secret,
    check_unattended,
    check_workflow,
    diagnose,
    summarise,
)
from autolabel.errors import TransientServiceError
from autolabel.locks import hold
from autolabel.service.signatures import ENCORD
from autolabel.settings import Settings
from benches import Bench, rows
from platform_fakes import AGENT, ANNOTATE, DONE, FakePlatform, make_project

TWO_WAYS = (Pathway("1", "annotate", ANNOTATE.uuid), Pathway("2", "review", ANNOTATE.uuid))


def settings(home: Path, **changes: object) -> Settings:
    base = {"home": home, "domain": "http://127.0.0.1:9", "config": "demo", "device": "cpu"}
    return Settings(_env_file=None).model_copy(update=base | changes)


def levels(checks: list[Check]) -> dict[str, Level]:
    return {check.about: check.level for check in checks}


@pytest.mark.parametrize(
    ("role", "level"),
    [
        ("admin", Level.OK),
        ("annotator", Level.WARN),
        ("reviewer", Level.FAIL),
        ("viewer", Level.FAIL),
        ("", Level.WARN),
    ],
)
def test_rights_are_judged_by_the_role_of_the_key(role: str, level: Level) -> None:
    assert check_role(role).level == level


@pytest.mark.parametrize(
    ("stages", "expected"),
    [
        ((ANNOTATE, DONE), {"workflow": Level.OK}),
        ((AGENT, ANNOTATE, DONE), {"workflow": Level.OK, "agent stage": Level.OK}),
        ((Stage("a", "Other", "AGENT"), ANNOTATE), {"workflow": Level.OK, "agent stage": Level.WARN}),
        ((replace(AGENT, pathways=TWO_WAYS), ANNOTATE), {"workflow": Level.OK, "agent stage": Level.FAIL}),
        ((DONE,), {"workflow": Level.FAIL}),
        ((Stage("c", "Vote", "CONSENSUS_ANNOTATION"), DONE), {"workflow": Level.FAIL}),
    ],
)
def test_a_workflow_is_well_where_tasks_wait_for_annotators(
    tmp_path: Path, stages: tuple[Stage, ...], expected: dict[str, Level]
) -> None:
    assert levels(list(check_workflow(make_project(*stages), settings(tmp_path)))) == expected


def test_an_agent_stage_that_is_misspelt_fails_as_a_push_would(tmp_path: Path) -> None:
    (check,) = [
        check
        for check in check_workflow(make_project(AGENT, ANNOTATE), settings(tmp_path, agent_stage="Pre-lable"))
        if check.about == "agent stage"
    ]
    assert (check.level, "no Agent stage called 'Pre-lable'" in check.text) == (Level.FAIL, True)


def test_a_home_that_is_no_folder_fails(tmp_path: Path) -> None:
    (tmp_path / "reports").touch()
    assert check_disk(settings(tmp_path, max_media_bytes=1)).level == Level.FAIL
    assert check_disk(settings(tmp_path / "reports", max_media_bytes=1)).level == Level.FAIL


def test_the_worst_finding_of_the_ontology_is_told() -> None:
    vague, unknown = Finding(Severity.WARNING, "a", "vague", "x"), Finding(Severity.ERROR, "b", "unknown", "y")
    assert [check.level for check in summarise([])] == [Level.OK]
    assert [check.level for check in summarise([vague])] == [Level.WARN]
    (check,) = summarise([vague, unknown])
    assert (check.level, "unknown" in check.text) == (Level.FAIL, True)


def test_a_disk_that_cannot_hold_what_runs_ahead_is_a_warning(tmp_path: Path) -> None:
    assert check_disk(settings(tmp_path / "not" / "yet")).level == Level.OK
    check = check_disk(settings(tmp_path, batch_frames=10**9))
    assert (check.level, "the files of 4000000116 label rows may lie there" in check.text) == (Level.WARN, True)


def test_without_key_and_network_the_rest_is_still_told(tmp_path: Path) -> None:
    found = levels(list(diagnose(settings(tmp_path, ssh_key_file=None, ssh_key=None), None)))
    assert {name for name, level in found.items() if level == Level.FAIL} == {"key", "platform"}
    assert found["detector"] == found["tokeniser"] == found["segmenter"] == found["device"] == Level.OK


def test_weights_that_are_missing_are_a_failure_that_names_them(tmp_path: Path) -> None:
    config = tmp_path / "mine.yaml"
    config.write_text("detector: {family: grounding_dino, weights: /nowhere/at/all}\n")
    (check,) = [c for c in diagnose(settings(tmp_path, config=str(config)), None) if c.about == "models"]
    assert (check.level, "/nowhere/at/all" in check.text) == (Level.FAIL, True)


def test_weights_that_a_push_would_download_are_a_warning_that_says_how_to_get_them_first(tmp_path: Path) -> None:
    config = tmp_path / "mine.yaml"
    config.write_text("detector: {family: grounding_dino, weights: some-team/some-model}\n")
    (check,) = check_models(settings(tmp_path, config=str(config)))
    assert (check.level, check.about) == (Level.WARN, "detector")
    assert "size and licence not in the catalogue, see https://huggingface.co/some-team/some-model" in check.text
    assert "`autolabel models pull some-team/some-model`" in check.text


def fails_in_vain(bench: Bench, times: int) -> None:
    for _ in range(times):
        bench.now_s += 1
        bench.platform.fail_next_write = TransientServiceError("503 while saving")
        with pytest.raises(TransientServiceError):
            bench.push()


def test_three_runs_in_a_row_with_rows_and_none_written_fail_with_their_reasons(tmp_path: Path) -> None:
    bench = Bench(tmp_path, FakePlatform(rows(2)))
    fails_in_vain(bench, 2)
    assert [check.level for check in check_runs(settings(tmp_path), None)] == [Level.OK]
    fails_in_vain(bench, 1)
    (check,) = check_runs(settings(tmp_path), None)
    assert (check.level, check.text) == (
        Level.FAIL,
        "Cars: the last 3 runs with rows to label wrote none of them: run-3 (503 while saving); "
        "run-2 (503 while saving); run-1 (503 while saving)",
    )
    bench.now_s += 1
    bench.push()
    assert [check.level for check in check_runs(settings(tmp_path), None)] == [Level.OK]


def test_runs_of_one_project_say_nothing_of_another(tmp_path: Path) -> None:
    fails_in_vain(Bench(tmp_path, FakePlatform(rows(2))), 3)
    (check,) = check_runs(settings(tmp_path), "11111111-1111-1111-1111-111111111111")
    assert check.level == Level.OK


def test_a_project_that_nobody_runs_any_more_is_not_looked_at_where_others_are_named(tmp_path: Path) -> None:
    fails_in_vain(Bench(tmp_path, FakePlatform(rows(2))), 3)
    (check,) = check_runs(settings(tmp_path, projects=("11111111-1111-1111-1111-111111111111",)), None)
    assert check.level == Level.OK


def test_a_killed_run_counts_and_one_that_is_under_way_does_not(tmp_path: Path) -> None:
    bench = Bench(tmp_path, FakePlatform(rows(2)))
    fails_in_vain(bench, 2)
    bench.ledger.start_run("run-9", bench.last.plan.job, "Cars", {})
    (check,) = check_runs(settings(tmp_path), None)
    assert (check.level, "run-9 (killed)" in check.text) == (Level.FAIL, True)
    (tmp_path / "spool").mkdir()
    with hold(tmp_path / "spool" / "run-9.lock", "run-9"):
        assert [check.level for check in check_runs(settings(tmp_path), None)] == [Level.OK]


def test_the_ledger_is_named_and_not_made_and_no_password_is_told(tmp_path: Path) -> None:
    assert check_ledger(settings(tmp_path)).text == f"SQLite, {tmp_path}/ledger.sqlite, made by the first run"
    assert list(check_runs(settings(tmp_path), None)) == [Check(Level.OK, "runs", "none yet")]
    assert list(tmp_path.iterdir()) == []
    Bench(tmp_path, FakePlatform(rows(1))).push()
    assert check_ledger(settings(tmp_path)).text.startswith(f"SQLite, {tmp_path}/ledger.sqlite, 0.")


def test_a_secrets_file_is_to_be_read_by_its_owner_alone_and_is_never_told(tmp_path: Path) -> None:
    path = tmp_path / "secret"
    assert check_secret("s", "X", None, None, ENCORD).level == Level.OK
    assert check_secret("s", "X", SecretStr("hush"), None, ENCORD).text == "from X"
    assert check_secret("s", "X", None, path, ENCORD).level == Level.FAIL
    path.touch(0o600)
    path.write_text("hush")
    assert check_secret("s", "X", None, path, ENCORD).text == f"{path}, mode 600"
    path.chmod(0o640)
    assert check_secret("s", "X", None, path, ENCORD).level == Level.WARN


@pytest.mark.parametrize("text", ["", "# whsec_aHVzaA==\n", "whsec_!", "whsec_aHVzaA==\n" * 10_000])
def test_a_secret_with_which_serve_would_not_begin_fails_and_is_not_told(tmp_path: Path, text: str) -> None:
    path = tmp_path / "secret"
    path.touch(0o600)
    path.write_text(text)
    given = (settings(tmp_path, bucket_secret_file=path), settings(tmp_path, bucket_secret=SecretStr("whsec_!")))
    for one in given:
        *_, check = check_unattended(one)
        assert (check.about, check.level) == ("bucket secret", Level.FAIL)
        assert "AUTOLABEL_BUCKET_SECRET_FILE" in check.text
        assert "whsec_!" not in check.text


def test_the_projects_that_are_served_unattended_are_named(tmp_path: Path) -> None:
    assert levels(list(check_unattended(settings(tmp_path)))) == dict.fromkeys(
        ("projects", "webhook secret", "bucket secret"), Level.OK
    )
    (first, *_) = check_unattended(settings(tmp_path, projects=("a", "b")))
    assert first.text == "a, b"

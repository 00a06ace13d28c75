"""The page of a trial: what a lead reads first, no figure that too few stand behind, nothing unescaped."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from autolabel.core.rows import OntologyClass
from autolabel.evaluation.values import Estimate, Reliability, TooFew, Verdict, Worth
from autolabel.trial import ClassTrial, Trial
from autolabel.trial_report import headline, told_lines, write_trial, write_versus
from trials import (
    big_trial,
    make_miss,
    make_trial,
    make_versus,
    not_told,
    not_worth_it,
    surgical_trial,
    worth_it,
)

EVIL = '<script>alert("x")</script>\U0001f52a' + "long" * 60


def page_of(folder: Path, trial: Trial) -> str:
    return write_trial(folder, trial, "https://api.encord.com").read_text()


def test_the_headline_names_what_is_worth_it_what_is_not_and_how_much_is_lacking() -> None:
    assert headline(surgical_trial()) == [
        "Worth it for 4 of 6 classes: gold needle holder, black forceps, white gauze, steel scalpel.",
        "Of every hour of drawing them it would save about 40 minutes (35 to 45), judged on 515 objects in 50 rows.",
        "Not worth it: steel scissors.",
        "Cannot be told yet: blue syringe (18 more objects).",
    ]


@pytest.mark.parametrize(
    ("classes", "says"),
    [
        ([worth_it("A"), worth_it("B")], "Worth it for all 2 classes: A, B."),
        ([worth_it("A")], "Worth it for 1 of 1 class: A."),
        ([not_worth_it("A"), not_told("B", 29)], "Cannot be told yet for 1 of 2 classes: B (1 more object)."),
        ([not_worth_it("A"), not_worth_it("B")], "Not worth it for any of 2 classes: A, B."),
        ([not_told("A")], "It cannot be told yet whether any of 1 class is worth it: A (18 more objects)."),
    ],
)
def test_the_headline_is_right_for_none_and_for_all(classes: list[ClassTrial], says: str) -> None:
    assert headline(make_trial(classes))[0] == says


def test_where_nothing_is_saved_together_no_class_is_said_to_be_worth_it() -> None:
    trial = make_trial([not_worth_it("A"), not_told("B", 29)])
    nothing = replace(trial.together, worth=Worth.NO, saved_s=Estimate(0.0, 0.0, 0.0))
    assert headline(replace(trial, together=nothing)) == [
        "Not worth it here: as far as these rows tell, no threshold of any of 2 classes saves time.",
        "Not worth it by itself: A.",
        "Cannot be told of each yet: B (1 more object).",
    ]


def test_what_is_worth_it_only_together_is_said_so() -> None:
    trial = make_trial([not_told("A"), not_told("B")])
    together = replace(surgical_trial().together, worth=Worth.YES)
    assert headline(replace(trial, together=together)) == [
        "Together they would save 4.1 s of 11.2 s an object, each from a threshold of its own; for which classes "
        "cannot be told yet.",
        "Needed: A (18 more objects), B (18 more objects).",
    ]


def test_minutes_an_hour_are_weighted_by_what_drawing_takes() -> None:
    box = replace(worth_it("A", objects=100), verdict=Verdict(Worth.YES, 0.4, Estimate(7.0, 6.0, 7.0), 7.0, ""))
    mask = replace(worth_it("B", objects=100), verdict=Verdict(Worth.YES, 0.4, Estimate(0.0, 0.0, 0.0), 35.0, ""))
    assert "about 10 minutes (9 to 10)" in headline(make_trial([box, mask]))[1]


@pytest.fixture(scope="module")
def surgical_page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_trial(tmp_path_factory.mktemp("pages"), surgical_trial(), "https://api.encord.com")


def test_a_page_ranks_classes_by_what_they_save_and_adds_up(surgical_page: Path) -> None:
    html = surgical_page.read_text()
    names = re.findall(r'<a href="#class-\d+"><span[^>]*></span>([^<]+)</a>', html)
    assert names == ["gold needle holder", "black forceps", "white gauze", "steel scalpel", "steel scissors"]
    assert "<b>114</b> label rows at Complete" in html
    assert "0.35 → 0.41" in html
    assert "0.35 → off" in html


def test_a_class_with_too_few_objects_has_no_figure_but_what_is_lacking(tmp_path: Path) -> None:
    html = page_of(tmp_path, make_trial([not_told("Rare", 12)]))
    assert "12 of 30 objects; 18 more are needed" in html
    assert "<polyline" not in html
    assert 'class="chart"' not in html
    assert not re.search(r"data-name=", html)


def test_precision_of_nothing_is_a_dash(tmp_path: Path) -> None:
    good = worth_it("A")
    good.rates.precision[:] = float("nan")  # type: ignore[union-attr]
    assert 'data-name="precision"><span class="dim">' in page_of(tmp_path, make_trial([good]))


def test_what_comes_from_outside_is_escaped(tmp_path: Path) -> None:
    evil = replace(worth_it(EVIL), color=EVIL)
    trial = make_trial([evil, not_told(EVIL + "2")], [replace(make_miss("a"), text=EVIL)], title=EVIL)
    html = page_of(tmp_path, replace(trial, stage=EVIL, messages=[EVIL]))
    assert "<script" not in html
    assert html.count("&lt;script&gt;") >= 10
    assert 'style="background: #808080"' in html


def test_a_page_loads_nothing_and_is_its_owners_alone(surgical_page: Path) -> None:
    html = surgical_page.read_text()
    assert surgical_page.stat().st_mode & 0o777 == 0o600
    assert not re.search(r"url\((?!#)|<link|@import|<script", html)
    ids = re.findall(r'\bid="([^"]+)"', html)
    assert len(ids) == len(set(ids))


def test_44_classes_fold_what_has_no_figures_and_keep_the_matrix_small(tmp_path: Path) -> None:
    html = page_of(tmp_path, big_trial())
    assert "34 classes with too few objects for any figure" in html
    assert "else the present ones; 34 classes with too few objects left out" in html
    assert html.count('class="panel class-panel" open') == 4
    assert len(html) < 400_000


def test_misses_open_in_the_editor_and_say_how_much_work_they_are(surgical_page: Path) -> None:
    html = surgical_page.read_text()
    assert "https://app.encord.com/label_editor/project-1/tray-0001/0" in html
    assert "missed: scissors" in html
    assert "about 31 s of work" in html


def test_rows_that_held_our_labels_are_said_to_flatter_us(tmp_path: Path) -> None:
    trial = make_trial([worth_it("A")])
    said = "judged rows held pre-labels before people worked on them, which flatters"
    assert f"<p>4 of the 50 {said} the figures." in page_of(tmp_path, trial)
    assert f"<b>26 of the 50 {said} all figures below." in page_of(tmp_path, replace(trial, prelabelled=26))
    assert said not in page_of(tmp_path, replace(trial, prelabelled=0))


def unsure(name: str, saved_s: Estimate) -> ClassTrial:
    return replace(worth_it(name), verdict=Verdict(Worth.UNKNOWN, 0.8, saved_s, 7.0, "cannot be told yet"))


def test_what_cannot_be_told_is_shown_at_the_threshold_of_now(tmp_path: Path) -> None:
    trial = make_trial([unsure("A", Estimate(-0.2, -0.9, 0.04)), unsure("B", Estimate(-0.04, -0.5, -0.01))])
    lines = told_lines(trial)
    assert [(line.threshold, line.suggested) for line in lines] == [(0.35, None), (0.35, None)]
    assert "at threshold 0.35 precision" in lines[0].words[1]
    html = page_of(tmp_path, trial)
    assert "costs 0.2 s more<small>-0.9 to 0.0</small>" in html
    assert "-0.0" not in html
    assert "the threshold of now, 0.35" in html
    assert 'class="key suggested"' not in html


def test_charts_are_drawn_for_the_page_alone(tmp_path: Path) -> None:
    told = worth_it("A")
    assert isinstance(told.reliability, Reliability)
    trial = make_trial([replace(told, reliability=replace(told.reliability, mean_score=np.zeros(3)))])
    assert told_lines(trial)[0].words
    with pytest.raises(ValueError, match="same first dimension"):
        page_of(tmp_path, trial)


def test_a_page_says_what_was_not_judged_and_what_is_not_looked_for(tmp_path: Path) -> None:
    trial = make_trial([worth_it("A")])
    assert "Not judged" not in page_of(tmp_path, trial)
    assert "Left to people" not in page_of(tmp_path, trial)
    more = replace(
        trial.project, classes=(*trial.project.classes, OntologyClass("x", "Retractor", "polygon", "#fff"))
    )
    html = page_of(tmp_path, replace(trial, project=more, unlabelled_frames=31, other_objects=1))
    assert "31 frames of videos on which people drew nothing" in html
    assert "1 object that people drew" in html
    assert "Not looked for by this recipe: Retractor." in html


def test_a_second_trial_is_asked_for_where_classes_are_switched_off(tmp_path: Path) -> None:
    assert "run a second trial" in page_of(tmp_path, make_trial([worth_it("A"), not_worth_it("B")]))
    assert "run a second trial" not in page_of(tmp_path, make_trial([worth_it("A")]))


def test_a_class_that_one_variant_alone_looks_for_is_drawn_by_hand_under_the_other(tmp_path: Path) -> None:
    versus = make_versus()
    a, b = versus.trials
    html = write_versus(tmp_path, replace(versus, trials=(replace(a, classes=a.classes[1:]), b))).read_text()
    assert "Only b.yaml looks for gold needle holder: judged as drawn by hand under the other." in html
    assert "<small>A: drawn by hand</small><small>B: gold needle holder</small>" in html
    assert "Only a.yaml" not in html


def test_the_next_command_fits_what_is_known(tmp_path: Path) -> None:
    assert "--rows 50 --write-map" in page_of(tmp_path, make_trial([worth_it("A")]))
    nothing_told = page_of(tmp_path, replace(make_trial([not_told("A")]), stage="All done"))
    assert "--write-map" not in nothing_told
    assert "--stage &#39;All done&#39; --rows 100" in nothing_told


def test_two_variants_are_compared_class_by_class_with_their_prompts(tmp_path: Path) -> None:
    path = write_versus(tmp_path, make_versus())
    html = path.read_text()
    assert path.name.endswith("-variants.html")
    assert "All classes together: no difference shown." in html
    assert "+0.12" in html
    assert "b.yaml is better for gold needle holder." in html
    assert "a.yaml is better" not in html
    assert "blue syringe: 12 of 30 objects" in html


def test_two_variants_with_too_little_in_common_say_what_is_lacking(tmp_path: Path) -> None:
    versus = replace(make_versus(), differences={"": TooFew(3, 30, "objects")}, names=(EVIL, "b.yaml"))
    html = write_versus(tmp_path, versus).read_text()
    assert "cannot be told yet, 3 of 30 objects" in html
    assert "<script" not in html


def test_a_variant_that_finds_nothing_has_no_precision_to_compare(tmp_path: Path) -> None:
    versus = make_versus()
    key, nothing = "gold needle holder", Estimate(*[float("nan")] * 3)
    worse = replace(versus.differences[key], precision=nothing, saved_s=Estimate(-2, -3, -1))  # type: ignore[arg-type]
    html = write_versus(tmp_path, replace(versus, differences={key: worse})).read_text()
    assert "nan" not in html
    assert "a.yaml is better for gold needle holder." in html

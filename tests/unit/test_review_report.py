"""The page of a review: counts that add up, the time saved or what is lacking, nothing unescaped."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

from autolabel.cli_review import lines
from autolabel.evaluation.values import Estimate, TimeRatio
from autolabel.review import Fates
from autolabel.review_report import headline, write_review
from reviews import early_review, make_class_review, make_review, surgical_review

EVIL = '<script>alert("x")</script>' + "long" * 60


def test_the_headline_says_what_people_made_of_the_proposals_and_the_time() -> None:
    first, time = headline(surgical_review())
    assert first == (
        "Of 337 proposed objects people kept 66 % as they were, corrected 18 %, deleted 14 % and gave 3 % another "
        "class; they added 27 (112 rows finished)."
    )
    assert time == "Time: 0.62 times the seconds of rows from nothing (0.51 to 0.76): 38 % less time."


def test_before_people_have_finished_anything_there_are_no_figures(tmp_path: Path) -> None:
    html = write_review(tmp_path, early_review()).read_text()
    assert "People have not finished any of these rows yet." in html
    assert "not yet: 31 of 86 rows" in html
    assert 'class="interval' not in html
    assert "autolabel review --run 20261121-185720-afd9" in html


def test_nothing_proposed_is_no_division_by_nothing(tmp_path: Path) -> None:
    review = make_review([make_class_review("A", Fates(added=5))])
    html = write_review(tmp_path, review).read_text()
    assert "Nothing was proposed in the 112 rows that people have finished; they drew 5 objects." in html


def test_classes_and_people_add_up_to_the_same(tmp_path: Path) -> None:
    html = write_review(tmp_path, surgical_review()).read_text()
    proposed = [int(n) for n in re.findall(r'data-name="proposed">(\d+)<', html)]
    classes, (together, *people) = proposed[:4], proposed[4:]
    assert sum(classes) == sum(people) == together == 337
    assert classes == sorted(classes, reverse=True)
    assert "Neither proposed nor drawn: blue syringe." in html


def test_edits_are_told_by_their_overlap_and_swaps_by_both_classes(tmp_path: Path) -> None:
    html = write_review(tmp_path, surgical_review()).read_text()
    assert "mean IoU 0.84" in html
    assert "0, 0, 0, 0, 0, 0, 0, 17, 17, 17" in html
    assert (
        re.findall(r'<th scope="(?:row|col)">(?:<span>)?([^<]+)', html)
        == ["gold needle holder", "blue syringe", "nothing"] * 2
    )
    cells = re.findall(r"<td[^>]*>([^<]*)</td>", html[html.index('<table class="matrix">') :].split("</table>")[0])
    assert cells[1:] == ["·", "6", "4", "·", "·", "·", "9", "·", ""]


def test_time_is_drawn_with_how_many_rows_stand_behind_it(tmp_path: Path) -> None:
    html = write_review(tmp_path, surgical_review()).read_text()
    assert 'class="interval good"' in html
    assert "112 rows with pre-labels against 38 rows without, 4 annotators" in html
    assert "nothing here speaks for or against a lower threshold" in html


def test_shares_of_fewer_than_ten_are_told_as_counts_on_page_and_console(tmp_path: Path) -> None:
    review = make_review([make_class_review("A", Fates(2, 1, added=1))])
    html, console = write_review(tmp_path, review).read_text(), "\n".join(lines(review))
    assert headline(review)[0].startswith("Of 3 proposed objects people kept 2 as they were, corrected 1, deleted 0")
    assert not re.search(r"\d\s?%<", html.split("<body", 1)[-1].split("How it was made")[0])
    assert re.search(r"\nA +3 +2 +1 +0 +0 +1\n", console)
    assert "%" not in console.split("time:")[0]


def test_the_page_says_how_far_who_decided_is_known_and_on_which_rows_a_trial_is_fair(tmp_path: Path) -> None:
    html = write_review(tmp_path, surgical_review()).read_text()
    assert "whoever was longest at the row as an annotator is taken for it" in html
    assert "fair on rows that were held out or never pre-labelled" in html
    assert "95 % interval, for annotators like these" in html


def test_the_interval_of_two_annotators_is_said_to_be_theirs_and_a_wide_one_is_not_drawn(tmp_path: Path) -> None:
    two = replace(surgical_review(), time=TimeRatio(Estimate(0.62, 0.51, 0.76), (112, 1), 2))
    html = write_review(tmp_path, two).read_text()
    assert "against 1 row without, 2 annotators who worked on both" in html
    assert "for the rows of these annotators alone; the tick" in html
    wide = replace(two, time=TimeRatio(Estimate(1.02, 0.05, 19), (112, 38), 3))
    assert 'class="interval' not in write_review(tmp_path, wide).read_text()


def test_before_people_have_finished_anything_there_are_no_caveats_of_figures(tmp_path: Path) -> None:
    console = lines(early_review())
    assert console[1:3] == ["time: not yet: 31 of 86 rows", "    143  not finished by people yet"]
    assert "" not in console
    assert not any("never shown" in line for line in [*console, write_review(tmp_path, early_review()).read_text()])


def test_a_class_that_is_no_longer_in_the_ontology_keeps_its_name_from_the_recipe() -> None:
    review = surgical_review()
    archived = replace(review, project=replace(review.project, classes=()))
    assert archived.name_of("white gauze") == "white gauze"
    assert archived.name_of("a hash that nobody knows") == "an archived class"


def test_what_comes_from_outside_is_escaped_and_the_page_is_its_owners(tmp_path: Path) -> None:
    evil = replace(make_class_review(EVIL, Fates(1)), color=EVIL, by_person={EVIL: Fates(1, other_class=1)})
    review = replace(make_review([evil, make_class_review("B", Fates(1))], title=EVIL), messages=[EVIL])
    path = write_review(tmp_path, review)
    assert path.stat().st_mode & 0o777 == 0o600
    assert not re.search(r"<script|url\(|<link|@import", path.read_text())
    assert path.read_text().count("&lt;script&gt;") >= 6

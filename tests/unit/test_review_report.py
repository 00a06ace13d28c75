"""The page of a review: counts that add up, the time saved or what is lacking, nothing unescaped."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

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
    assert html.index('<td class="class">blue syringe') < html.index('<td class="class">gold needle holder')


def test_time_is_drawn_with_how_many_rows_stand_behind_it(tmp_path: Path) -> None:
    html = write_review(tmp_path, surgical_review()).read_text()
    assert 'class="interval good"' in html
    assert "112 rows with pre-labels against 38 rows without, 4 annotators" in html
    assert "nothing here speaks for or against a lower threshold" in html


def test_what_comes_from_outside_is_escaped_and_the_page_is_its_owners(tmp_path: Path) -> None:
    evil = replace(make_class_review(EVIL, Fates(1)), color=EVIL, by_person={EVIL: Fates(1, other_class=1)})
    review = replace(make_review([evil, make_class_review("B", Fates(1))], title=EVIL), messages=[EVIL])
    path = write_review(tmp_path, review)
    assert path.stat().st_mode & 0o777 == 0o600
    assert not re.search(r"<script|url\(|<link|@import", path.read_text())
    assert path.read_text().count("&lt;script&gt;") >= 6

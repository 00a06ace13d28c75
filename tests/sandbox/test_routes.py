"""New data is labelled without anybody asking, by each route that there is; the history holds as after any push."""

from __future__ import annotations

from pathlib import Path

import pytest

from benching.routes import ROUTES, upload_one
from benching.triggers import Site
from sandbox.conftest import Start


@pytest.mark.parametrize("route", ROUTES)
def test_a_picture_that_is_uploaded_stands_labelled_before_annotators(
    start: Start, tmp_path: Path, route: str
) -> None:
    scenario, trigger = ROUTES[route]
    sandbox = start(scenario, 1)
    (project,) = sandbox.projects.values()
    site = Site(sandbox.domain, sandbox.ssh_key_file, project, tmp_path / "home")
    site.home.mkdir()
    with trigger(site, 1.0) as on_upload:
        times = upload_one(site, tmp_path / "fresh.png", on_upload)
    print(f"{route}: {times.waiting_s:.1f} s until a run was called for, {times.working_s:.1f} s until labels stood")

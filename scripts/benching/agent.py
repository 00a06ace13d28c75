"""The same job done by `encord-agents`: its own runner and defaults, an agent as its documentation writes them.

`--saves batched` returns the row to the runner, which saves up to 100 of them in a request; `--saves single` calls
`save()` in the agent. With `--look` the picture is downloaded and takes the fake model as long as ours.
"""

import argparse
import json
import time
from typing import Annotated

import numpy as np
from encord.objects import LabelRowV2, Object
from encord.objects.common import Shape
from encord.objects.coordinates import BoundingBoxCoordinates, Coordinates, PointCoordinate, PolygonCoordinates
from encord.project import Project
from encord_agents.tasks import Depends, Runner
from encord_agents.tasks.dependencies import dep_single_frame
from encord_agents.tasks.models import TaskAgentReturnStruct
from numpy.typing import NDArray

from benching.finds import Find, find
from benching.watch import watch
from benching.world import CLASS, PATHWAY, STAGE


def label(project: Project, row: LabelRowV2, key: bytes) -> None:
    kind = project.ontology_structure.get_child_by_title(CLASS, type_=Object)
    for found in find(key):
        instance = kind.create_instance()
        where = _coordinates(found, kind.shape)
        instance.set_for_frames(where, frames=0, confidence=found.score, manual_annotation=False)
        row.add_object_instance(instance)


def _coordinates(found: Find, shape: Shape) -> Coordinates:
    if shape == Shape.POLYGON:
        return PolygonCoordinates([PointCoordinate(float(x), float(y)) for x, y in found.star_norm])
    left, top, right, bottom = found.box_xyxy_norm
    return BoundingBoxCoordinates(height=bottom - top, width=right - left, top_left_x=left, top_left_y=top)


def finished(row: LabelRowV2, *, batched: bool) -> TaskAgentReturnStruct | str:
    if batched:
        return TaskAgentReturnStruct(pathway=PATHWAY, label_row=row)
    row.save()
    return PATHWAY


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--project", required=True)
    arguments.add_argument("--saves", choices=("batched", "single"), required=True)
    arguments.add_argument("--look", type=float, metavar="SECONDS", help="what the fake model takes for a picture")
    wanted = arguments.parse_args()
    batched = wanted.saves == "batched"
    runner = Runner(project_hash=wanted.project)

    def without_picture(project: Project, row: LabelRowV2) -> TaskAgentReturnStruct | str:
        label(project, row, row.data_hash.encode())
        return finished(row, batched=batched)

    def with_picture(
        project: Project, row: LabelRowV2, frame: Annotated[NDArray[np.uint8], Depends(dep_single_frame)]
    ) -> TaskAgentReturnStruct | str:
        time.sleep(wanted.look)
        label(project, row, frame.tobytes())
        return finished(row, batched=batched)

    runner.stage(STAGE)(without_picture if wanted.look is None else with_picture)
    with watch() as seen:
        runner()
    print(json.dumps(seen.described()))


if __name__ == "__main__":
    main()

"""The stand-in's rows of many frames, as the real SDK sees them: image groups, image sequences, videos."""

from pathlib import Path

import av
import numpy as np
import pytest
import requests
from encord import Project
from encord.constants.enums import DataType
from encord.exceptions import CorruptedLabelError, EncordException, ResourceExistsError
from encord.objects import Object, ObjectInstance, OntologyStructure, Shape
from encord.objects.coordinates import BoundingBoxCoordinates
from encord.objects.ontology_labels_impl import LabelRowV2
from encord.orm.dataset import DataLinkDuplicatesBehavior, StorageLocation
from encord.orm.label_row import LabelRow
from encord.orm.storage import CustomerProvidedVideoMetadata, StorageItemType
from encord.storage import StorageItem
from PIL import Image

from sandbox.conftest import RunningSandbox, Start
from sandbox.own_project import clip, make_project, picture

BOX = BoundingBoxCoordinates(height=0.25, width=0.5, top_left_x=0.125, top_left_y=0.25)
UNEVEN_S = (0.0, 0.04, 0.08, 0.5, 0.54, 1.0)
GROUP, SEQUENCE, VIDEO = 0, 1, 2


def structure() -> OntologyStructure:
    made = OntologyStructure()
    made.add_object("Car", Shape.BOUNDING_BOX)
    return made


@pytest.fixture
def sandbox(start: Start) -> RunningSandbox:
    return start("empty")


@pytest.fixture
def project(sandbox: RunningSandbox, tmp_path: Path) -> Project:
    """An image group of two sizes, an image sequence and a video, uploaded into the folder of a dataset."""
    client = sandbox.client()
    created = client.create_dataset("Data", StorageLocation.CORD_STORAGE)
    folder = client.get_storage_folder(created.backing_folder_uuid)
    folder.create_image_group([picture(tmp_path / "a.png"), picture(tmp_path / "b.jpg", 90, 160)], title="group")
    folder.create_image_sequence(
        [picture(tmp_path / name) for name in ("c.png", "dd.png", "eee.png")], title="sequence"
    )
    folder.upload_video(clip(tmp_path / "v.mp4", [i / 25 for i in range(50)]))
    ontology = client.create_ontology("Cars", structure=structure())
    return client.get_project(
        client.create_project("P", [created.dataset_hash], ontology_hash=ontology.ontology_hash)
    )


def row_of(project: Project, number: int, branch: str = "main") -> LabelRowV2:
    row = project.list_label_rows_v2(branch_name=branch, include_images_data=True)[number]
    row.initialise_labels(include_signed_url=True)
    return row


def item_of(sandbox: RunningSandbox, project: Project, number: int) -> StorageItem:
    row = project.list_label_rows_v2()[number]
    return sandbox.client().get_storage_item(str(row.backing_item_uuid), sign_url=True)


def car(row: LabelRowV2, frames: list[int], object_hash: str = "AUTO0001") -> None:
    instance = ObjectInstance(row.ontology_structure.get_child_by_title("Car", type_=Object), object_hash=object_hash)
    for frame in frames:
        instance.set_for_frames(BOX, frame, confidence=frame / 64, manual_annotation=False)
    row.add_object_instance(instance)
    row.save()


def levels(path: Path) -> list[float]:
    with av.open(path) as container:
        return [frame.to_ndarray(format="gray").mean() for frame in container.decode(video=0)]


# ------------------------------------------------------------------------------------ listing


def test_rows_tell_their_type_frames_and_size(project: Project) -> None:
    group, sequence, video = project.list_label_rows_v2()
    assert (group.data_type, group.number_of_frames, group.width) == (DataType.IMG_GROUP, 2, None)
    assert (sequence.data_type, sequence.number_of_frames) == (DataType.IMG_GROUP, 3)
    assert (sequence.width, sequence.height) == (200, 120)
    assert (video.data_type, video.number_of_frames, video.fps, video.duration) == (DataType.VIDEO, 50, 25.0, 2.0)
    assert (video.width, video.height, video.file_type) == (160, 96, "video/mp4")
    assert [row.data_title for row in (group, sequence, video)] == ["group", "sequence", "v.mp4"]


def test_the_frames_of_a_group_have_a_size_a_name_and_a_url_each(project: Project, tmp_path: Path) -> None:
    row = row_of(project, GROUP)
    views = row.get_frame_views()
    assert [(v.width, v.height, v.image_title, v.file_type) for v in views] == [
        (200, 120, "a.png", "image/png"),
        (90, 160, "b.jpg", "image/jpeg"),
    ]
    for view, name in zip(views, ("a.png", "b.jpg"), strict=True):
        assert requests.get(str(view.data_link), timeout=60).content == (tmp_path / name).read_bytes()
        assert row.get_frame_metadata(view.frame).image_hash == view.image_hash
    assert row.data_link is None


def test_a_video_is_downloaded_whole_and_in_ranges(project: Project, tmp_path: Path) -> None:
    url = str(row_of(project, VIDEO).data_link)
    whole = requests.get(url, timeout=60)
    assert (whole.headers["Content-Type"], whole.content) == ("video/mp4", (tmp_path / "v.mp4").read_bytes())
    part = requests.get(url, headers={"Range": "bytes=100-"}, timeout=60)
    assert (part.status_code, part.content) == (206, whole.content[100:])


# ------------------------------------------------------------------------------------ storage


def test_items_tell_their_kind_rate_length_and_children(sandbox: RunningSandbox, project: Project) -> None:
    group, sequence, video = (item_of(sandbox, project, number) for number in (GROUP, SEQUENCE, VIDEO))
    assert (group.item_type, group.frame_count, group.width) == (StorageItemType.IMAGE_GROUP, 2, None)
    assert [(child.name, child.width, child.height) for child in group.get_child_items()] == [
        ("a.png", 200, 120),
        ("b.jpg", 90, 160),
    ]
    assert (sequence.item_type, sequence.mime_type) == (StorageItemType.IMAGE_SEQUENCE, "video/mp4")
    assert len(list(sequence.get_child_items())) == 3
    assert (video.item_type, video.frame_count, video.fps, video.duration) == (StorageItemType.VIDEO, 50, 25.0, 2.0)
    assert not list(video.get_child_items())


def test_children_and_videos_have_signed_urls_and_a_group_has_none(
    sandbox: RunningSandbox, project: Project, tmp_path: Path
) -> None:
    group, sequence, video = (item_of(sandbox, project, number) for number in (GROUP, SEQUENCE, VIDEO))
    with pytest.warns(DeprecationWarning, match="not supported"):
        assert group.get_signed_url() is None
    for child in group.get_child_items(get_signed_urls=True):
        assert requests.get(str(child.get_signed_url()), timeout=60).content == (tmp_path / child.name).read_bytes()
    for item, frames in ((sequence, 3), (video, 50)):
        (tmp_path / "got.mp4").write_bytes(requests.get(str(item.get_signed_url()), timeout=60).content)
        assert len(levels(tmp_path / "got.mp4")) == frames


def test_a_project_hands_out_its_data(sandbox: RunningSandbox, project: Project, tmp_path: Path) -> None:
    group, _, video = project.list_label_rows_v2()
    nothing, images = project.get_data(group.data_hash, get_signed_url=True)
    assert nothing is None
    assert [requests.get(i["file_link"], timeout=60).content for i in images or []] == [
        (tmp_path / name).read_bytes() for name in ("a.png", "b.jpg")
    ]
    found, nothing = project.get_data(video.data_hash, get_signed_url=True)
    assert nothing is None
    assert found is not None
    assert requests.get(found["file_link"], timeout=60).content == (tmp_path / "v.mp4").read_bytes()


def test_folders_list_what_is_in_them(sandbox: RunningSandbox, project: Project) -> None:
    folder = item_of(sandbox, project, VIDEO).parent_folder()
    assert {item.name for item in folder.list_items()} == {
        *("a.png", "b.jpg", "group", "c.png", "dd.png", "eee.png", "sequence", "v.mp4")
    }
    assert [item.name for item in folder.list_items(item_types=[StorageItemType.VIDEO])] == ["v.mp4"]


# ------------------------------------------------------------------------------------ uploads


def test_uploads_through_a_dataset_become_the_same_rows(sandbox: RunningSandbox, tmp_path: Path) -> None:
    pair = [picture(tmp_path / "a.png"), picture(tmp_path / "b.png")]
    files = [picture(tmp_path / "c.png"), pair, clip(tmp_path / "v.mp4", UNEVEN_S)]
    rows = make_project(sandbox, structure(), files).list_label_rows_v2()
    assert [(row.data_type.value, row.number_of_frames) for row in rows] == [
        ("image", 1),
        ("img_group", 2),
        ("video", 6),
    ]
    assert rows[-1].fps == pytest.approx(6 / (1 + 0.04), rel=0.02)


def test_items_of_another_folder_are_linked_once(sandbox: RunningSandbox, tmp_path: Path) -> None:
    client = sandbox.client()
    folder = client.create_storage_folder("inbox")
    items = [
        folder.upload_image(picture(tmp_path / "a.png")),
        folder.upload_video(clip(tmp_path / "v.mp4", UNEVEN_S)),
    ]
    dataset = client.get_dataset(client.create_dataset("Data", StorageLocation.CORD_STORAGE).dataset_hash)
    assert dataset.data_rows == []
    assert [row.title for row in dataset.link_items(items)] == ["a.png", "v.mp4"]
    again = dataset.link_items(items[:1])
    dataset.refetch_data()
    assert [row.uid for row in again] == [dataset.data_rows[0].uid]
    assert [row.data_type for row in dataset.data_rows] == [DataType.IMAGE, DataType.VIDEO]
    with pytest.raises(ResourceExistsError):
        dataset.link_items(items, DataLinkDuplicatesBehavior.FAIL)


def test_what_the_client_says_of_a_video_is_believed(sandbox: RunningSandbox, tmp_path: Path) -> None:
    """So the count of frames on the platform and in the file can differ, as they do on the real one."""
    client = sandbox.client()
    folder = client.create_storage_folder("inbox")
    said = CustomerProvidedVideoMetadata(fps=30, duration=2, width=160, height=96, file_size=1, mime_type="video/mp4")
    item = folder.upload_video(clip(tmp_path / "v.mp4", UNEVEN_S), video_metadata=said)
    assert client.get_storage_item(item).frame_count == 60


@pytest.mark.parametrize("name", ["broken.mp4", "still.mp4"])
def test_a_file_that_is_no_video_fails_its_upload(sandbox: RunningSandbox, tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_text("no video")
    with pytest.raises(EncordException, match="no video that can be decoded"):
        make_project(sandbox, structure(), [path])


def test_a_sequence_of_several_sizes_is_refused(sandbox: RunningSandbox, tmp_path: Path) -> None:
    pair = [picture(tmp_path / "a.png"), picture(tmp_path / "b.png", 30, 40)]
    with pytest.raises(EncordException, match="one size"):
        make_project(sandbox, structure(), [pair], as_sequences=True)


# ------------------------------------------------------------------------------------- labels


@pytest.mark.parametrize(("number", "frames"), [(GROUP, [0, 1]), (SEQUENCE, [2]), (VIDEO, [0, 7, 49])])
def test_an_object_is_saved_on_its_frames_and_copied_to_main(
    project: Project, number: int, frames: list[int]
) -> None:
    car(row_of(project, number, "auto"), frames)
    assert project.copy_labels_to_branch("main", "auto", overwrite=False) == 1
    row = row_of(project, number)
    (read,) = row.get_object_instances()
    assert [a.frame for a in read.get_annotations()] == frames
    assert [a.confidence for a in read.get_annotations()] == [frame / 64 for frame in frames]
    assert row.get_frame_view(frames[-1]).get_object_instances() == [read]


def test_a_frame_beyond_the_last_is_refused(project: Project) -> None:
    row = row_of(project, VIDEO)
    car(row, [49])
    label = row.to_encord_dict()
    labels = label["data_units"][row.data_hash]["labels"]
    labels["50"] = labels.pop("49")
    with pytest.raises(CorruptedLabelError):
        project._client.save_label_rows([str(row.label_hash)], [LabelRow(label)])


def test_features_can_be_filtered_on_every_frame(project: Project) -> None:
    car(row_of(project, VIDEO), [3, 4])
    row = project.list_label_rows_v2()[VIDEO]
    row.initialise_labels(include_object_feature_hashes={"nothing"})
    assert row.get_object_instances() == []


# ------------------------------------------------------------------------------ people, faults


@pytest.mark.parametrize("number", [GROUP, SEQUENCE, VIDEO])
def test_a_person_draws_edits_and_deletes_on_a_frame(sandbox: RunningSandbox, project: Project, number: int) -> None:
    listed = project.list_label_rows_v2()[number]
    where = {"project": project.project_hash, "data_hash": listed.data_hash, "frame": 1}

    def act(action: str, **wanted: object) -> list[ObjectInstance]:
        sandbox.admin("POST", "human", where | {"action": action} | wanted)
        return row_of(project, number).get_object_instances()

    (drawn,) = act("draw", **{"class": "Car", "box_norm": [0.1, 0.1, 0.2, 0.2]})
    (edited,) = act("edit", object_hash=drawn.object_hash, box_norm=[0.5, 0.5, 0.2, 0.2], email="b@example.com")
    assert [(a.frame, a.last_edited_by) for a in edited.get_annotations()] == [(1, "b@example.com")]
    assert act("delete", object_hash=drawn.object_hash) == []


def test_faults_meet_videos_and_frames_too(sandbox: RunningSandbox, project: Project) -> None:
    urls = [str(row_of(project, GROUP).get_frame_view(1).data_link), str(row_of(project, VIDEO).data_link)]
    sandbox.fault("expire_url", times=2, match={"path_contains": "/blobs/"})
    assert [requests.get(url, timeout=60).status_code for url in [*urls, *urls]] == [403, 403, 200, 200]
    sandbox.fault("truncate", match={"path_contains": "/blobs/"})
    with pytest.raises(requests.RequestException):
        requests.get(urls[1], timeout=60)


def test_turned_and_odd_frames_are_reported_as_seen(sandbox: RunningSandbox, tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    noise = np.random.default_rng(0).integers(0, 255, (51, 33, 3), np.uint8)
    Image.fromarray(noise).save(tmp_path / "turned.jpg", exif=exif)
    files = [[tmp_path / "turned.jpg", picture(tmp_path / "b.png", 51, 33)]]
    (row,) = make_project(sandbox, structure(), files, as_sequences=True).list_label_rows_v2()
    assert (row.width, row.height, row.number_of_frames) == (51, 33, 2)

"""Folders, stored files, groups of them, and how they get here and into datasets.

Not known of the real server, and decided here:
- what is put into the folder that was made with a dataset is put into that dataset as well;
- data added to a dataset becomes a task in every project that has the dataset;
- linking an item again answers the data unit that is there, adds one, or is refused, as asked;
- an image sequence whose frames differ in size is refused; its video shows a frame a second;
- where the client says what a video's rate, duration and size are, that is believed unseen.
Images, image groups, image sequences and videos can be uploaded.
"""

import uuid
from collections.abc import Iterator
from dataclasses import replace
from itertools import count
from pathlib import Path

from autolabel.sandbox import media
from autolabel.sandbox.store import (
    Call,
    Dataset,
    DataUnit,
    Folder,
    Item,
    Json,
    LegacyRoutes,
    Project,
    RefusedError,
    Store,
    Task,
    UploadJob,
    V2Routes,
)
from autolabel.sandbox.workflow import new_tasks

OBJECT_PREFIX = "sandbox/"
KINDS = {"images", "videos", "imageGroups", "imageGroupsFromItems"}


def page(results: list[Json]) -> Json:
    return {"results": results, "nextPageToken": None}


def new_uuid() -> str:
    return str(uuid.uuid4())


def object_key(item: Item) -> str | None:
    """Where the file lies; an image group has none."""
    return None if item.item_type == "imageGroup" else OBJECT_PREFIX + item.uuid


def signed_url(call: Call, item: Item) -> str | None:
    return call.signed_url("GET", f"/blobs/{item.uuid}") if object_key(item) else None


# ----------------------------------------------------------------------------- items and folders


def get_item(call: Call) -> Json:
    item = call.store.get(Item, call.ids["item"])
    return _encoded_item(call, item, call.query.get("signUrl") == ["True"])


def get_items(call: Call) -> Json:
    items = [call.store.get(Item, item_uuid) for item_uuid in call.payload["itemUuids"]]
    return page([_encoded_item(call, item, call.payload.get("signUrls", False)) for item in items])


def get_child_items(call: Call) -> Json:
    """The frames of a group, in their order."""
    children = [call.store.get(Item, child) for child in call.store.get(Item, call.ids["item"]).children]
    return page([_encoded_item(call, child, call.query.get("signUrls") == ["True"]) for child in children])


def list_items(call: Call) -> Json:
    """Every item of a folder, on one page; filtered by type only."""
    types, with_urls = call.query.get("itemTypes"), call.query.get("signUrls") == ["True"]
    items = [item for item in call.store.table(Item).values() if item.folder_uuid == call.ids["folder"]]
    return page([_encoded_item(call, item, with_urls) for item in items if not types or item.item_type in types])


def _encoded_item(call: Call, item: Item, with_url: bool) -> Json:
    blob = call.blobs / item.uuid
    units = sum(unit.item_uuid == item.uuid for unit in call.store.table(DataUnit).values())
    return {
        "uuid": item.uuid,
        "parent": item.folder_uuid,
        "itemType": item.item_type,
        "name": item.name,
        "description": "",
        "clientMetadata": "{}",
        "owner": item.owner,
        "createdAt": item.created_at,
        "lastEditedAt": item.created_at,
        "backedDataUnitsCount": units,
        "storageLocation": "encord",
        "integrationHash": None,
        "url": object_key(item),
        "signedUrl": signed_url(call, item) if with_url else None,
        "fileSize": blob.stat().st_size if blob.exists() else None,
        "mimeType": item.mime_type,
        "duration": item.duration_s,
        "fps": item.fps,
        "height": item.height,
        "width": item.width,
        "dicomInstanceUid": None,
        "dicomStudyUid": None,
        "dicomSeriesUid": None,
        "frameCount": item.frame_count,
        "audioSampleRate": None,
        "audioBitDepth": None,
        "audioCodec": None,
        "audioNumChannels": None,
    }


def create_folder(call: Call) -> Json:
    folder = Folder(new_uuid(), call.payload["name"], call.user, call.store.now())
    call.store.commit("folder_created", call.user, folder)
    return _encoded_folder(folder)


def get_folder(call: Call) -> Json:
    return _encoded_folder(call.store.get(Folder, call.ids["folder"]))


def _encoded_folder(folder: Folder) -> Json:
    return {
        "uuid": folder.uuid,
        "parent": None,
        "name": folder.name,
        "description": "",
        "clientMetadata": None,
        "owner": folder.owner,
        "createdAt": folder.created_at,
        "lastEditedAt": folder.created_at,
        "userRole": "admin",
        "syncedDatasetHash": folder.dataset_hash,
        "pathToRoot": [],
    }


# --------------------------------------------------------------------------------------- uploads


def presigned_urls(call: Call) -> Json:
    """Places to PUT files at. Nothing is known of them until an upload job names them."""
    return _places(call, int(call.query["count"][0]))


def upload_urls(call: Call) -> Json:
    return _places(call, call.payload["count"])


def _places(call: Call, number: int) -> Json:
    return page(
        [
            {
                "itemUuid": item_uuid,
                "objectKey": OBJECT_PREFIX + item_uuid,
                "signedUrl": call.signed_url("PUT", f"/blobs/{item_uuid}"),
            }
            for item_uuid in (new_uuid() for _ in range(number))
        ]
    )


def upload_to_dataset(call: Call) -> Json:
    """datasetdatalongpolling/POST."""
    dataset = call.store.get(Dataset, call.ids["resource"])
    return {"process_hash": _upload(call, call.store.get(Folder, dataset.folder_uuid))}


def upload_to_folder(call: Call) -> str:
    return _upload(call, call.store.get(Folder, call.ids["folder"]))


def _upload(call: Call, folder: Folder) -> str:
    """An upload job, done when it starts: all that it names is added, or nothing."""
    store, job = call.store, new_uuid()
    try:
        uploaded = list(_uploaded(call, folder, call.payload["dataItems"]))
    except (OSError, ValueError) as error:
        store.commit("upload_failed", call.user, UploadJob(job, _job_result("ERROR", [], [], [str(error)])))
        return job
    framed = {child for item in uploaded for child in item.children}
    items = [item for item in uploaded if item.uuid not in framed]
    units, tasks = new_data(store, folder.dataset_hash, items) if folder.dataset_hash else ([], [])
    result = _job_result("DONE", items, units, [])
    store.commit("data_added", call.user, *uploaded, *units, *tasks, UploadJob(job, result))
    return job


def upload_status(call: Call) -> Json:
    """Jobs are done when they start, so there is nothing to wait for."""
    return call.store.get(UploadJob, call.ids.get("job") or call.payload["process_hash"]).result


def _job_result(status: str, items: list[Item], units: list[DataUnit], errors: list[str]) -> Json:
    """In the words of both dialects: uploads to a dataset ask for units, uploads to a folder for items."""
    return {
        "status": status,
        "data_hashes_with_titles": [
            {"data_hash": u.data_hash, "title": u.title, "backing_item_uuid": u.item_uuid} for u in units
        ],
        "items_with_names": [{"item_uuid": item.uuid, "name": item.name} for item in items],
        "errors": errors,
        "data_unit_errors": [],
        "unit_errors": [],
        "units_pending_count": 0,
        "units_done_count": len(items),
        "units_error_count": len(errors),
        "units_cancelled_count": 0,
    }


def _uploaded(call: Call, folder: Folder, wanted: Json) -> Iterator[Item]:
    """Every item that these files make; the frames of a group come before it."""
    others = [kind for kind, files in wanted.items() if isinstance(files, list) and files and kind not in KINDS]
    if others:
        raise ValueError(f"this stand-in takes images, groups of them and videos, not {', '.join(others)}")
    for image in wanted.get("images", []):
        yield _picture(call, folder, image["objectUrl"], image.get("title"))
    for video in wanted.get("videos", []):
        yield _video(call, folder, video)
    for group in wanted.get("imageGroups", []):
        frames = [_picture(call, folder, frame["url"], frame.get("title")) for frame in group["images"]]
        yield from frames
        yield _group(call, folder, group, frames)
    for group in wanted.get("imageGroupsFromItems", []):
        yield _group(call, folder, group, [call.store.get(Item, item) for item in group["imageItems"]])


def _file(call: Call, folder: Folder, object_url: str, title: str | None) -> Item:
    """An item of a file that was PUT here, of which nothing is known yet."""
    item_uuid = str(uuid.UUID(object_url.removeprefix(OBJECT_PREFIX)))
    return Item(item_uuid, folder.uuid, title or item_uuid, None, None, None, call.user, call.store.now())


def _picture(call: Call, folder: Folder, object_url: str, title: str | None) -> Item:
    item = _file(call, folder, object_url, title)
    found = media.picture_properties(call.blobs / item.uuid)
    return replace(item, mime_type=found.mime_type, width=found.width_px, height=found.height_px)


def _video(call: Call, folder: Folder, wanted: Json) -> Item:
    item = _file(call, folder, wanted["objectUrl"], wanted.get("title"))
    if said := wanted.get("videoMetadata"):
        frame_count = round(said["fps"] * said["duration"])
        size = (said["width"], said["height"])
        found = media.Properties(said["mimeType"], *size, frame_count, said["fps"], said["duration"])
    else:
        found = media.video_properties(call.blobs / item.uuid)
    return _as_video(item, found, "video")


def _as_video(item: Item, found: media.Properties, item_type: str) -> Item:
    return replace(
        item,
        item_type=item_type,
        mime_type=found.mime_type,
        width=found.width_px,
        height=found.height_px,
        frame_count=found.frame_count,
        fps=found.fps,
        duration_s=found.duration_s,
    )


def _group(call: Call, folder: Folder, wanted: Json, frames: list[Item]) -> Item:
    """An image group, or with createVideo an image sequence."""
    if not frames:
        raise ValueError("a group needs an image")
    children = [frame.uuid for frame in frames]
    group = replace(_file(call, folder, new_uuid(), None), children=children, frame_count=len(frames))
    group = replace(group, name=wanted.get("title") or f"image-group-{group.uuid[:5]}", item_type="imageGroup")
    if not wanted.get("createVideo"):
        return group
    path = call.blobs / group.uuid
    _encode_sequence(path, [call.blobs / child for child in children])
    return _as_video(group, media.video_properties(path), "imageSequence")


def _encode_sequence(path: Path, pictures: list[Path]) -> None:
    seen = [media.picture(picture) for picture in pictures]
    if len({rgb.shape for rgb in seen}) > 1:
        raise ValueError("the frames of an image sequence are of one size here")
    height_px, width_px = seen[0].shape[:2]
    media.encode_video(path, (width_px, height_px), zip(count(0.0), seen, strict=False))


# -------------------------------------------------------------------------------- into a dataset


def new_data(store: Store, dataset_hash: str, items: list[Item]) -> tuple[list[DataUnit], list[Task]]:
    """Data units of these items, and their tasks in every project that has the dataset."""
    now = store.now()
    units = [DataUnit(new_uuid(), dataset_hash, item.uuid, item.name, now) for item in items]
    projects = [project for project in store.table(Project).values() if dataset_hash in project.dataset_hashes]
    return units, [task for project in projects for task in new_tasks(store, project, units)]


def link(call: Call, dataset: Dataset) -> list[DataUnit]:
    """The data units of the named items in this dataset: those that are there, and fresh ones for the rest."""
    store, wanted = call.store, call.payload
    there = {unit.item_uuid: unit for unit in store.table(DataUnit).values() if unit.dataset_hash == dataset.key}
    behaviour = wanted["duplicates_behavior"]
    if behaviour == "FAIL" and not there.keys().isdisjoint(wanted["item_uuids"]):
        raise RefusedError(409, "RESOURCE_EXISTS_ERROR", "an item is in this dataset already")
    known = there if behaviour == "SKIP" else {}
    fresh = [store.get(Item, item) for item in dict.fromkeys(wanted["item_uuids"]) if item not in known]
    units, tasks = new_data(store, dataset.key, fresh)
    store.commit("data_linked", call.user, *units, *tasks)
    return [known[item] for item in wanted["item_uuids"] if item in known] + units


LEGACY: LegacyRoutes = {
    ("datasetdatalongpolling", "POST"): upload_to_dataset,
    ("datasetdatalongpolling", "GET"): upload_status,
}
V2: V2Routes = [
    ("GET", "/presigned-urls", presigned_urls),
    ("GET", "/storage/items/{item}", get_item),
    ("POST", "/storage/items/get-bulk", get_items),
    ("POST", "/storage/folders", create_folder),
    ("GET", "/storage/folders/{folder}", get_folder),
    ("GET", "/storage/folders/{folder}/items", list_items),
    ("GET", "/storage/folders/{folder}/items/{item}/child-items", get_child_items),
    ("POST", "/storage/folders/{folder}/upload-signed-urls", upload_urls),
    ("POST", "/storage/folders/{folder}/data-upload-jobs", upload_to_folder),
    ("GET", "/storage/folders/{folder}/data-upload-jobs/{job}", upload_status),
]

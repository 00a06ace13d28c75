"""What labels hang on: projects, ontologies, datasets, stored files and their upload.

Not known of the real server, and decided here:
- an image's width and height are reported with its EXIF orientation applied, as a browser shows it;
- a file whose header cannot be read fails its upload job; one that is broken further in does not;
- data added to a dataset becomes a task in every project that has the dataset;
- a project made through the SDK gets the workflow Annotate -> Review -> Complete, since workflow
  templates are made in the web app; naming one is refused.
Only images can be uploaded so far.
"""

import uuid
from dataclasses import replace

from autolabel.sandbox.auth import bearer_token
from autolabel.sandbox.store import (
    Call,
    Dataset,
    DataUnit,
    Item,
    Json,
    LegacyRoutes,
    Ontology,
    Project,
    RefusedError,
    Store,
    UploadJob,
    V2Routes,
)
from autolabel.sandbox.workflow import is_like, new_stages, new_tasks

EMPTY_EDITOR: Json = {"objects": [], "classifications": []}
OBJECT_PREFIX = "sandbox/"
EXIF_ORIENTATION = 0x0112
EXIF_SIDEWAYS = {5, 6, 7, 8}


def _page(results: list[Json]) -> Json:
    return {"results": results, "nextPageToken": None}


def new_uuid() -> str:
    return str(uuid.uuid4())


# ------------------------------------------------------------------- projects and ontologies


def get_bearer_token(call: Call) -> Json:
    return {"token": bearer_token(call.user)}


def get_project(call: Call) -> Json:
    return _encoded_project(call.store, call.project())


def list_projects(call: Call) -> Json:
    """Filtered by title only."""
    exact, like = call.query.get("titleEq"), call.query.get("titleLike", ["%"])
    projects = call.store.table(Project).values()
    titled = [p for p in projects if is_like(p.title, like[0]) and p.title in (exact or [p.title])]
    return _page([_encoded_project(call.store, project) for project in titled])


def list_datasets(call: Call) -> Json:
    datasets = [call.store.get(Dataset, h) for h in call.project().dataset_hashes]
    return _page([{"datasetHash": d.dataset_hash, "title": d.title, "description": d.description} for d in datasets])


def _encoded_project(store: Store, project: Project) -> Json:
    return {
        "projectHash": project.project_hash,
        "projectType": "workflow",
        "status": "inProgress",
        "title": project.title,
        "description": project.description,
        "createdAt": project.created_at,
        "creatorEmail": project.creator,
        "lastEditedAt": project.created_at,
        "ontologyHash": project.ontology_hash,
        "editorOntology": store.get(Ontology, project.ontology_hash).editor,
        "userRole": 0,
        "workflow": {"stages": project.stages},
    }


def create_project(call: Call) -> str:
    """project/POST. Answers the new project's hash."""
    store, wanted = call.store, call.payload
    if wanted.get("workflow_template_id"):
        raise RefusedError(404, "RESOURCE_NOT_FOUND_ERROR", "there are no workflow templates here")
    if wanted.get("ontology_hash"):
        ontology = store.get(Ontology, wanted["ontology_hash"])
    else:
        ontology = _new_ontology(store, wanted["title"], "", EMPTY_EDITOR)
    project_hash = new_uuid()
    project = Project(
        project_hash,
        title=wanted["title"],
        description=wanted.get("description", ""),
        ontology_hash=ontology.ontology_hash,
        dataset_hashes=[store.get(Dataset, h).dataset_hash for h in wanted["dataset_hashes"]],
        stages=new_stages(project_hash),
        creator=call.user,
        created_at=store.now(),
    )
    tasks = new_tasks(store, project, store.units(project))
    store.commit("project_created", call.user, ontology, project, *tasks)
    return project_hash


def get_ontology(call: Call) -> Json:
    return _encoded_ontology(call.store.get(Ontology, call.ids["ontology"]))


def create_ontology(call: Call) -> Json:
    wanted = call.payload
    description = wanted.get("description") or ""
    ontology = _new_ontology(call.store, wanted["title"], description, wanted["editor"])
    call.store.commit("ontology_created", call.user, ontology)
    return _encoded_ontology(ontology)


def save_ontology(call: Call) -> None:
    ontology = call.store.get(Ontology, call.ids["ontology"])
    changed = {key: call.payload[key] for key in ("title", "description", "editor")}
    changed["last_edited_at"] = call.store.now()
    call.store.commit("ontology_saved", call.user, replace(ontology, **changed))


def _new_ontology(store: Store, title: str, description: str, editor: Json) -> Ontology:
    return Ontology(new_uuid(), title, description, editor, store.now(), store.now())


def _encoded_ontology(ontology: Ontology) -> Json:
    return {
        "ontologyUuid": ontology.ontology_hash,
        "title": ontology.title,
        "description": ontology.description,
        "editor": ontology.editor,
        "createdAt": ontology.created_at,
        "lastEditedAt": ontology.last_edited_at,
        "userRole": 0,
    }


# --------------------------------------------------------------------------------- datasets


def create_dataset(call: Call) -> Json:
    wanted, store = call.payload, call.store
    dataset = Dataset(new_uuid(), wanted["title"], wanted.get("description") or "", new_uuid(), store.now())
    store.commit("dataset_created", call.user, dataset)
    return {"datasetUuid": dataset.dataset_hash, "backingFolderUuid": dataset.folder_uuid}


def get_dataset(call: Call) -> Json:
    """dataset/GET."""
    dataset = call.store.get(Dataset, call.ids["resource"])
    with_rows = call.payload["dataset_access_settings"].get("fetch_rows", True)
    units = [u for u in call.store.table(DataUnit).values() if u.dataset_hash == dataset.key]
    return {
        "dataset_hash": dataset.dataset_hash,
        "title": dataset.title,
        "description": dataset.description,
        "dataset_type": 0,
        "backing_folder_uuid": dataset.folder_uuid,
        "data_rows": [_data_row(call.store, unit) for unit in units] if with_rows else [],
    }


def _data_row(store: Store, unit: DataUnit) -> Json:
    item = store.get(Item, unit.item_uuid)
    return {
        "data_hash": unit.data_hash,
        "data_title": unit.title,
        "data_type": "IMAGE",
        "created_at": unit.created_at,
        "last_edited_at": unit.created_at,
        "width": item.width,
        "height": item.height,
        "file_link": _object_key(item.uuid),
        "file_size": None,
        "file_type": item.mime_type,
        "storage_location": 0,
        "frames_per_second": None,
        "duration": None,
        "backing_item_uuid": item.uuid,
    }


# ---------------------------------------------------------------------------------- storage


def get_item(call: Call) -> Json:
    item = call.store.get(Item, call.ids["item"])
    return _encoded_item(call, item, call.query.get("signUrl") == ["True"])


def get_items(call: Call) -> Json:
    items = [call.store.get(Item, item_uuid) for item_uuid in call.payload["itemUuids"]]
    return _page([_encoded_item(call, item, call.payload.get("signUrls", False)) for item in items])


def _encoded_item(call: Call, item: Item, with_url: bool) -> Json:
    return {
        "uuid": item.uuid,
        "parent": item.folder_uuid,
        "itemType": "image",
        "name": item.name,
        "description": "",
        "clientMetadata": "{}",
        "owner": item.owner,
        "createdAt": item.created_at,
        "lastEditedAt": item.created_at,
        "backedDataUnitsCount": 1,
        "storageLocation": "encord",
        "integrationHash": None,
        "url": _object_key(item.uuid),
        "signedUrl": call.signed_url("GET", f"/blobs/{item.uuid}") if with_url else None,
        "fileSize": None,
        "mimeType": item.mime_type,
        "duration": None,
        "fps": None,
        "height": item.height,
        "width": item.width,
        "dicomInstanceUid": None,
        "dicomStudyUid": None,
        "dicomSeriesUid": None,
        "frameCount": 1,
        "audioSampleRate": None,
        "audioBitDepth": None,
        "audioCodec": None,
        "audioNumChannels": None,
    }


def _object_key(item_uuid: str) -> str:
    return OBJECT_PREFIX + item_uuid


def presigned_urls(call: Call) -> Json:
    """Places to PUT files at. Nothing is known of them until an upload job names them."""
    uuids = [new_uuid() for _ in range(int(call.query["count"][0]))]
    return _page(
        [
            {
                "itemUuid": item_uuid,
                "objectKey": _object_key(item_uuid),
                "signedUrl": call.signed_url("PUT", f"/blobs/{item_uuid}"),
            }
            for item_uuid in uuids
        ]
    )


def start_upload(call: Call) -> Json:
    """datasetdatalongpolling/POST."""
    dataset = call.store.get(Dataset, call.ids["resource"])
    process_hash = new_uuid()
    try:
        items = [_read_item(call, dataset, image) for image in _images(call.payload["dataItems"])]
    except (OSError, ValueError) as error:
        failed = UploadJob(process_hash, _job_result("ERROR", [], [str(error)]))
        call.store.commit("upload_failed", call.user, failed)
    else:
        _add_data(call, dataset, items, process_hash)
    return {"process_hash": process_hash}


def _images(data_items: Json) -> list[Json]:
    others = [kind for kind, files in data_items.items() if kind != "images" and files]
    if others:
        raise ValueError(f"this stand-in takes single images only, not {', '.join(others)}")
    images: list[Json] = data_items["images"]
    return images


def _add_data(call: Call, dataset: Dataset, items: list[Item], process_hash: str) -> None:
    """Items become data units, and a task in every project that has the dataset."""
    store, now = call.store, call.store.now()
    units = [DataUnit(new_uuid(), dataset.key, item.uuid, item.name, now) for item in items]
    tasks = [
        task
        for project in store.table(Project).values()
        if dataset.key in project.dataset_hashes
        for task in new_tasks(store, project, units)
    ]
    job = UploadJob(process_hash, _job_result("DONE", units, []))
    store.commit("data_added", call.user, *items, *units, *tasks, job)


def upload_status(call: Call) -> Json:
    """datasetdatalongpolling/GET. Jobs are done when they start, so there is nothing to wait for."""
    return call.store.get(UploadJob, call.payload["process_hash"]).result


def _job_result(status: str, units: list[DataUnit], errors: list[str]) -> Json:
    return {
        "status": status,
        "data_hashes_with_titles": [
            {"data_hash": u.data_hash, "title": u.title, "backing_item_uuid": u.item_uuid} for u in units
        ],
        "errors": errors,
        "data_unit_errors": [],
        "units_pending_count": 0,
        "units_done_count": len(units),
        "units_error_count": len(errors),
        "units_cancelled_count": 0,
    }


def _read_item(call: Call, dataset: Dataset, image: Json) -> Item:
    from PIL import Image  # slow to import, and rarely needed

    item_uuid = str(uuid.UUID(image["objectUrl"].removeprefix(OBJECT_PREFIX)))
    with Image.open(call.blobs / item_uuid) as picture:
        width, height = picture.size
        if picture.getexif().get(EXIF_ORIENTATION) in EXIF_SIDEWAYS:
            width, height = height, width
        mime_type = picture.get_format_mimetype() or "application/octet-stream"
    return Item(
        item_uuid,
        dataset.folder_uuid,
        name=image.get("title") or item_uuid,
        mime_type=mime_type,
        width=width,
        height=height,
        owner=call.user,
        created_at=call.store.now(),
    )


LEGACY: LegacyRoutes = {
    ("project", "POST"): create_project,
    ("dataset", "GET"): get_dataset,
    ("datasetdatalongpolling", "POST"): start_upload,
    ("datasetdatalongpolling", "GET"): upload_status,
}
V2: V2Routes = [
    ("GET", "/user/bearer-token", get_bearer_token),
    ("GET", "/projects", list_projects),
    ("GET", "/projects/{project}", get_project),
    ("GET", "/projects/{project}/datasets", list_datasets),
    ("POST", "/ontologies", create_ontology),
    ("GET", "/ontologies/{ontology}", get_ontology),
    ("PUT", "/ontologies/{ontology}", save_ontology),
    ("POST", "/datasets", create_dataset),
    ("GET", "/presigned-urls", presigned_urls),
    ("GET", "/storage/items/{item}", get_item),
    ("POST", "/storage/items/get-bulk", get_items),
]

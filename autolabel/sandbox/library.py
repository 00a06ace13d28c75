"""What labels hang on: projects, ontologies, datasets.

Not known of the real server, and decided here: a project made through the SDK gets the workflow
Annotate -> Review -> Complete, since workflow templates are made in the web app; naming one is
refused.
"""

from dataclasses import replace

from autolabel.sandbox.auth import bearer_token
from autolabel.sandbox.storage import link, new_uuid, object_key, page, signed_url
from autolabel.sandbox.store import (
    Call,
    Dataset,
    DataUnit,
    Folder,
    Item,
    Json,
    LegacyRoutes,
    Ontology,
    Project,
    RefusedError,
    Store,
    V2Routes,
)
from autolabel.sandbox.workflow import is_like, new_stages, new_tasks

EMPTY_EDITOR: Json = {"objects": [], "classifications": []}


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
    return page([_encoded_project(call.store, project) for project in titled])


def list_datasets(call: Call) -> Json:
    datasets = [call.store.get(Dataset, h) for h in call.project().dataset_hashes]
    return page([{"datasetHash": d.dataset_hash, "title": d.title, "description": d.description} for d in datasets])


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
    folder = Folder(dataset.folder_uuid, dataset.title, call.user, dataset.created_at, dataset.key)
    store.commit("dataset_created", call.user, dataset, folder)
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


def list_all_datasets(call: Call) -> Json:
    """All of them, whatever the filters say."""
    listed = [_listed(dataset) for dataset in call.store.table(Dataset).values()]
    return {"result": listed}


def _listed(dataset: Dataset) -> Json:
    return {
        "datasetUuid": dataset.dataset_hash,
        "title": dataset.title,
        "description": dataset.description,
        "createdAt": dataset.created_at,
        "lastEditedAt": dataset.created_at,
        "userRole": "admin",
        "storageLocation": 0,
        "backingFolderUuid": dataset.folder_uuid,
    }


def link_items(call: Call) -> list[Json]:
    """datasetlinkitems/POST."""
    units = link(call, call.store.get(Dataset, call.ids["resource"]))
    return [_data_row(call.store, unit) for unit in units]


def _data_row(store: Store, unit: DataUnit) -> Json:
    item = store.get(Item, unit.item_uuid)
    is_group = item.data_type == "img_group"
    return {
        "data_hash": unit.data_hash,
        "data_title": unit.title,
        "data_type": item.data_type.upper(),
        "created_at": unit.created_at,
        "last_edited_at": unit.created_at,
        "width": item.width,
        "height": item.height,
        "file_link": object_key(item),
        "file_size": None,
        "file_type": item.mime_type,
        "storage_location": 0,
        "frames_per_second": item.fps,
        "duration": item.duration_s,
        "is_optimised_image_group": item.item_type == "imageSequence" if is_group else None,
        "backing_item_uuid": item.uuid,
    }


def get_data(call: Call) -> Json:
    """datasetdata/GET: the file of a video, or the files of a group's frames."""
    unit = call.store.get(DataUnit, call.payload["data_hash"])
    described = [_described(call, unit, frame_hash, item) for frame_hash, item in call.store.frames(unit)]
    is_video = call.store.get(Item, unit.item_uuid).data_type == "video"
    return {
        "data_hash": unit.data_hash,
        "video": described[0] if is_video else None,
        "images": None if is_video else described,
    }


def _described(call: Call, unit: DataUnit, frame_hash: str, item: Item) -> Json:
    file_link = signed_url(call, item) if call.payload["get_signed_url"] else object_key(item)
    described = {"data_hash": unit.data_hash, "title": item.name, "file_link": file_link}
    if item.data_type == "video":
        return described | {"backing_item_uuid": item.uuid}
    return described | {"image_hash": frame_hash}


LEGACY: LegacyRoutes = {
    ("project", "POST"): create_project,
    ("dataset", "GET"): get_dataset,
    ("datasetlinkitems", "POST"): link_items,
    ("datasetdata", "GET"): get_data,
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
    ("GET", "/datasets/list", list_all_datasets),
]

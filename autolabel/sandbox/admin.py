"""What tests and demos ask for beyond the API: faults, webhooks, simulated people, a look inside."""

from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from typing import Any

from autolabel.sandbox import labels
from autolabel.sandbox.faults import Faults
from autolabel.sandbox.people import act_as_person
from autolabel.sandbox.store import Json, Project, RefusedError, Store
from autolabel.sandbox.webhooks import Webhooks


class Admin:
    """The /admin routes."""

    def __init__(self, store: Store, faults: Faults, webhooks: Webhooks) -> None:
        self._store = store
        self._routes: dict[tuple[str, str], Callable[[Mapping[str, str], Any], Any]] = {
            ("POST", "/admin/faults"): lambda _query, body: faults.plan(body),
            ("GET", "/admin/faults"): lambda _query, _body: faults.listed(),
            ("DELETE", "/admin/faults"): lambda _query, _body: faults.clear(),
            ("POST", "/admin/webhooks"): lambda _query, body: webhooks.add(**body),
            ("GET", "/admin/webhooks"): lambda _query, _body: webhooks.listed(),
            ("DELETE", "/admin/webhooks"): lambda query, _body: webhooks.remove(query["id"]),
            ("POST", "/admin/human"): lambda _query, body: act_as_person(store, body),
            ("POST", "/admin/settings"): self._change_settings,
            ("GET", "/admin/log"): lambda query, _body: list(store.log.since(int(query.get("since", 0)))),
            ("GET", "/admin/rows"): lambda query, _body: dump_rows(store, query["project"]),
        }

    def handle(self, method: str, path: str, query: Mapping[str, str], body: Any) -> Any:
        handler = self._routes.get((method, path))
        if handler is None:
            known = ", ".join(f"{method} {path}" for method, path in self._routes)
            raise RefusedError(404, "", f"the admin routes are {known}")
        try:
            return handler(query, body)
        except (LookupError, TypeError, ValueError) as error:
            message = f"{type(error).__name__}: {error}"
            raise RefusedError(400, "INVALID_ARGUMENTS_ERROR", message) from error

    def _change_settings(self, _query: Mapping[str, str], wanted: Json) -> Json:
        settings = replace(self._store.settings(), **wanted)
        self._store.commit("settings_changed", "admin", settings)
        return asdict(settings)


def dump_rows(store: Store, project_hash: str) -> dict[str, dict[str, Json]]:
    """Branch -> data hash -> what is stored of that label row."""
    dump: dict[str, dict[str, Json]] = {}
    for row in labels.rows_of(store, store.get(Project, project_hash)):
        dump.setdefault(row.branch, {})[row.data_hash] = asdict(row)
    return dump

"""What tests and demos ask for beyond the API: planned faults, simulated people, a look inside."""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from starlette.responses import JSONResponse, Response

from autolabel.sandbox import labels
from autolabel.sandbox.people import act_as_person
from autolabel.sandbox.store import Call, Handler, Json, Project, RefusedError, Store

EXPIRED_URL = "<Error><Code>ExpiredToken</Code><Message>Invalid argument.</Message></Error>"
LEGACY_CODES = {
    400: "INVALID_ARGUMENTS_ERROR",
    401: "AUTHENTICATION_ERROR",
    403: "AUTHORISATION_ERROR",
    404: "RESOURCE_NOT_FOUND_ERROR",
}


# --------------------------------------------------------------------------------------- faults


@dataclass
class Fault:
    """A planned mishap: it lets `after` matching requests pass, then meets `times` of them.

    drip: applied, and then the answer comes a byte every `delay_s`.
    not_json: applied, and then the answer is 200 and a page for people.
    drop_items: the named items of a bundle are neither applied nor answered, and nothing says so.
    fail_items: the same, and the answer is an error although the other items were applied.
    Where the request is no bundle (a listing), drop_items takes the items out of the answer.
    """

    id: int
    kind: str
    times: int
    match: Json = field(default_factory=dict)
    after: int = 0
    status: int = 503
    retry_after_s: int | str | None = None  # or whatever the header is to say instead
    delay_s: float = 0.0
    items: list[int] = field(default_factory=list)
    seen: int = 0
    met: int = 0

    ON_ITEMS = ("drop_items", "fail_items")
    KINDS = ("status", "reset_before", "reset_after", "slow", "truncate", "drip", "not_json", "expire_url", *ON_ITEMS)
    TRAITS = ("method", "path_contains", "query_type", "query_method")

    def __post_init__(self) -> None:
        if self.kind not in self.KINDS:
            raise ValueError(f"no fault of kind {self.kind}; there are {', '.join(self.KINDS)}")
        if not set(self.match) <= set(self.TRAITS):
            raise ValueError(f"faults are matched on {', '.join(self.TRAITS)}")

    def meets(self, traits: Json) -> bool:
        wanted = dict(self.match)
        if wanted.pop("path_contains", "") not in traits["path"]:
            return False
        if any(traits[name] != value for name, value in wanted.items()):
            return False
        self.seen += 1
        return self.after < self.seen and self.met < self.times

    def answer(self, *, in_envelope: bool) -> Response:
        """What is said instead of the real answer; the legacy dialect says most of it within a 200."""
        if self.kind == "expire_url":
            return Response(EXPIRED_URL, 403, media_type="application/xml")
        if self.kind == "not_json":
            return Response("<html>Please come back later</html>", 200, media_type="text/html")
        if in_envelope and self.status in LEGACY_CODES:
            content = {"status": self.status, "response": [LEGACY_CODES[self.status]], "payload": "a planned fault"}
            return JSONResponse(content)
        wait = {} if self.retry_after_s is None else {"Retry-After": str(self.retry_after_s)}
        return JSONResponse({"message": "a planned fault"}, self.status, headers=wait)

    def handled(self, handler: Handler, call: Call) -> Any:
        """What `handler` answers to the call under this fault."""
        if self.kind not in self.ON_ITEMS:
            return handler(call)
        bundle = self._bundle_less_items(call)
        answer = handler(bundle) if bundle else self._less_items(handler(call))
        if self.kind == "fail_items":
            raise RefusedError(self.status, "UNKNOWN_ERROR", "some items could not be handled")
        return answer

    def _bundle_less_items(self, call: Call) -> Call | None:
        """The call without the named items; None where it carries no items."""
        if call.uid:
            payload = call.payload
            if "labels" in payload:
                payload = payload | {"labels": self._less_items(payload["labels"])}
            return replace(call, uid=self._less_items(call.uid), payload=payload)
        if call.payload is not None and "resource" not in call.ids:
            return replace(call, payload=self._less_items(call.payload))
        return None

    def _less_items(self, value: Any) -> Any:
        """`value` less the named items: of itself if it is a list, else of the lists in it."""
        if isinstance(value, list):
            return [item for i, item in enumerate(value) if i not in self.items]
        return {k: self._less_items(v) if isinstance(v, list) else v for k, v in value.items()}


# --------------------------------------------------------------------------------------- routes


class Admin:
    """The /admin routes. Planned faults are in memory only: a restarted server has none."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._faults: list[Fault] = []
        self._routes: dict[tuple[str, str], Callable[[Mapping[str, str], Any], Any]] = {
            ("POST", "/admin/faults"): self._plan_faults,
            ("GET", "/admin/faults"): lambda _query, _body: [asdict(f) for f in self._faults],
            ("DELETE", "/admin/faults"): lambda _query, _body: self._faults.clear(),
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

    def meet_fault(self, traits: Json) -> Fault | None:
        """The first planned fault that this request meets, counted as met."""
        for fault in self._faults:
            if fault.meets(traits):
                fault.met += 1
                return fault
        return None

    def _plan_faults(self, _query: Mapping[str, str], wanted: list[Json]) -> Json:
        fresh = [Fault(id=i, **fault) for i, fault in enumerate(wanted, len(self._faults))]
        self._faults += fresh
        return {"ids": [fault.id for fault in fresh]}

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

"""Mishaps that tests plan: of requests to the stand-in, and of the webhooks that it sends."""

from dataclasses import asdict, dataclass, field, replace
from typing import Any

from starlette.responses import JSONResponse, Response

from autolabel.sandbox.store import Call, Handler, Json, RefusedError

EXPIRED_URL = "<Error><Code>ExpiredToken</Code><Message>Invalid argument.</Message></Error>"
DELIVERY = "WEBHOOK"
"""What stands for the method where the stand-in is the one that calls."""
LEGACY_CODES = {
    400: "INVALID_ARGUMENTS_ERROR",
    401: "AUTHENTICATION_ERROR",
    403: "AUTHORISATION_ERROR",
    404: "RESOURCE_NOT_FOUND_ERROR",
}


@dataclass
class Fault:
    """A planned mishap: it lets `after` matching requests pass, then meets `times` of them.

    drip: applied, and then the answer comes a byte every `delay_s`.
    not_json: applied, and then the answer is 200 and a page for people.
    drop_items: the named items of a bundle are neither applied nor answered, and nothing says so.
    fail_items: the same, and the answer is an error although the other items were applied.
    Where the request is no bundle (a listing), drop_items takes the items out of the answer.
    Webhooks that the stand-in sends meet these alone, matched on the event (`query_type`) and the receiver's path:
    skip: not sent. duplicate: sent twice, the same to the byte. corrupt: a byte is another one than was signed.
    late: sent `delay_s` after it was signed, so that others overtake it.
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
    ON_DELIVERIES = ("skip", "duplicate", "late", "corrupt")
    ON_REQUESTS = ("status", "reset_before", "reset_after", "slow", "truncate", "drip", "not_json", "expire_url")
    KINDS = (*ON_REQUESTS, *ON_ITEMS, *ON_DELIVERIES)
    TRAITS = ("method", "path_contains", "query_type", "query_method")

    def __post_init__(self) -> None:
        if self.kind not in self.KINDS:
            raise ValueError(f"no fault of kind {self.kind}; there are {', '.join(self.KINDS)}")
        if not set(self.match) <= set(self.TRAITS):
            raise ValueError(f"faults are matched on {', '.join(self.TRAITS)}")

    def meets(self, traits: Json) -> bool:
        if (self.kind in self.ON_DELIVERIES) != (traits["method"] == DELIVERY):
            return False
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


class Faults:
    """What is planned. In memory only: a restarted server has no faults."""

    def __init__(self) -> None:
        self._planned: list[Fault] = []

    def plan(self, wanted: list[Json]) -> Json:
        fresh = [Fault(id=i, **fault) for i, fault in enumerate(wanted, len(self._planned))]
        self._planned += fresh
        return {"ids": [fault.id for fault in fresh]}

    def listed(self) -> list[Json]:
        return [asdict(fault) for fault in self._planned]

    def clear(self) -> None:
        self._planned.clear()

    def meet(self, traits: Json) -> Fault | None:
        """The first planned fault that this request or delivery meets, counted as met."""
        for fault in self._planned:
            if fault.meets(traits):
                fault.met += 1
                return fault
        return None

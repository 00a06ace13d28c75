"""What the harness reads from outside: system calls in their order, requests and commits by their names."""

from __future__ import annotations

import pytest
from requests import Request

from torture import points
from torture.durability import judge

WAL, SEND = (
    "pwrite64(4</home/ledger.sqlite-wal>, ...",
    r'sendto(7<socket:[1]>, "{\"query_type\": \"labelrow\", \"query_method\": \"POST\"',
)
SYNC = "fdatasync(4</home/ledger.sqlite-wal>) = 0"
MOVE = 'sendto(7<socket:[1]>, "POST /v2/public/projects/p/workflow/stages/s/actions HTTP/1.1'
READ = r'sendto(7<socket:[1]>, "{\"query_type\": \"labelrow\", \"query_method\": \"GET\"'


def calls(*steps: str) -> list[str]:
    """`1:what` is what thread 1 does."""
    return [step.replace(":", " ", 1) for step in steps]


@pytest.mark.parametrize("send", [SEND, MOVE])
def test_a_request_after_the_sync_of_its_commit_is_well(send: str) -> None:
    assert judge(calls(f"1:{WAL}", f"1:{SYNC}", f"1:{send}")) == (1, [])


def test_a_request_before_the_sync_is_seen_also_where_another_thread_sends() -> None:
    assert len(judge(calls(f"1:{WAL}", f"1:{SEND}", f"1:{SYNC}"))[1]) == 1
    assert len(judge(calls(f"1:{WAL}", f"2:{SEND}"))[1]) == 1


def test_a_commit_of_another_thread_may_be_under_way() -> None:
    assert judge(calls(f"1:{WAL}", f"2:{SEND}", f"1:{SYNC}")) == (1, [])


def test_requests_that_read_are_not_counted() -> None:
    assert judge(calls(f"1:{WAL}", f"1:{READ}")) == (0, [])


def test_requests_are_named_by_what_they_ask_and_never_by_whom() -> None:
    body = '{"query_type": "labelrow", "query_method": "PUT", "values": {"uid": ["a", "b"]}}'
    legacy = Request("POST", "https://host/public", data=body).prepare()
    item = "0b8d5f7e-1f0c-4b58-9d0e-2f6f5f0b1c11"
    stage = Request("POST", f"https://host/v2/public/projects/{item}/labels/copy-branch?a=b").prepare()
    assert points._told(legacy) == ("labelrow PUT", 2)
    assert points._told(stage) == ("POST /projects/*/labels/copy-branch", 0)

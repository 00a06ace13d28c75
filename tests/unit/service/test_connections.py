"""Connections of `serve` that say too little to be kept."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator

import pytest
import uvicorn
from fastapi import FastAPI

from autolabel.service.serve import config_for

HEAD = b"GET / HTTP/1.1\r\nHost: here\r\n\r\n"


@pytest.fixture
def address() -> Iterator[tuple[str, int]]:
    config = config_for(FastAPI())
    config.timeout_keep_alive = 1
    server = uvicorn.Server(config)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        while not server.started:
            time.sleep(0.01)
        yield listener.getsockname()
        server.should_exit = True
        thread.join()


@pytest.mark.parametrize("said", [b"", HEAD[:9], HEAD + HEAD[:9]])
def test_a_connection_without_a_whole_request_is_closed(address: tuple[str, int], said: bytes) -> None:
    with socket.create_connection(address, timeout=20) as connection:
        if said.startswith(HEAD):
            connection.sendall(HEAD)
            assert connection.recv(4096).startswith(b"HTTP/1.1 404")
        connection.sendall(said.removeprefix(HEAD))
        while connection.recv(4096):
            pass


def test_a_request_in_two_parts_is_answered(address: tuple[str, int]) -> None:
    with socket.create_connection(address, timeout=20) as connection:
        connection.sendall(HEAD[:9])
        time.sleep(0.1)
        connection.sendall(HEAD[9:])
        assert connection.recv(4096).startswith(b"HTTP/1.1 404")

"""Calls made of whatever bytes a fuzzer comes upon: errors that we raise on purpose are right, all others are not.

A program of its own, since libFuzzer never returns; `torture.receiving` runs it. With the environment's DOUBLE=Naive
a verifier that trusts what it is given is in the place of ours: the fuzzer must find that.
"""

from __future__ import annotations

import os
import sys
from contextlib import suppress

import atheris

with atheris.instrument_imports(include=["autolabel.service"]):
    from autolabel.service.envelopes import read_bucket, read_encord
    from autolabel.service.signatures import ENCORD, STANDARD, RawHeaders, standard_key

from autolabel.errors import PermanentCallError

NOW_S = 1_795_000_000.0
KEYS = (b"key", b"\xff\x00")
NAMES = [
    *(b"x-encord-signature", b"x-encord-timestamp", b"X-Encord-Signature-V2"),
    *(b"webhook-id", b"webhook-timestamp", b"webhook-signature"),
]


def verify_naively(headers: RawHeaders, body: bytes, keys: tuple[bytes, ...], now_s: float) -> str:
    given = dict(headers)
    return ENCORD.verify(headers, body, keys, now_s + int(given.get(b"x-encord-timestamp", b"0").decode()))


VERIFIERS = [verify_naively if os.environ.get("DOUBLE") == "Naive" else ENCORD.verify, STANDARD.verify]


def call(data: bytes) -> None:
    source = atheris.FuzzedDataProvider(data)
    headers = [_header(source) for _ in range(source.ConsumeIntInRange(0, 5))]
    body = source.ConsumeBytes(sys.maxsize)
    for verify in VERIFIERS:
        with suppress(PermanentCallError):
            verify(headers, body, KEYS, NOW_S)
    for read in (read_encord, read_bucket):
        with suppress(PermanentCallError):
            read(body)
        with suppress(PermanentCallError):
            read(data)
    with suppress(ValueError):
        standard_key(body.decode("latin-1"))


def _header(source: atheris.FuzzedDataProvider) -> tuple[bytes, bytes]:
    name = source.PickValueInList(NAMES) if source.ConsumeBool() else source.ConsumeBytes(30)
    value = b"1795000000" if source.ConsumeBool() else source.ConsumeBytes(source.ConsumeIntInRange(0, 500))
    return name, value


if __name__ == "__main__":
    atheris.Setup(sys.argv, call)
    atheris.Fuzz()

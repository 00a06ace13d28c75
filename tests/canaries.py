"""Secrets that nothing may show, each in the shapes in which it could turn up in a message."""

from __future__ import annotations

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ed25519

_KEY = ed25519.Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
_FORM = serialization.NoEncryption()
OPENSSH_KEY = _KEY.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.OpenSSH, _FORM).decode()
PEM_KEY = _KEY.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, _FORM).decode()

# What is looked for -> texts that hold it.
CANARIES = {
    OPENSSH_KEY.splitlines()[2]: [OPENSSH_KEY, repr(OPENSSH_KEY), OPENSSH_KEY[: len(OPENSSH_KEY) // 2 + 60]],
    OPENSSH_KEY.splitlines()[1][19:50]: [OPENSSH_KEY.splitlines()[1], f"ENCORD_SSH_KEY={OPENSSH_KEY!r}"],
    PEM_KEY.splitlines()[1]: [PEM_KEY, f"cannot load {PEM_KEY!r}", PEM_KEY[:-10]],
    "c0ffee01": [
        "https://s3.test/a.png?X-Amz-Date=1&X-Amz-Signature=c0ffee01",
        "x-amz-security-token: c0ffee01",
    ],
    "c0ffee02": [
        "GET /a?X-Goog-Credential=x&X-Goog-Signature=c0ffee02 HTTP/1.1",
        "'X-Goog-Signature': 'c0ffee02'",
    ],
    "c0ffee03": ["https://x.blob.core.example.com/a?sv=2024&sig=c0ffee03%3D", "sig=c0ffee03&se=5"],
    "c0ffee04": ["/blobs/a?expires=9&token=c0ffee04", "token=c0ffee04", '{"access_token": "c0ffee04"}'],
    "c0ffee05": ["Authorization: Bearer c0ffee05", "{'Authorization': 'Bearer c0ffee05'}", "sent bearer c0ffee05"],
    "c0ffee06": ["authorization: 0a1b2c:c0ffee06", "Proxy-Authorization: Basic c0ffee06"],
    "c0ffee07": ["Signature: encord-sig=:c0ffee07=:", "X-Encord-Signature: c0ffee07", "signature=c0ffee07"],
    "c0ffee08": ["webhook_secret=c0ffee08", "WEBHOOK_SECRET: 'c0ffee08'", "AUTOLABEL_WEBHOOK_SECRET=c0ffee08"],
    "c0ffee09": ["%3FX-Amz-Signature%3Dc0ffee09%26b%3D2", "password: c0ffee09", "Policy=c0ffee09&Key-Pair-Id=K"],
    "c0ffee10": ["postgresql://me:c0ffee10@db.test/ledger", "postgresql://:a@b?c=c0ffee10@db.test:5432/ledger?x=y"],
}


def leaks(text: str) -> list[str]:
    """The canaries that `text` holds."""
    return [canary for canary in CANARIES if canary in text]

"""Who is calling: both request signatures of the SDK, bearer tokens, and URLs that expire.

Pure except for making the key file. As the real service must, it accepts a repeated signature:
the SDK's retries re-send identical bytes.
"""

import base64
import hashlib
import hmac
import re
from collections.abc import Mapping
from pathlib import Path

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from autolabel.sandbox.store import RefusedError, User

COVERED = '("@method" "@request-target" "content-digest")'


def load_or_make_key(path: Path) -> Ed25519PrivateKey:
    """The private key in `path`, in the OpenSSH form the SDK wants; generated when absent."""
    if path.exists():
        key = serialization.load_ssh_private_key(path.read_bytes(), password=None)
        if not isinstance(key, Ed25519PrivateKey):
            raise ValueError(f"{path} is not an Ed25519 key; delete it to have a new one made")
        return key
    fresh = Ed25519PrivateKey.generate()
    path.touch(mode=0o600)
    path.write_bytes(
        fresh.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.OpenSSH,
            serialization.NoEncryption(),
        )
    )
    return fresh


def public_hex(key: Ed25519PrivateKey) -> str:
    return key.public_key().public_bytes_raw().hex()


def bearer_token(email: str) -> str:
    """The one token of a user. It is no secret here, and never expires (the real one's life is
    not documented): a stand-in on loopback has nothing to guard."""
    return hashlib.sha256(f"bearer {email}".encode()).hexdigest()


def authenticate_legacy(headers: Mapping[str, str], body: bytes, users: Mapping[str, User]) -> User:
    """`Authorization: <public key>:<signature of the body's SHA-256 digest>`."""
    public_key, _, signature = headers.get("authorization", "").partition(":")
    user = _known(public_key, users)
    _verify(user, signature, hashlib.sha256(body).digest())
    return user


def authenticate_v2(
    method: str, target: str, headers: Mapping[str, str], body: bytes, users: Mapping[str, User]
) -> User:
    """The HTTP message signatures draft, exactly as far as the SDK uses it."""
    params = headers.get("signature-input", "").removeprefix("encord-sig=")
    found = re.fullmatch(re.escape(COVERED) + r';created=\d+;keyid="(\w+)";alg="ed25519"', params)
    if not found:
        raise _not_authenticated("no usable signature")
    digest = f"sha-256=:{base64.b64encode(hashlib.sha256(body).digest()).decode()}:"
    base = "\n".join(
        (
            f'"@method": {method}',
            f'"@request-target": {target}',
            f'"content-digest": {digest}',
            f'"@signature-params": {params}',
        )
    )
    user = _known(found[1], users)
    encoded = headers.get("signature", "").removeprefix("encord-sig=:").removesuffix(":")
    _verify(user, _base64_to_hex(encoded), base.encode())
    return user


def authenticate_bearer(token: str, users: Mapping[str, User]) -> User:
    for user in users.values():
        if token == bearer_token(user.email):
            return user
    raise _not_authenticated("unknown bearer token")


class UrlSigner:
    """Signs blob paths as a cloud store does: the token and the expiry stand in the query."""

    def __init__(self, secret: bytes) -> None:
        self._secret = secret

    def query(self, method: str, path: str, expires: float) -> str:
        return f"expires={expires:.3f}&token={self._token(method, path, f'{expires:.3f}')}"

    def accepts(self, method: str, path: str, query: Mapping[str, str], now: float) -> bool:
        expires = query.get("expires", "")
        good = hmac.compare_digest(query.get("token", ""), self._token(method, path, expires))
        return good and now < float(expires)

    def _token(self, method: str, path: str, expires: str) -> str:
        return hmac.new(self._secret, f"{method} {path} {expires}".encode(), "sha256").hexdigest()


def _known(public_key: str, users: Mapping[str, User]) -> User:
    if public_key not in users:
        raise RefusedError(401, "SSH_KEY_NOT_FOUND_ERROR", "this SSH key belongs to no user")
    return users[public_key]


def _verify(user: User, signature: str, message: bytes) -> None:
    try:
        key = Ed25519PublicKey.from_public_bytes(bytes.fromhex(user.public_key))
        key.verify(bytes.fromhex(signature), message)
    except (InvalidSignature, ValueError) as error:
        raise _not_authenticated("the signature does not fit the request") from error


def _base64_to_hex(encoded: str) -> str:
    try:
        return base64.b64decode(encoded, validate=True).hex()
    except ValueError as error:
        raise _not_authenticated("the signature is not base64") from error


def _not_authenticated(message: str) -> RefusedError:
    return RefusedError(401, "AUTHENTICATION_ERROR", message)

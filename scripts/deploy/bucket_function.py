"""An AWS Lambda for S3's ObjectCreated events that tells `autolabel serve` of them; standard library alone.

AUTOLABEL_URL: https://HOST/webhooks/bucket. ENCORD_DATASET: the dataset that the files are registered in.
AUTOLABEL_BUCKET_SECRET: whsec_ and base64, as `serve` knows it. Elsewhere call `tell` from whatever the cloud calls.
"""

import base64
import hmac
import json
import os
import time
import urllib.request
import uuid


def tell(url: str, secret: str, dataset_hash: str) -> int:
    """Say that a dataset may hold something new, signed as Standard Webhooks. Raises OSError where it is refused."""
    body = json.dumps({"type": "object.created", "data": {"dataset_hash": dataset_hash}}).encode()
    message_id, sent_at = f"msg_{uuid.uuid4().hex}", str(int(time.time()))
    key = base64.b64decode(secret.removeprefix("whsec_"))
    signature = base64.b64encode(hmac.digest(key, f"{message_id}.{sent_at}.".encode() + body, "sha256")).decode()
    signed = {"webhook-id": message_id, "webhook-timestamp": sent_at, "webhook-signature": f"v1,{signature}"}
    request = urllib.request.Request(url, body, {"content-type": "application/json", **signed})
    with urllib.request.urlopen(request, timeout=30) as answer:
        return int(answer.status)


def handler(event: object, context: object) -> int:
    return tell(*(os.environ[name] for name in ("AUTOLABEL_URL", "AUTOLABEL_BUCKET_SECRET", "ENCORD_DATASET")))

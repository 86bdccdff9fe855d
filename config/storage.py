"""Where documents are kept: on disk, or in the bucket that PARLEY_STORAGE_URL names."""

from __future__ import annotations

from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

from config.env import refuse

_KNOWN = {"endpoint", "region"}
DISK = {"BACKEND": "django.core.files.storage.FileSystemStorage"}


def backend(address: str) -> dict[str, Any]:
    """For Django's STORAGES. The address is not repeated in a refusal: it may hold a key."""
    if not address:
        return DISK
    parts = urlsplit(address)
    asked = dict(parse_qsl(parts.query))
    if not parts.hostname or asked.keys() - _KNOWN or bool(parts.username) != bool(parts.password):
        refuse("PARLEY_STORAGE_URL must be s3://KEY:SECRET@BUCKET/PREFIX?endpoint=https://HOST&region=NAME.")
    endpoint = asked.get("endpoint")
    if endpoint and urlsplit(endpoint).scheme not in ("http", "https"):
        refuse("The endpoint in PARLEY_STORAGE_URL must begin with https:// or http://.")
    options = {
        "bucket_name": parts.hostname,
        "location": parts.path.strip("/"),
        "endpoint_url": endpoint,
        "region_name": asked.get("region"),
        # Servers that are not Amazon's rarely have a name for each bucket.
        "addressing_style": "path" if endpoint else "auto",
        "signature_version": "s3v4",
        "default_acl": None,  # as the bucket has it: private
        "file_overwrite": True,  # our names are never given twice, so asking for each whether it is there is in vain
    }
    if parts.username and parts.password:  # else boto3 looks where it always does: environment, file, role
        options |= {"access_key": unquote(parts.username), "secret_key": unquote(parts.password)}
    return {"BACKEND": "apps.knowledge.bucket.Bucket", "OPTIONS": options}

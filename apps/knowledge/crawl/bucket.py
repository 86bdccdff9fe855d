"""Objects below a prefix of an S3-compatible bucket. Their addresses are signed, and asked for as any other is: of
public hosts only."""

from __future__ import annotations

import io
import time
from collections.abc import AsyncIterator
from typing import IO, Any

import boto3
from botocore.config import Config
from django.conf import settings

from apps.knowledge.crawl.frontier import Found
from apps.knowledge.models import Source
from apps.knowledge.source_models import LOCATION_CHARS
from chatbot.errors import ExtractionFailed
from chatbot.fetching import FetchFailed, read
from chatbot.sitemaps import listing_of

KEYS_AT_ONCE, LISTING_BYTES = 1000, 8 * 1024 * 1024
LISTING_SECONDS = 120.0  # of all that is listed: a server could go on without an end
_SECONDS = 300  # that a signed address is good for


class BucketRefusedError(ExtractionFailed):
    code = "bucket_refused"
    default_message = "The bucket does not let these keys in, or there is none of this name."


def parts_of(source: Source) -> tuple[str, str]:
    """(bucket, prefix)."""
    bucket, _, prefix = source.location.partition("/")
    return bucket, prefix


async def objects_in(source: Source) -> AsyncIterator[Found]:
    """By their keys. Raises BucketRefusedError, FetchFailed, SourceUnavailable, SitemapInvalid."""
    bucket, prefix = parts_of(source)
    asked: dict[str, Any] = {"Bucket": bucket, "Prefix": prefix, "MaxKeys": KEYS_AT_ONCE}
    ends = time.monotonic() + LISTING_SECONDS
    while time.monotonic() < ends:
        content = io.BytesIO()
        await _read(source, "list_objects_v2", asked, content, LISTING_BYTES)
        content.seek(0)
        listing = listing_of(content)
        for key, version in listing.objects:
            # Consoles make one for a folder; no key of S3 is as long as an address.
            if not key.endswith("/") and len(key) <= LOCATION_CHARS:
                yield Found(key, version[:200])
        if not listing.following:
            return
        asked["ContinuationToken"] = listing.following
    # What is missing is not gone, so the run says nothing of anything.
    raise FetchFailed(f"The bucket's list did not end within {LISTING_SECONDS:g} seconds.")


async def fetch_object(source: Source, key: str, into: IO[bytes]) -> None:
    await _read(
        source, "get_object", {"Bucket": parts_of(source)[0], "Key": key}, into, settings.PARLEY_MAX_UPLOAD_BYTES
    )


async def _read(source: Source, deed: str, asked: dict[str, Any], into: IO[bytes], most: int) -> None:
    url = _client(source).generate_presigned_url(deed, Params=asked, ExpiresIn=_SECONDS)
    try:
        await read(url, into, max_bytes=most, allowed=settings.PARLEY_PRIVATE_SOURCE_HOSTS)
    except FetchFailed as error:
        if error.status in {400, 401, 403} or (error.status == 404 and deed == "list_objects_v2"):
            raise BucketRefusedError from error
        raise


def _client(source: Source) -> Any:
    """It signs, and connects to nothing."""
    return boto3.client(
        "s3",
        endpoint_url=source.endpoint or None,
        region_name=source.region or "us-east-1",
        aws_access_key_id=source.access_key,
        aws_secret_access_key=source.secret_key,
        config=Config(signature_version="s3v4", s3={"addressing_style": "path" if source.endpoint else "virtual"}),
    )

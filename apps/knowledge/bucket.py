"""Files in an S3-compatible bucket, which fails as a disk does: by OSError."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from http import HTTPStatus
from typing import Any

from boto3.exceptions import Boto3Error
from botocore.exceptions import BotoCoreError, ClientError
from django.utils.http import content_disposition_header
from storages.backends.s3 import S3Storage

LINK_SECONDS = 60
_FULL = {"QuotaExceeded", "XMinioStorageFull", "XMinioAdminBucketQuotaExceeded"}


class Bucket(S3Storage):  # type: ignore[misc]  # django-storages has no type hints
    def _open(self, name: str, mode: str = "rb") -> Any:
        """Whole, to a temporary file, so that nothing fails later."""
        with _as_of_a_disk():
            file = super()._open(name, mode)
            _ = file.file
            return file

    def _save(self, name: str, content: Any) -> str:
        with _as_of_a_disk():
            return str(super()._save(name, content))

    def delete(self, name: str) -> None:
        with _as_of_a_disk():
            super().delete(name)

    def exists(self, name: str) -> bool:
        with _as_of_a_disk():
            return bool(super().exists(name))

    def size(self, name: str) -> int:
        with _as_of_a_disk():
            return int(super().size(name))

    def listdir(self, name: str) -> tuple[list[str], list[str]]:
        with _as_of_a_disk():
            directories, files = super().listdir(name)
            return directories, files

    def link(self, name: str, file_name: str) -> str:
        """Where whoever has it gets the bytes for a minute, as a file to keep that no browser opens as a page."""
        shown = {
            "ResponseContentType": "application/octet-stream",
            "ResponseContentDisposition": content_disposition_header(as_attachment=True, filename=file_name),
            "ResponseCacheControl": "private, no-store",
        }
        return str(self.url(name, parameters=shown, expire=LINK_SECONDS))


@contextmanager
def _as_of_a_disk() -> Iterator[None]:
    try:
        yield
    except ClientError as error:
        status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode")
        code = error.response.get("Error", {}).get("Code")
        full = status == HTTPStatus.INSUFFICIENT_STORAGE or code in _FULL
        raise OSError(errno.ENOSPC if full else errno.EIO, f"The bucket refused: {code or status}") from error
    except (BotoCoreError, Boto3Error) as error:
        raise OSError(errno.EIO, f"The bucket does not answer: {type(error).__name__}") from error

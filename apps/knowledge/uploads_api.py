"""REST: resumable uploads, by tus 1.0.0."""

from __future__ import annotations

import uuid
from typing import Any, cast

from django.db.models import QuerySet
from django.urls import path
from django.utils import timezone
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, OpenApiResponse, extend_schema
from rest_framework import generics, status
from rest_framework.request import Request
from rest_framework.response import Response

from apps.access.authentication import Caller
from apps.access.doors import TenantView
from apps.edge.errors import TUS_VERSION
from apps.edge.schema import ERRORS, MISSING, UPLOADS, ErrorSerializer
from apps.knowledge import tus, uploads
from apps.knowledge.collections import find_collection
from apps.knowledge.models import Upload
from apps.knowledge.serializers import ResumableSerializer
from apps.tenants.models import Tenant
from apps.tenants.scoping import tenant_scope
from chatbot.errors import InvalidRequest

WRITE = "knowledge:write"
_REFUSED = {
    412: OpenApiResponse(ErrorSerializer, "`Tus-Resumable` names another version than 1.0.0."),
    415: OpenApiResponse(ErrorSerializer, "A piece of another content type, or a file that cannot be read."),
    429: OpenApiResponse(ErrorSerializer, "Too many requests, or the tenant may keep no more."),
    **UPLOADS,
}


_BYTES = {"type": "integer", "minimum": 0, "maximum": 2**40}


def _header(name: str, description: str, *, required: bool = True, kind: Any = str) -> OpenApiParameter:
    return OpenApiParameter(name, kind, OpenApiParameter.HEADER, required=required, description=description)


class Uploads(TenantView, generics.ListAPIView[Upload]):
    """Uploads that are not whole, newest first. Who lost an address finds it here, to go on or to give up."""

    scopes = {"GET": WRITE, "POST": WRITE}
    serializer_class = ResumableSerializer
    queryset = Upload.objects.none()

    def get_queryset(self) -> QuerySet[Upload]:
        rows = uploads.unfinished(_tenant_of(self.request)).filter(expires__gt=timezone.now())
        return rows.select_related("collection")

    @extend_schema(responses={200: ResumableSerializer(many=True), **ERRORS})
    def get(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        return super().get(request, *args, **kwargs)

    @extend_schema(
        request=None,
        parameters=[
            _header("Upload-Length", "Bytes of the whole file.", kind=_BYTES),
            _header(
                "Upload-Metadata",
                "Pairs of a name and a value in base64, separated by commas: `collection` (slug or id), `filename`,"
                " and optionally `title`, `language` and `sha256` (of the whole file, in hex).",
            ),
        ],
        responses={201: ResumableSerializer, **ERRORS, **MISSING, **_REFUSED},
    )
    def post(self, request: Request) -> Response:
        """Begin an upload in pieces. `Location` says where they go; the size counts as kept from now on."""
        tus.check_version(request._request)
        tenant = _tenant_of(request)
        named = tus.metadata_of(request._request).get("collection")
        if not named:
            raise InvalidRequest(fields={"Upload-Metadata": "Name the collection."})
        collection = find_collection(tenant, named)
        upload = tus.begun(request._request, tenant, collection)
        headers = {**tus.headers_of(upload), "Location": f"{request.path}/{upload.pk}"}
        return Response(ResumableSerializer(upload).data, status.HTTP_201_CREATED, headers=headers)


class OneUpload(TenantView):
    scopes = {"GET": WRITE, "PATCH": WRITE, "DELETE": WRITE}
    unscoped = ("patch", "delete")

    @extend_schema(responses={200: ResumableSerializer, **ERRORS, 412: _REFUSED[412]})
    def get(self, request: Request, upload_id: uuid.UUID) -> Response:
        """How far it is, and what became of it once it is whole. HEAD tells the offset alone."""
        tus.check_version(request._request)
        upload = uploads.find_upload(_tenant_of(request), upload_id)
        return Response(ResumableSerializer(upload).data, headers=tus.headers_of(upload))

    @extend_schema(
        request={tus.MEDIA_TYPE: OpenApiTypes.BINARY},
        parameters=[_header("Upload-Offset", "The byte with which this piece begins.", kind=_BYTES)],
        responses={
            204: OpenApiResponse(description="`Upload-Offset` says how far it is now."),
            409: OpenApiResponse(ErrorSerializer, "The upload has come to another byte: ask for its offset."),
            **ERRORS,
            **_REFUSED,
        },
    )
    def patch(self, request: Request, upload_id: uuid.UUID) -> Response:
        """Add a piece. With the last one the file becomes a document, or is refused as any upload is."""
        tus.check_version(request._request)
        tenant = _tenant_of(request)
        with tenant_scope(tenant):
            upload = uploads.find_upload(tenant, upload_id)
        tus.continued(request._request, tenant, upload)
        return Response(status=status.HTTP_204_NO_CONTENT, headers=tus.headers_of(upload))

    @extend_schema(responses={204: None, **ERRORS, 412: _REFUSED[412]})
    def delete(self, request: Request, upload_id: uuid.UUID) -> Response:
        """Give it up: what has come of it is deleted. A document that was made of it stays."""
        tus.check_version(request._request)
        tenant = _tenant_of(request)
        with tenant_scope(tenant):
            upload = uploads.find_upload(tenant, upload_id)
        uploads.give_up(tenant, upload)
        return Response(status=status.HTTP_204_NO_CONTENT, headers={"Tus-Resumable": TUS_VERSION})


def _tenant_of(request: Request) -> Tenant:
    return cast("Caller", request.user).tenant


urlpatterns = [
    path("uploads", Uploads.as_view()),
    path("uploads/<uuid:upload_id>", OneUpload.as_view()),
]

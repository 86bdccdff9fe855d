"""REST: files for the questions of a conversation."""

from __future__ import annotations

import uuid
from typing import Any

from asgiref.sync import async_to_sync
from django.core.files.base import File
from django.db.models import QuerySet
from django.http import HttpResponse
from django.urls import path
from drf_spectacular.utils import OpenApiResponse, extend_schema
from rest_framework import generics, serializers, status
from rest_framework.request import Request
from rest_framework.response import Response

from apps.access import idempotency, rates
from apps.access.doors import TenantView
from apps.access.rates import Rate
from apps.conversations import attaching
from apps.conversations.api import Oldest, caller_of
from apps.conversations.models import Attachment, Conversation
from apps.conversations.parties import conversation_of
from apps.edge.fields import Text
from apps.edge.schema import ERRORS, IDEMPOTENCY_KEY, MEANINGS, UPLOADS, USER, ErrorSerializer
from apps.knowledge import storage
from apps.knowledge.parsers import UploadParser, refuse_unmeasured
from apps.tenants.scoping import tenant_scope
from chatbot.errors import InvalidRequest

# Of one end user: each file is read while they wait.
FILES = Rate(burst=20, every=6.0)
ATTACHED = {
    **UPLOADS,
    415: OpenApiResponse(ErrorSerializer, MEANINGS[415]),
    422: OpenApiResponse(ErrorSerializer, "The file cannot be read (`parser`, `too_large`, `empty`), or as elsewhere."),
    429: OpenApiResponse(ErrorSerializer, MEANINGS[429]),
}


class AttachmentParser(UploadParser):
    what, setting = attaching.LIMIT


class AttachSerializer(serializers.Serializer[Any]):
    """A file for a question."""

    file = serializers.FileField(allow_empty_file=True, help_text="Its name tells its kind, as for documents.")
    user = Text(max_length=200, required=False, default="", allow_blank=True, help_text="Whose conversation it is.")


class AttachmentSerializer(serializers.ModelSerializer[Attachment]):
    """A file of a conversation. `context["room"]`: the tokens that a model has for files."""

    tokens = serializers.IntegerField(help_text="Of its text, estimated.")
    cut = serializers.SerializerMethodField(help_text="Whether the model will receive only its beginning.")
    used = serializers.SerializerMethodField(help_text="Whether a question came with it.")

    class Meta:
        model = Attachment
        fields = ("id", "name", "media_type", "size", "tokens", "cut", "used", "created")

    def get_cut(self, attachment: Attachment) -> bool:
        return attachment.shortened or attachment.tokens > self.context.get("room", 0)

    def get_used(self, attachment: Attachment) -> bool:
        return getattr(attachment, "used", False)


class Attachments(TenantView, generics.ListAPIView[Attachment]):
    scopes = {"GET": "chat:read", "POST": "chat:write"}
    serializer_class = AttachmentSerializer
    parser_classes = (AttachmentParser,)
    pagination_class = Oldest
    unscoped = ("post",)  # a file is read
    queryset = Attachment.objects.none()
    room = 0

    def _conversation(self, user: str) -> Conversation:
        return conversation_of(caller_of(self.request), self.kwargs["conversation_id"], user=user)

    def get_queryset(self) -> QuerySet[Any]:
        conversation = self._conversation(self.request.query_params.get("user", ""))
        self.room = attaching.room_of(conversation)
        return attaching.attachments_of(conversation)

    def get_serializer_context(self) -> dict[str, Any]:
        return {**super().get_serializer_context(), "room": self.room}

    @extend_schema(parameters=[USER], responses={200: AttachmentSerializer(many=True), **ERRORS})
    def get(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        """The files of a conversation, oldest first, also those that no question came with yet."""
        return super().get(request, *args, **kwargs)

    @extend_schema(
        operation_id="attach_file",
        request={"multipart/form-data": AttachSerializer},
        parameters=[IDEMPOTENCY_KEY],
        responses={201: AttachmentSerializer, **ERRORS, **ATTACHED},
    )
    def post(self, request: Request, **_: Any) -> HttpResponse:
        """Send a file for a question, which then names it among its `attachments`. Its text is kept, not its bytes. One
        that no question came with is forgotten after a day. 400 where the assistant takes no attachments."""
        refuse_unmeasured(request)
        caller, sent = caller_of(request), AttachSerializer(data=request.data)
        sent.is_valid(raise_exception=True)
        file, user = sent.validated_data["file"], sent.validated_data["user"]
        if len(request.FILES.getlist("file")) > 1:
            raise InvalidRequest(fields={"file": "Send one file at a time."})
        with tenant_scope(caller):
            conversation = self._conversation(user)
            self.room = attaching.room_of(conversation)

        asked, key = _asked(file), idempotency.key_in(request)
        sending = f"{key}\n{asked}" if key else ""

        def attach() -> idempotency.Answer:
            _take(caller.tenant_id, caller.acts_for or conversation.end_user.external_id)
            attachment = attaching.attach(caller, conversation, file.name, file, sending=sending)
            return status.HTTP_201_CREATED, self.get_serializer(attachment).data

        return idempotency.once_across(request, caller, asked, attach, end_user=conversation.end_user)


class OneAttachment(TenantView):
    scopes = {"DELETE": "chat:write"}

    @extend_schema(operation_id="detach_file", parameters=[USER], responses={204: None, **ERRORS})
    def delete(self, request: Request, conversation_id: uuid.UUID, attachment_id: uuid.UUID) -> Response:
        """Delete a file that no question came with yet. 404 for one that is part of what was asked: it goes with the
        conversation."""
        user = request.query_params.get("user", "")
        attaching.detach(conversation_of(caller_of(request), conversation_id, user=user), attachment_id)
        return Response(status=status.HTTP_204_NO_CONTENT)


def _asked(file: File[bytes]) -> dict[str, Any]:
    return {"file": [file.name, storage.digest_of(file)]}


def _take(tenant_id: uuid.UUID, user: str) -> None:
    async_to_sync(rates.take)(FILES, "attachments", str(tenant_id), user)


urlpatterns = [
    path("conversations/<uuid:conversation_id>/attachments", Attachments.as_view()),
    path("conversations/<uuid:conversation_id>/attachments/<uuid:attachment_id>", OneAttachment.as_view()),
]

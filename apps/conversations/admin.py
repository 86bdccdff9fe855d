"""The admin of conversations and their turns, to be read and never written, and the page that asks."""

from __future__ import annotations

import uuid
from functools import partial
from typing import Any

from django.contrib import admin
from django.core.paginator import Paginator
from django.db.models import Count, Exists, OuterRef, Q, QuerySet, Subquery
from django.db.models.functions import Coalesce
from django.http import HttpRequest, HttpResponse
from django.urls import URLPattern, path, reverse
from django.utils.text import Truncator
from unfold.decorators import display

from apps.conversations.admin_find import find_page
from apps.conversations.admin_talk import VARIANTS, shown, talk
from apps.conversations.explaining import explained
from apps.conversations.models import Conversation, Turn
from apps.conversations.playground import ask_page, is_own
from apps.tenants.admin_access import ANALYSTS, BUILDERS, SUPPORT, is_operator
from apps.tenants.admin_base import ReadOnlyTenantAdmin
from apps.tenants.admin_words import NOTHING, ago, duration, number

TURNS_A_PAGE = 30
STATES = {label: VARIANTS[Turn.State(value)] for value, label in Turn.State.choices}


def turns_of(tenant_id: uuid.UUID) -> QuerySet[Turn]:
    """A tenant's turns with all that their display needs."""
    rows: QuerySet[Turn] = Turn.objects.for_tenant(tenant_id)
    rows = rows.select_related(
        "question", "answer", "endpoint", "prompt_version__prompt", "api_key", "parent__question"
    )
    earlier = Turn.objects.filter(conversation=OuterRef("conversation"), created__lt=OuterRef("created"))
    beside = earlier.filter(Q(parent=OuterRef("parent")) | (Q(begins=True) & Q(begins=OuterRef("begins"))))
    same = Q(question=OuterRef("question"))
    rows = rows.annotate(answered_before=Exists(earlier.filter(same)), edits=Exists(beside.exclude(same)))
    return rows.prefetch_related("answer__feedback")


def turn_count() -> Coalesce:
    turns = Turn.objects.filter(tenant=OuterRef("tenant"), conversation=OuterRef("pk")).order_by()
    return Coalesce(Subquery(turns.values("conversation").annotate(count=Count("pk")).values("count")), 0)


@admin.register(Conversation)
class ConversationAdmin(ReadOnlyTenantAdmin):
    """Owners and analysts read them all. Support opens one by its id; who asks on the page Ask, their own."""

    read_by = ANALYSTS
    empty_title = "No conversations yet"
    empty_hint = "They appear here when somebody asks an assistant: over the API, in the widget, or on the page Ask."
    list_display = ("subject", "assistant", "asked_by", "turn_count", "active_ago")
    list_filter = ("assistant",)
    list_select_related = ("assistant", "end_user")
    search_fields = ("title", "end_user__external_id")

    class Media:
        css = {"all": ["admin/parley/admin.css"]}

    def get_queryset(self, request: HttpRequest) -> QuerySet[Conversation]:
        rows: QuerySet[Conversation] = super().get_queryset(request)
        return rows.annotate(turn_count=turn_count())

    def has_view_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        if super().has_view_permission(request, obj):
            return True
        return isinstance(obj, Conversation) and (
            self.permits(request, SUPPORT, obj) or (self.has_ask_permission(request) and is_own(obj, request))
        )

    def has_module_permission(self, request: HttpRequest) -> bool:
        return self.has_view_permission(request) or self.has_find_permission(request)

    def has_ask_permission(self, request: HttpRequest) -> bool:
        return self.permits(request, BUILDERS)

    def has_find_permission(self, request: HttpRequest) -> bool:
        return self.permits(request, SUPPORT) and not is_operator(request)

    @display(description="Conversation", ordering="title")
    def subject(self, conversation: Conversation) -> str:
        return str(conversation)

    @display(description="End user", ordering="end_user__external_id")
    def asked_by(self, conversation: Conversation) -> str:
        return conversation.end_user.external_id or "Anonymous"

    @display(description="Turns")
    def turn_count(self, conversation: Any) -> str:
        return number(conversation.turn_count)

    @display(description="Last activity", ordering="active_at")
    def active_ago(self, conversation: Conversation) -> str:
        return ago(conversation.active_at)

    def get_urls(self) -> list[URLPattern]:
        wrap = self.admin_site.admin_view
        own = [
            path("ask/", wrap(partial(ask_page, self)), name="conversations_playground"),
            path("find/", wrap(partial(find_page, self)), name="conversations_find"),
        ]
        return [*own, *super().get_urls()]

    def render_change_form(self, request: HttpRequest, context: Any, *args: Any, **kwargs: Any) -> HttpResponse:
        conversation: Conversation = kwargs["obj"]
        turns = turns_of(conversation.tenant_id).filter(conversation=conversation).order_by("created")
        pages = Paginator(turns, TURNS_A_PAGE)
        page = pages.get_page(request.GET.get("page") or pages.num_pages)
        context |= {
            "title": str(conversation),
            "page": page,
            "talk": talk(page),
            # Support and those who asked themselves see this page and nothing around it.
            "links": self.has_view_permission(request),
            "find_url": reverse("admin:conversations_find") if self.has_find_permission(request) else "",
        }
        return super().render_change_form(request, context, *args, **kwargs)


@admin.register(Turn)
class TurnAdmin(ReadOnlyTenantAdmin):
    read_by = ANALYSTS
    empty_title = "No turns yet"
    empty_hint = "A turn is a question and its answer. Ask an assistant, and its first one appears here."
    list_display = ("asked", "outcome", "answered_by", "first_token", "whole", "tokens", "created_ago")
    list_filter = ("state", "endpoint")
    list_select_related = ("question", "endpoint")
    search_fields = ("question__text", "error_code", "request_id")
    ordering = ("-created",)

    class Media:
        css = {"all": ["admin/parley/admin.css"]}

    def get_queryset(self, request: HttpRequest) -> QuerySet[Turn]:
        rows: QuerySet[Turn] = super().get_queryset(request)
        return rows.defer("sources", "story")  # some kilobytes each, shown on the turn's own page only

    @display(description="Question")
    def asked(self, turn: Turn) -> str:
        return Truncator(" ".join(turn.question.text.split())).chars(80)

    @display(description="State", ordering="state", label=STATES)
    def outcome(self, turn: Turn) -> str:
        return turn.get_state_display()

    @display(description="Endpoint", ordering="endpoint__name")
    def answered_by(self, turn: Turn) -> str:
        return turn.endpoint.name if turn.endpoint else NOTHING

    @display(description="First token", ordering="first_token_ms")
    def first_token(self, turn: Turn) -> str:
        return duration(turn.first_token_ms)

    @display(description="Total", ordering="total_ms")
    def whole(self, turn: Turn) -> str:
        return duration(turn.total_ms)

    @display(description="Tokens in, out")
    def tokens(self, turn: Turn) -> str:
        return f"{turn.prompt_tokens:,}, {turn.completion_tokens:,}"

    @display(description="Asked", ordering="created")
    def created_ago(self, turn: Turn) -> str:
        return ago(turn.created)

    def render_change_form(self, request: HttpRequest, context: Any, *args: Any, **kwargs: Any) -> HttpResponse:
        turn = (
            turns_of(kwargs["obj"].tenant_id)
            .select_related("conversation", "assistant", "end_user", "continues__question")
            .get(pk=kwargs["obj"].pk)
        )
        title = Truncator(turn.question.text).chars(60)
        context |= {
            "title": title,
            "subtitle": None,
            "turn": turn,
            "talk": [shown(turn)],
            "links": True,
            "how": explained(turn),
        }
        return super().render_change_form(request, context, *args, **kwargs)

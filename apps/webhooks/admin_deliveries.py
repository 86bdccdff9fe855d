"""The log of deliveries in the admin: what each webhook was told, what came of it, and sending it once more."""

from __future__ import annotations

from typing import Any

import orjson
from django.contrib import admin, messages
from django.http import HttpRequest, HttpResponse
from django.urls import reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString
from unfold.decorators import action, display

from apps.tenants.admin_base import ReadOnlyTenantAdmin
from apps.tenants.admin_words import NOTHING, ago, duration
from apps.webhooks import deliveries
from apps.webhooks.models import Delivery
from chatbot.errors import InvalidRequest

STATES = {"Delivered": "success", "Pending": "info", "Retrying": "warning", "Failed": "danger"}


@admin.register(Delivery)
class DeliveryAdmin(ReadOnlyTenantAdmin):
    empty_title = "No deliveries yet"
    empty_hint = "Each event that a webhook is told of appears here, for 30 days."
    list_display = ("happened", "webhook", "state", "answer", "tried", "took", "created_ago")
    list_filter = ("status", "event", "webhook")
    list_select_related = ("webhook",)
    readonly_fields = (
        "happened", "webhook", "state", "answer", "tried", "next_ago", "took", "created_ago", "message_id", "message",
    )  # fmt: skip
    fieldsets = ((None, {"fields": readonly_fields}),)
    actions_detail: Any = ("again",)
    actions_row: Any = ("again",)

    @action(  # type: ignore[operator]
        description="Deliver again",
        url_path="again",
        icon="replay",
        permissions=["view"],
        dialog={
            "title": "Deliver this again?",
            "description": "The same message goes out under the same id, so a receiver that had it may pass over it.",
            "form_class": None,
            "form_submit_text": "Deliver again",
        },
    )
    def again(self, request: HttpRequest, _form: Any, object_id: str) -> HttpResponse:
        delivery = self.row(request, object_id)
        try:
            deliveries.deliver_again(delivery)
            messages.success(request, "It is on its way.")
        except InvalidRequest as error:
            messages.error(request, error.message)
        return HttpResponse(headers={"HX-Redirect": reverse("admin:webhooks_delivery_change", args=[delivery.pk])})

    @display(description="Event", ordering="event")
    def happened(self, delivery: Delivery) -> str:
        return str(delivery.get_event_display())

    @display(description="State", label=STATES, ordering="status")
    def state(self, delivery: Delivery) -> str:
        if delivery.status == Delivery.Status.PENDING and delivery.attempts:
            return "Retrying"
        return str(delivery.get_status_display())

    @display(description="Last answer")
    def answer(self, delivery: Delivery) -> str:
        return delivery.error or (str(delivery.status_code) if delivery.status_code else NOTHING)

    @display(description="Attempts", ordering="attempts")
    def tried(self, delivery: Delivery) -> str:
        return str(delivery.attempts)

    @display(description="Next attempt")
    def next_ago(self, delivery: Delivery) -> str:
        return ago(delivery.next_attempt_at) if delivery.status == Delivery.Status.PENDING else NOTHING

    @display(description="Took", ordering="duration_ms")
    def took(self, delivery: Delivery) -> str:
        return duration(delivery.duration_ms)

    @display(description="Happened", ordering="created")
    def created_ago(self, delivery: Delivery) -> str:
        return ago(delivery.created)

    @display(description="webhook-id")
    def message_id(self, delivery: Delivery) -> str:
        return delivery.message_id

    @display(description="Message")
    def message(self, delivery: Delivery) -> SafeString:
        text = orjson.dumps(delivery.message, option=orjson.OPT_INDENT_2 | orjson.OPT_UTC_Z).decode()
        return format_html('<pre class="parley-key" style="white-space: pre-wrap">{}</pre>', text)

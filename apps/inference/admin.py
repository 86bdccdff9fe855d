"""The admin of inference endpoints, for operators: their addresses, their keys, and a test by a real request."""

from __future__ import annotations

import datetime as dt
from functools import cache, partial
from typing import Any

from asgiref.sync import async_to_sync
from django import forms
from django.contrib import admin
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import render
from django.urls import URLPattern, path, reverse
from django.utils.html import format_html, format_html_join
from django.views.decorators.debug import sensitive_post_parameters
from unfold.decorators import action, display
from unfold.widgets import UnfoldAdminPasswordWidget

from apps.inference import gateway
from apps.inference.admin_board import board_page
from apps.inference.admin_hub import URL as HUB
from apps.inference.admin_hub import hub_page
from apps.inference.models import Endpoint
from apps.inference.probe import Probed, last_probed, probe, remember
from apps.tenants.admin_acting import acting_of
from apps.tenants.admin_base import OperatorAdmin
from apps.tenants.admin_words import ago, duration

# What to choose and why, beside each protocol's name.
PROTOCOL_HELP = {
    "openai": "any other server with OpenAI's API: SGLang, Ollama, LiteLLM, a hosted service.",
    "vllm": "its OpenAI API; the context length is read from the server.",
    "tgi": "its Messages API; the context length is read from the server. Chat only.",
    "tgi-generate": "for models without a chat template: /generate_stream with the dialogue as plain text. Chat only.",
    "llamacpp": "the OpenAI API of llama-server; the context of a slot is read from the server.",
    "tei": "its routes /embed and /rerank; it does not chat. Its OpenAI route embeds as OpenAI-compatible.",
    "hf": "Inference Providers by a model's id, or a dedicated Inference Endpoint by its address. The API key is a "
    "Hugging Face token.",
}


STATES = {"Enabled": "success", "Draining": "warning", "Disabled": "danger"}


def protocol_help() -> str:
    """A line for each protocol, under the field."""
    lines = ((label, PROTOCOL_HELP[value]) for value, label in Endpoint.Protocol.choices)
    return format_html_join("", '<span class="block mt-1"><strong>{}:</strong> {}</span>', lines)


class EndpointForm(forms.ModelForm):  # type: ignore[type-arg]
    """The key is written and never shown; a new host gets no key that was meant for the old one."""

    new_key = forms.CharField(
        label="API key",
        required=False,
        max_length=2000,
        widget=UnfoldAdminPasswordWidget(attrs={"autocomplete": "new-password"}),
    )
    forget_key = forms.BooleanField(label="Remove the API key", required=False)

    class Meta:
        model = Endpoint
        fields = (
            "name",
            "kind",
            "protocol",
            "base_url",
            "model",
            "tags",
            "context_length",
            "dimension",
            "connect_seconds",
            "first_token_seconds",
            "between_tokens_seconds",
            "total_seconds",
            "wake_seconds",
            "hub_name",
            "tier",
            "weight",
            "limit",
            "prompt_price",
            "completion_price",
            "enabled",
            "draining",
            "tenants",
        )

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["protocol"].help_text = protocol_help()
        if self.instance.api_key:
            self.fields[
                "new_key"
            ].help_text = "A key is set. Leave this empty to keep it. A base URL on another host removes it."
        else:
            self.fields[
                "new_key"
            ].help_text = "Sent as a bearer token and stored encrypted. Empty where none is needed."
            self.fields["forget_key"].widget = forms.HiddenInput()

    def clean(self) -> dict[str, Any] | None:
        cleaned = super().clean() or self.cleaned_data
        if cleaned.get("kind") != Endpoint.Kind.EMBEDDING:
            cleaned["dimension"] = None
        elif cleaned.get("dimension") is None and "dimension" not in self.errors:
            self.add_error("dimension", "An embedding endpoint needs the dimension of its vectors (1 to 4000).")
        return cleaned

    def save(self, commit: bool = True) -> Any:
        if self.cleaned_data["forget_key"]:
            self.instance.api_key = ""
        if self.cleaned_data["new_key"]:
            self.instance.api_key, self.instance.key_confirmed = self.cleaned_data["new_key"], True
        return super().save(commit)

    def _save_m2m(self) -> None:
        """Django's own would look at the tenants themselves, who are seen by the operators' login alone."""
        if "tenants" not in self.cleaned_data:
            return
        lent = Endpoint.tenants.through.objects.filter(endpoint=self.instance)
        chosen = [tenant.pk for tenant in self.cleaned_data["tenants"]]
        lent.exclude(tenant_id__in=chosen).delete()
        lent.model.objects.bulk_create(
            [lent.model(endpoint=self.instance, tenant_id=key) for key in chosen], ignore_conflicts=True
        )


@admin.register(Endpoint)
class EndpointAdmin(OperatorAdmin):
    form = EndpointForm
    empty_hint = (
        "Assistants answer through a chat endpoint, documents become searchable through an embedding endpoint. "
        "Add one of each."
    )
    list_display = ("name_and_model", "kind_label", "address_and_protocol", "state", "key_state")
    list_filter = ("kind", "protocol", "enabled", "tenants")
    search_fields = ("name", "model", "base_url")
    autocomplete_fields = ("tenants",)
    actions_detail: Any = ("test_now", "adopt", "wake_up")
    actions_row: Any = ("test_now",)
    actions_list: Any = ("from_hugging_face",)
    fieldsets = (
        (None, {"fields": ("name", "kind", "protocol", "base_url", "model", "new_key", "forget_key", "tags")}),
        ("At Hugging Face", {"fields": (("hub_name", "wake_seconds"),)}),
        ("What it takes", {"fields": ("context_length", "dimension", "limit")}),
        ("Which one is asked", {"fields": (("tier", "weight"),)}),
        (
            "How long it may take",
            {"fields": (("connect_seconds", "first_token_seconds"), ("between_tokens_seconds", "total_seconds"))},
        ),
        ("What it costs", {"fields": (("prompt_price", "completion_price"),)}),
        ("Who is served", {"fields": ("enabled", "draining", "tenants")}),
    )

    def get_urls(self) -> list[URLPattern]:
        view = self.admin_site.admin_view
        own = [
            path("board/", view(partial(board_page, self)), name="inference_board"),
            path("hub/", view(sensitive_post_parameters()(partial(hub_page, self))), name="inference_hub"),
        ]
        return [*own, *super().get_urls()]

    def get_list_filter(self, request: HttpRequest) -> list[Any]:
        return [entry for entry in super().get_list_filter(request) if "tenants" not in entry or _sees_tenants(request)]

    def get_fieldsets(self, request: HttpRequest, obj: Any = None) -> Any:
        sections = super().get_fieldsets(request, obj)
        if _sees_tenants(request):
            return sections
        return [(title, {"fields": [n for n in rest["fields"] if n != "tenants"]}) for title, rest in sections]

    def get_list_display(self, request: HttpRequest) -> Any:
        @cache
        def outcomes() -> dict[str, Probed]:
            return last_probed(list(self.get_queryset(request)))

        @display(description="Last test")
        def tested(endpoint: Endpoint) -> str:
            return last_test(outcomes().get(str(endpoint.pk)))

        return [*super().get_list_display(request), tested]

    def save_model(self, request: HttpRequest, obj: Any, form: Any, change: bool) -> None:
        super().save_model(request, obj, form, change)
        gateway.changed()

    def delete_model(self, request: HttpRequest, obj: Any) -> None:
        super().delete_model(request, obj)
        gateway.changed()

    @action(  # type: ignore[operator]
        description="From Hugging Face", url_path="from-hugging-face", icon="cloud_download", permissions=["add"]
    )
    def from_hugging_face(self, request: HttpRequest) -> HttpResponse:
        return HttpResponseRedirect(reverse(HUB))

    @action(  # type: ignore[operator]
        description="Test now",
        url_path="test",
        icon="network_check",
        dialog={
            "title": "Test this endpoint",
            "description": "It gets one small request, as a real question would send it. Nothing is stored.",
            "form_class": None,
            "form_submit_text": "Test now",
        },
    )
    def test_now(self, request: HttpRequest, form: Any, object_id: str) -> HttpResponse:
        endpoint = self.row(request, object_id)
        result = async_to_sync(probe)(endpoint)
        remember(endpoint, result)
        context = {"endpoint": endpoint, "result": result, "offers": result.offers(endpoint), "form": form}
        return render(request, "admin/inference/probe_result.html", context)

    @action(  # type: ignore[operator]
        description="Use what the server says",
        url_path="adopt",
        icon="download",
        dialog={
            "title": "Take over what the server says",
            "description": "It is tested, and its context length, or the dimension of its vectors, is stored here.",
            "form_class": None,
            "form_submit_text": "Take it over",
        },
    )
    def adopt(self, request: HttpRequest, form: Any, object_id: str) -> HttpResponse:
        endpoint = self.row(request, object_id)
        result = async_to_sync(probe)(endpoint)
        changes = result.offers(endpoint)
        for field, value in changes.items():
            setattr(endpoint, field, value)
        if changes:
            endpoint.save(update_fields=list(changes))
            gateway.changed()
        told = result.dimension or result.context_length
        context = {"endpoint": endpoint, "result": result, "changes": changes, "told": told, "form": form}
        return render(request, "admin/inference/adopted.html", context)

    @action(  # type: ignore[operator]
        description="Wake it up",
        url_path="wake",
        icon="alarm",
        permissions=["wake_up"],
        dialog={
            "title": "Wake up this Inference Endpoint",
            "description": "Hugging Face is asked to start it, and bills it from then on.",
            "form_class": None,
            "form_submit_text": "Wake it up",
        },
    )
    def wake_up(self, request: HttpRequest, form: Any, object_id: str) -> HttpResponse:
        endpoint = self.row(request, object_id)
        said = async_to_sync(gateway.wake_up)(endpoint)
        return render(request, "admin/inference/woken.html", {"endpoint": endpoint, "said": said, "form": form})

    def has_wake_up_permission(self, request: HttpRequest, object_id: str) -> bool:
        """Only dedicated Inference Endpoints sleep."""
        endpoint = self.get_object(request, object_id)
        return endpoint is not None and endpoint.protocol == Endpoint.Protocol.HF and bool(endpoint.base_url)

    @display(description="Name", header=True, ordering="name")
    def name_and_model(self, endpoint: Endpoint) -> list[str]:
        return [endpoint.name, endpoint.model]

    @display(
        description="Kind", label={"Chat": "primary", "Embedding": "info", "Reranking": "warning"}, ordering="kind"
    )
    def kind_label(self, endpoint: Endpoint) -> str:
        return str(endpoint.get_kind_display())

    @display(description="Server", header=True, ordering="base_url")
    def address_and_protocol(self, endpoint: Endpoint) -> list[str]:
        return [endpoint.base_url or "found by the model", str(endpoint.get_protocol_display())]

    @display(description="State", label=STATES, ordering="enabled")
    def state(self, endpoint: Endpoint) -> str:
        if not endpoint.enabled:
            return "Disabled"
        return "Draining" if endpoint.draining else "Enabled"

    @display(description="API key")
    def key_state(self, endpoint: Endpoint) -> str:
        return "set" if endpoint.api_key else "none"


def _sees_tenants(request: HttpRequest) -> bool:
    """Tenants can be offered only where the operators' login shows all of them."""
    return acting_of(request).across


def last_test(probed: Probed | None) -> str:
    """ "tested 3 minutes ago, 84 ms"."""
    if probed is None:
        return "never tested"
    when = ago(dt.datetime.fromisoformat(probed.at))
    return format_html("tested {}, {}", when, duration(probed.total_ms) if probed.ok else "failed")

"""What the pages around a login share: the admin's look, and nothing of anybody's rows."""

from __future__ import annotations

from copy import copy
from typing import Any

from django import forms
from django.conf import settings
from django.contrib import admin
from django.contrib.auth.models import AnonymousUser
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.utils.decorators import method_decorator
from django.views.decorators.cache import never_cache
from django.views.decorators.debug import sensitive_post_parameters
from unfold.widgets import BASE_INPUT_CLASSES, CHECKBOX_CLASSES

from apps.access.logins.guesses import refuse_flood
from apps.edge.errors import ServiceUnavailable, headers_of, status_of
from chatbot.errors import ParleyError, RateLimited

_SECRET = method_decorator(sensitive_post_parameters("password", "code", "credential"))


def frame_of(request: HttpRequest) -> dict[str, Any]:
    """The admin's context as a stranger sees it: its sidebar would ask for rows that may not be opened yet."""
    stranger = copy(request)
    stranger.user = AnonymousUser()
    return {**admin.site.each_context(stranger), "passkey_button": {"id": "use-passkey", "type": "button"}}


def later(request: HttpRequest, error: ParleyError) -> HttpResponse:
    """The page for whoever tried too often, or when nobody could count how often."""
    too_often = isinstance(error, RateLimited)
    title = "Too many attempts" if too_often else "Nobody can log in just now"
    context = {**frame_of(request), "title": title, "too_often": too_often}
    status, headers = status_of(error), headers_of(error)
    return TemplateResponse(request, "admin/security/later.html", context, status=status, headers=headers)


def dress(form: forms.BaseForm) -> None:
    """Give a form of Django's or allauth's the look of the admin's."""
    for field in form.fields.values():
        classes = CHECKBOX_CLASSES if isinstance(field, forms.BooleanField) else BASE_INPUT_CLASSES
        field.widget.attrs["class"] = " ".join(classes)
        field.widget.attrs.pop("placeholder", None)


class Framed:
    """A page like the login's.

    title: its heading. deed: what its button says. Posts are counted by address.
    """

    title = ""
    deed = "Continue"

    @_SECRET
    @method_decorator(never_cache)
    def dispatch(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        if request.method == "POST":
            try:
                refuse_flood(request)
            except (RateLimited, ServiceUnavailable) as error:
                return later(request, error)
        response: HttpResponse = super().dispatch(request, *args, **kwargs)  # type: ignore[misc]
        return response

    def get_form(self, form_class: Any = None) -> Any:
        form = super().get_form(form_class)  # type: ignore[misc]
        dress(form)
        return form

    def get_context_data(self, **context: Any) -> dict[str, Any]:
        request = self.request  # type: ignore[attr-defined]
        words = {"title": self.title, "deed": self.deed, "mail": settings.PARLEY_MAIL}
        return {**frame_of(request), **words, **super().get_context_data(**context)}  # type: ignore[misc]

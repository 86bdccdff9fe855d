"""The admin's site: each view runs, and is rendered, in the scope of the tenant that the person acts for."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any

from django.contrib import messages
from django.contrib.admin import ModelAdmin
from django.http import HttpRequest, HttpResponse, HttpResponseBase, HttpResponseRedirect
from django.template.response import SimpleTemplateResponse, TemplateResponse
from django.urls import URLPattern, path, reverse
from unfold.sites import UnfoldAdminSite

from apps.tenants.admin_acting import (
    CHOSEN,
    NoOperatorLogin,
    SeveralTenants,
    act,
    enters_alone,
    memberships_of,
    note,
    note_entry,
    tenant_called,
    tenant_with,
)
from apps.tenants.models import Tenant
from apps.tenants.routing import across_tenants, has_operator_login
from apps.tenants.scoping import tenant_scope

SHOWN = 50  # tenants that the switcher lists; others are found by their name


class Site(UnfoldAdminSite):
    def admin_view(self, view: Callable[..., Any], cacheable: bool = False) -> Any:
        return super().admin_view(self._scoped(view), cacheable)

    def _scoped(self, view: Callable[..., Any]) -> Callable[..., HttpResponseBase]:
        @wraps(view)
        def scoped(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
            try:
                acting = act(request, self.page_of(request))
            except NoOperatorLogin:
                return self._ask_for_one(request)
            except SeveralTenants:
                messages.error(request, "These rows belong to several tenants. Choose one tenant in the header first.")
                return HttpResponseRedirect(request.get_full_path())
            request.acting = acting  # type: ignore[attr-defined]
            if not getattr(view, "csrf_exempt", False):
                note(request)
            if getattr(view, "enters_alone", False):
                return _rendered(view(request, *args, **kwargs))
            with acting.scope():
                return _rendered(view(request, *args, **kwargs))

        return scoped

    def page_of(self, request: HttpRequest) -> ModelAdmin[Any] | None:
        """The model's page below whose address the request came."""
        _, _, below = request.path.partition(reverse("admin:index"))
        names = tuple(below.split("/")[:2])
        pages = {(model._meta.app_label, model._meta.model_name): page for model, page in self._registry.items()}
        return pages.get(names)  # type: ignore[arg-type]

    # --- Choosing the tenant ---

    def extra_urls(self) -> list[URLPattern]:
        return [path("acting-for/", self.admin_view(self.acting_for), name="acting_for")]

    @enters_alone  # tenants are named here that are not the chosen one
    def acting_for(self, request: HttpRequest) -> HttpResponse:
        """GET: what there is to choose, as a page or, for the header's menu, a part of one. POST: `tenant`, a slug, is
        the one that the session acts for from now on; empty for all, which is an operator's choice."""
        if request.method != "POST":
            return self._choices(request)
        slug = request.POST.get("tenant", "").strip().lower()
        if not slug and request.user.is_superuser:
            request.session.pop(CHOSEN, None)
            return HttpResponseRedirect(reverse("admin:index"))
        tenant = _permitted(request, slug)
        if tenant is None:
            messages.error(request, "There is no such tenant here.")
            return HttpResponseRedirect(reverse("admin:acting_for"))
        request.session[CHOSEN] = str(tenant.pk)
        if request.user.is_superuser:
            note_entry(request, tenant)
        return HttpResponseRedirect(reverse("admin:index"))

    def _choices(self, request: HttpRequest) -> HttpResponse:
        words = request.GET.get("q", "").strip()
        tenants = _offered(request, words)
        context = {
            "title": "Act for a tenant",
            "tenants": tenants[:SHOWN],
            "more": len(tenants) > SHOWN,
            "words": words,
            "searchable": request.user.is_superuser,
            "listed": has_operator_login() or not request.user.is_superuser,
        }
        if "HX-Request" in request.headers:
            return TemplateResponse(request, "admin/tenants/choices.html", context)
        return TemplateResponse(request, "admin/tenants/acting_for.html", {**self.each_context(request), **context})

    def _ask_for_one(self, request: HttpRequest) -> HttpResponse:
        context = {
            **self.each_context(request),
            "title": "All tenants",
            "tenants": [],
            "searchable": True,
            "listed": False,
        }
        return TemplateResponse(request, "admin/tenants/acting_for.html", context)


def _rendered(response: HttpResponseBase) -> HttpResponseBase:
    """Templates query, too. What streams is left as it is: nothing that the admin streams comes from the database."""
    return response.render() if isinstance(response, SimpleTemplateResponse) else response


def _permitted(request: HttpRequest, slug: str) -> Tenant | None:
    """The tenant of that slug, if the person may act for it: a foreign one is an unknown one."""
    tenant_id = tenant_called(slug)
    if tenant_id is None:
        return None
    if not request.user.is_superuser and tenant_id not in {each.tenant_id for each in memberships_of(request)}:
        return None
    tenant = tenant_with(tenant_id)
    return tenant if tenant is not None and (tenant.is_active or request.user.is_superuser) else None


def _offered(request: HttpRequest, words: str) -> list[Tenant]:
    """By name, at most one more than are shown."""
    if not request.user.is_superuser:
        found: list[Tenant] = []
        for tenant_id, _ in memberships_of(request):
            with tenant_scope(tenant_id):
                found += Tenant.objects.filter(pk=tenant_id, is_active=True)
        return sorted(found, key=lambda tenant: tenant.name.lower())
    if not has_operator_login():
        return []
    with across_tenants():
        tenants = Tenant.objects.filter(name__icontains=words) | Tenant.objects.filter(slug__icontains=words)
        return list(tenants.order_by("name")[: SHOWN + 1])

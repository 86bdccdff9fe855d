"""The page that a shared link opens: questions and answers to read, and nothing else."""

from __future__ import annotations

from django.http import HttpRequest, HttpResponseBase
from django.urls import path

from apps.access import rates
from apps.access.rates import Rate
from apps.conversations import sharing
from apps.edge.errors import translate
from apps.edge.middleware import ahead_of_middleware
from apps.tenants.scoping import platform_unit
from apps.widget import pages
from chatbot.errors import ParleyError, RateLimited

# From one address; nobody guesses a link, and nobody needs to try.
READS = Rate(burst=60, every=1.0)


@ahead_of_middleware
async def shared_page(request: HttpRequest, token: str) -> HttpResponseBase:
    address = rates.network_of(request.META.get("REMOTE_ADDR", ""))
    try:
        await rates.take(READS, "shared", address)
        found = await platform_unit(sharing.shown, token)
    except RateLimited:
        return pages.too_often()
    except ParleyError as error:
        return pages.sorry(translate(error))
    if found is None:
        return pages.nothing_here()
    return pages.page(
        title=found.title or found.settings["name"],
        locale=found.settings["locale"],
        direction=found.settings["direction"],
        embedded={"mode": "shared", "settings": found.settings, "title": found.title, "turns": found.turns},
        said="This conversation is shown by JavaScript, which your browser does not run here.",
    )


urlpatterns = [path("share/<str:token>", shared_page, name="shared_page")]

"""How the admin looks. What its sidebar and its dashboard hold is in apps.ops."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from django.http import HttpRequest
from django.urls import reverse_lazy


def _static(name: str) -> Callable[[HttpRequest], str]:
    """The address of a static file, looked up when it is asked for: settings are still loading here."""

    def address(_request: HttpRequest) -> str:
        from django.templatetags.static import static  # noqa: PLC0415

        return static(name)

    return address


UNFOLD: dict[str, Any] = {
    "SITE_TITLE": "Parley",
    "SITE_HEADER": "Parley",
    "SITE_SUBHEADER": "Answers from your documents",
    "SITE_URL": None,
    "SITE_ICON": _static("brand/mark.svg"),
    "SITE_FAVICONS": [
        {"rel": "icon", "type": "image/svg+xml", "href": _static("brand/mark.svg")},
    ],
    "SHOW_VIEW_ON_SITE": False,
    "SHOW_HISTORY": "apps.ops.navigation.shows_history",
    "STYLES": [_static("brand/admin.css")],
    "DASHBOARD_CALLBACK": "apps.ops.dashboard.dashboard",
    "ACCOUNT": {
        "navigation": [{"title": "Security", "link": reverse_lazy("mfa_index")}],
    },
    "LOGIN": {"image": _static("brand/login.svg")},
    "COMMAND": {"search_models": False, "show_history": False},
    "SIDEBAR": {
        "show_search": True,
        "command_search": True,
        "show_all_applications": False,
        "navigation": "apps.ops.navigation.navigation",
    },
    "BORDER_RADIUS": "8px",
    "COLORS": {
        # A deep teal that stays legible on both themes.
        "primary": {
            "50": "oklch(97.6% .017 182)",
            "100": "oklch(94.6% .045 182)",
            "200": "oklch(89.8% .08 182)",
            "300": "oklch(82.6% .11 182)",
            "400": "oklch(74.2% .125 183)",
            "500": "oklch(65% .115 184)",
            "600": "oklch(53% .096 186)",
            "700": "oklch(46% .082 187)",
            "800": "oklch(39.5% .067 189)",
            "900": "oklch(34.5% .055 190)",
            "950": "oklch(24% .042 192)",
        }
    },
}

"""Every HTTP route. Each app's api.py lists its own; here they are put together."""

from __future__ import annotations

from django.contrib import admin
from django.urls import include, path
from django.views.generic import RedirectView
from drf_spectacular.views import SpectacularAPIView, SpectacularSwaggerView

from apps.ops import health

handler400 = "apps.edge.errors.handler400"
handler403 = "apps.edge.errors.handler403"
handler404 = "apps.edge.errors.handler404"
handler500 = "apps.edge.errors.handler500"

urlpatterns = [
    path("", RedirectView.as_view(url="/admin/")),
    path("favicon.ico", RedirectView.as_view(url="/static/brand/mark.svg")),
    path("", include("apps.access.urls")),
    path("", include("apps.widget.api")),
    path("", include("apps.conversations.shared_page")),
    path("admin/", admin.site.urls),
    path("api/v1/", include("apps.usage.api")),
    path("api/v1/", include("apps.webhooks.api")),
    path("api/v1/", include("apps.knowledge.api")),
    path("api/v1/", include("apps.knowledge.sources_api")),
    path("api/v1/", include("apps.knowledge.second_api")),
    path("api/v1/", include("apps.conversations.api")),
    path("api/v1/", include("apps.conversations.turns_api")),
    path("api/v1/", include("apps.conversations.again_api")),
    path("api/v1/", include("apps.conversations.visitors_api")),
    path("api/v1/", include("apps.conversations.sharing_api")),
    path("api/v1/", include("apps.conversations.attaching_api")),
    path("v1/", include("apps.conversations.openai_api")),
    path("", include("apps.oauth.urls")),
    path("api/schema", SpectacularAPIView.as_view(), name="schema"),
    path("api/docs", SpectacularSwaggerView.as_view(url_name="schema"), name="docs"),
    path("healthz/live", health.live),
    path("healthz/ready", health.ready),
    path("metrics", health.metrics),
]

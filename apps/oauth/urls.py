"""The OAuth2 server's addresses."""

from __future__ import annotations

from django.urls import path
from django.views.decorators.http import require_safe

from apps.oauth import consent, views

app_name = "oauth"
urlpatterns = [
    path("oauth/authorize", consent.Consent.as_view(), name="authorize"),
    path("oauth/token", views.Token.as_view(), name="token"),
    path("oauth/revoke", views.Revoke.as_view(), name="revoke"),
    path("oauth/introspect", views.Introspect.as_view(), name="introspect"),
    path(".well-known/oauth-authorization-server", require_safe(views.metadata), name="metadata"),
]

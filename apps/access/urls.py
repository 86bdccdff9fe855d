"""The pages of a forgotten password, beside the admin's login."""

from __future__ import annotations

from django.urls import path

from apps.access import passwords

urlpatterns = [
    # The login page links to the name that Django's admin knows.
    path("password_reset/", passwords.Forgotten.as_view(), name="admin_password_reset"),
    path("password_reset/sent/", passwords.Sent.as_view(), name="password_reset_done"),
    path("password_reset/<uidb64>/<token>/", passwords.Choose.as_view(), name="password_reset_confirm"),
    path("password_reset/done/", passwords.Chosen.as_view(), name="password_reset_complete"),
]

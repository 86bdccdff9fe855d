"""Django's admin with our own site."""

from __future__ import annotations

from django.contrib.admin.apps import AdminConfig


class ParleyAdminConfig(AdminConfig):
    default_site = "apps.tenants.admin_site.Site"

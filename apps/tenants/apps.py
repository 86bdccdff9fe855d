"""Django's registration of this app."""

from django.apps import AppConfig


class TenantsConfig(AppConfig):
    name = "apps.tenants"
    verbose_name = "Tenants"

    def ready(self) -> None:
        import apps.tenants.openapi  # noqa: F401, PLC0415 - drf-spectacular finds it by its subclassing

"""Django's registration of this app."""

from django.apps import AppConfig


class OpsConfig(AppConfig):
    name = "apps.ops"
    verbose_name = "Operations"

    def ready(self) -> None:
        import apps.ops.checks  # noqa: F401, PLC0415 - registers them

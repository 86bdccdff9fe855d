"""Django's registration of this app."""

from django.apps import AppConfig


class AccessConfig(AppConfig):
    name = "apps.access"
    verbose_name = "Access"

    def ready(self) -> None:
        import apps.access.openapi  # noqa: F401, PLC0415 - drf-spectacular finds it by its subclassing
        from apps.access import authentication, visitors  # noqa: PLC0415 - models are there only now

        authentication.KINDS[visitors.PREFIX] = visitors.look_up

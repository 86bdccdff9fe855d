"""Django's registration of this app."""

from django.apps import AppConfig


class WidgetConfig(AppConfig):
    name = "apps.widget"
    verbose_name = "Widget"

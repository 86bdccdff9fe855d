"""Django's registration of this app."""

from django.apps import AppConfig


class LoadtestConfig(AppConfig):
    name = "apps.loadtest"
    verbose_name = "Load test"

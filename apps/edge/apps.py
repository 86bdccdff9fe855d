"""Django's registration of this app."""

from django.apps import AppConfig
from django.conf import settings


class EdgeConfig(AppConfig):
    name = "apps.edge"
    verbose_name = "Edge"

    def ready(self) -> None:
        from apps.edge import lines, metrics  # noqa: PLC0415 - once the settings are read

        lines.count_dropped(metrics.LOG_LINES_DROPPED.inc)
        if settings.OTEL_EXPORTER_OTLP_ENDPOINT:
            from apps.edge import traced_sql, tracing  # noqa: PLC0415 - most processes do not trace

            tracing.begin(
                service=settings.OTEL_SERVICE_NAME,
                version=settings.VERSION,
                share=settings.PARLEY_TRACED_PERCENT / 100,
            )
            traced_sql.begin()

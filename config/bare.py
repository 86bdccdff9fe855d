"""Settings for commands that only ask another Parley: they run where there is no secret, no database and no Redis."""

INSTALLED_APPS = ["apps.loadtest"]
TEMPLATES = [{"BACKEND": "django.template.backends.django.DjangoTemplates", "APP_DIRS": True}]
USE_TZ = True
TIME_ZONE = "UTC"

"""The widget's migrations, and after them some that users would notice."""

from apps.widget import migrations

__path__ = [*__path__, *migrations.__path__]

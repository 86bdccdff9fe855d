"""The widget's migrations, and after them one that cannot come to its end while its table is in use."""

from apps.widget import migrations

__path__ = [*__path__, *migrations.__path__]

"""The language of a document. In a transaction of its own: searches ask for documents and passages in both orders, and
whoever locked one and waited for the other would stand in a circle with them.
"""

from __future__ import annotations

from django.db import migrations, models

LANGUAGES = [
    ("ar", "Arabic"),
    ("hy", "Armenian"),
    ("eu", "Basque"),
    ("ca", "Catalan"),
    ("da", "Danish"),
    ("nl", "Dutch"),
    ("en", "English"),
    ("fi", "Finnish"),
    ("fr", "French"),
    ("de", "German"),
    ("el", "Greek"),
    ("hi", "Hindi"),
    ("hu", "Hungarian"),
    ("id", "Indonesian"),
    ("ga", "Irish"),
    ("it", "Italian"),
    ("lt", "Lithuanian"),
    ("ne", "Nepali"),
    ("no", "Norwegian"),
    ("pt", "Portuguese"),
    ("ro", "Romanian"),
    ("ru", "Russian"),
    ("sr", "Serbian"),
    ("es", "Spanish"),
    ("sv", "Swedish"),
    ("ta", "Tamil"),
    ("tr", "Turkish"),
    ("yi", "Yiddish"),
    ("other", "Another"),
]


class Migration(migrations.Migration):
    dependencies = [("knowledge", "0022_second_indexes")]

    operations = [
        migrations.AddField(
            model_name="document",
            name="language",
            field=models.CharField(
                blank=True,
                choices=LANGUAGES,
                db_default="",
                default="",
                help_text="As somebody said it is in. Left empty, it is found out.",
                max_length=5,
            ),
        ),
        migrations.AddField(
            model_name="document",
            name="stemming",
            field=models.CharField(db_default="english", default="english", editable=False, max_length=20),
        ),
    ]

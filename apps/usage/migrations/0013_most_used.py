"""Indexes for the end users that used most in a span, and for what each of them used in all."""

from django.db import migrations, models
from django.db.models import F

TOKENS = F("prompt_tokens") + F("completion_tokens")


class Migration(migrations.Migration):
    dependencies = [("usage", "0012_latest")]

    operations = [
        operation
        for model, span in (("dailyuser", "day"), ("monthlyuser", "month"))
        for operation in (
            migrations.AddIndex(
                model, models.Index("tenant", "day", TOKENS.desc(), name=f"usage_user_{span}_most")
            ),
            migrations.AddIndex(
                model, models.Index(fields=["tenant", "end_user_id", "day"], name=f"usage_user_{span}_each")
            ),
            # The first of these begins with the same.
            migrations.RemoveIndex(model, f"usage_user_{span}"),
        )
    ]

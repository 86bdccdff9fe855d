"""How an assistant searches: whether it rewrites follow-up questions, and when it says that it found nothing."""

import django.core.validators
from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [("assistants", "0004_attachments")]

    operations = [
        migrations.AddField(
            model_name="assistant",
            name="rewrites_questions",
            field=models.BooleanField(
                db_default=False,
                default=False,
                help_text="The model first makes each follow-up question one that can be searched for by itself. Costs "
                "a short answer of the model for each.",
                verbose_name="rewrites follow-up questions",
            ),
        ),
        migrations.AddField(
            model_name="assistant",
            name="least_relevance",
            field=models.FloatField(
                blank=True,
                help_text="From 0 to 1. Where no passage is as like the question as this, the assistant says that it "
                "found nothing, and asks no model. Empty: it always answers. `manage.py evaluate` helps to choose.",
                null=True,
                validators=[
                    django.core.validators.MinValueValidator(0),
                    django.core.validators.MaxValueValidator(1),
                ],
                verbose_name="least relevance",
            ),
        ),
    ]

"""How long a tenant's conversations are kept, and what is left of tenants that were erased."""

import django.core.validators
import django.utils.timezone
from django.db import migrations, models

from apps.tenants.row_security import DefinerFunction


class Migration(migrations.Migration):
    dependencies = [("tenants", "0005_row_level_security")]

    operations = [
        migrations.CreateModel(
            name="Erasure",
            fields=[
                ("id", models.UUIDField(editable=False, primary_key=True, serialize=False)),
                ("slug", models.CharField(db_index=True, max_length=63)),
                ("began", models.DateTimeField(default=django.utils.timezone.now)),
                ("found", models.JSONField(default=dict)),
                ("finished", models.DateTimeField(null=True)),
                ("manifest", models.TextField(default="")),
            ],
        ),
        migrations.AddField(
            model_name="tenant",
            name="conversation_days",
            field=models.PositiveIntegerField(
                blank=True,
                help_text="A conversation in which nobody asked for so many days is deleted the next night, with its"
                " answers and attachments. Empty: they are kept.",
                null=True,
                validators=[
                    django.core.validators.MinValueValidator(1),
                    django.core.validators.MaxValueValidator(36500),
                ],
                verbose_name="keep conversations (days)",
            ),
        ),
        migrations.AddConstraint(
            model_name="tenant",
            constraint=models.CheckConstraint(
                condition=models.Q(("conversation_days", None), ("conversation_days__gte", 1), _connector="OR"),
                name="tenant_conversation_days",
            ),
        ),
        DefinerFunction(
            "tenants_that_forget",
            "",
            "TABLE (tenant_id uuid)",
            "SELECT id FROM public.tenants_tenant WHERE conversation_days IS NOT NULL ORDER BY id",
            reads={"tenants_tenant": ("id", "conversation_days")},
        ),
    ]

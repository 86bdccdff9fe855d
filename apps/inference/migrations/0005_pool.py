"""What the pool chooses by.

Until now the oldest chat endpoint was asked first, and the others stepped in. So it stays, by a tier for each; where
they are to share the load, operators give them the same one.
"""

import django.core.validators
from django.db import migrations, models


IN_ORDER = """
    UPDATE inference_endpoint e SET tier = least(placed.place - 1, 99)
    FROM (
        SELECT id, row_number() OVER (ORDER BY created) AS place FROM inference_endpoint WHERE kind = 'chat'
    ) placed
    WHERE placed.id = e.id
"""


class Migration(migrations.Migration):

    dependencies = [
        ('inference', '0004_protocols'),
        ('tenants', '0005_row_level_security'),
    ]

    operations = [
        migrations.AddField(
            model_name='endpoint',
            name='between_tokens_seconds',
            field=models.PositiveSmallIntegerField(db_default=10, default=10, help_text='In seconds. After it the answer ends as interrupted, with what was said.', validators=[django.core.validators.MinValueValidator(1), django.core.validators.MaxValueValidator(120)], verbose_name='longest wait between tokens'),
        ),
        migrations.AddField(
            model_name='endpoint',
            name='completion_price',
            field=models.DecimalField(db_default=0, decimal_places=4, default=0, help_text='The same, for what the model writes.', max_digits=12, validators=[django.core.validators.MinValueValidator(0)], verbose_name='price of a million completion tokens'),
        ),
        migrations.AddField(
            model_name='endpoint',
            name='connect_seconds',
            field=models.PositiveSmallIntegerField(db_default=2, default=2, help_text='In seconds.', validators=[django.core.validators.MinValueValidator(1), django.core.validators.MaxValueValidator(30)], verbose_name='longest time to connect'),
        ),
        migrations.AddField(
            model_name='endpoint',
            name='draining',
            field=models.BooleanField(db_default=False, default=False, help_text='It takes no new questions, and ends those that it has.'),
        ),
        migrations.AddField(
            model_name='endpoint',
            name='limit',
            field=models.PositiveIntegerField(db_default=128, default=128, help_text="That one server takes from all of Parley's processes together. Where the base URL names a host with several addresses, each is a server.", validators=[django.core.validators.MinValueValidator(1), django.core.validators.MaxValueValidator(10000)], verbose_name='questions at once'),
        ),
        migrations.AddField(
            model_name='endpoint',
            name='prompt_price',
            field=models.DecimalField(db_default=0, decimal_places=4, default=0, help_text='In the currency in which this installation counts; 0 where it costs nothing.', max_digits=12, validators=[django.core.validators.MinValueValidator(0)], verbose_name='price of a million prompt tokens'),
        ),
        migrations.AddField(
            model_name='endpoint',
            name='tags',
            field=models.CharField(blank=True, db_default='', default='', help_text='Words of your own, separated by commas.', max_length=200),
        ),
        migrations.AddField(
            model_name='endpoint',
            name='tier',
            field=models.PositiveSmallIntegerField(db_default=0, default=0, help_text='Lower ones are asked first; a higher one only where none of a lower one can take the question.', validators=[django.core.validators.MaxValueValidator(99)]),
        ),
        migrations.AddField(
            model_name='endpoint',
            name='total_seconds',
            field=models.PositiveSmallIntegerField(db_default=180, default=180, help_text='In seconds, from the question to the last token.', validators=[django.core.validators.MinValueValidator(5), django.core.validators.MaxValueValidator(3600)], verbose_name='longest answer'),
        ),
        migrations.AddField(
            model_name='endpoint',
            name='weight',
            field=models.FloatField(db_default=1.0, default=1.0, help_text='Its share of the questions among the endpoints of its tier.', validators=[django.core.validators.MinValueValidator(0.01), django.core.validators.MaxValueValidator(100.0)]),
        ),
        migrations.RunSQL(IN_ORDER, migrations.RunSQL.noop),
        migrations.AddConstraint(
            model_name='endpoint',
            constraint=models.CheckConstraint(condition=models.Q(('limit__gte', 1)), name='endpoint_limit'),
        ),
        migrations.AddConstraint(
            model_name='endpoint',
            constraint=models.CheckConstraint(condition=models.Q(('weight__gt', 0)), name='endpoint_weight'),
        ),
        migrations.AddConstraint(
            model_name='endpoint',
            constraint=models.CheckConstraint(condition=models.Q(('completion_price__gte', 0), ('prompt_price__gte', 0)), name='endpoint_prices'),
        ),
        migrations.AddConstraint(
            model_name='endpoint',
            constraint=models.CheckConstraint(condition=models.Q(('between_tokens_seconds__gte', 1), ('connect_seconds__gte', 1), ('total_seconds__gte', 1)), name='endpoint_deadlines'),
        ),
    ]

"""How much of the workers the documents of a plan's tenants get."""

import django.core.validators
from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [("usage", "0013_most_used")]

    operations = [
        migrations.AddField(
            model_name='plan',
            name='documents_at_once',
            field=models.PositiveSmallIntegerField(db_default=4, default=4, help_text='How many documents of a tenant workers are at, at the same time, in each queue. Whatever the weight is, they are not more.', validators=[django.core.validators.MinValueValidator(1), django.core.validators.MaxValueValidator(1000)], verbose_name='documents at once'),
        ),
        migrations.AddField(
            model_name='plan',
            name='weight',
            field=models.PositiveSmallIntegerField(db_default=1, default=1, help_text='How many documents of a tenant are taken up in the time in which one is of a tenant of weight 1, where both have some waiting.', validators=[django.core.validators.MinValueValidator(1), django.core.validators.MaxValueValidator(100)], verbose_name='weight of documents'),
        ),
        migrations.AddConstraint(
            model_name='plan',
            constraint=models.CheckConstraint(condition=models.Q(('weight__gte', 1), ('documents_at_once__gte', 1)), name='plan_shares'),
        ),
    ]

"""Endpoints that rerank, and dedicated ones that questions start."""

import django.core.validators
from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('inference', '0005_pool'),
        ('tenants', '0005_row_level_security'),
    ]

    operations = [
        migrations.RemoveConstraint(
            model_name='endpoint',
            name='endpoint_kind',
        ),
        migrations.RemoveConstraint(
            model_name='endpoint',
            name='endpoint_tei_embeds',
        ),
        migrations.AddField(
            model_name='endpoint',
            name='hub_name',
            field=models.CharField(blank=True, db_default='', default='', help_text='Of a dedicated Inference Endpoint, as namespace/name. A paused one is only found by it.', max_length=200, validators=[django.core.validators.RegexValidator('^[\\w.-]+/[\\w.-]+$', 'Enter it as namespace/name.')], verbose_name='name at Hugging Face'),
        ),
        migrations.AddField(
            model_name='endpoint',
            name='wake_seconds',
            field=models.PositiveSmallIntegerField(db_default=0, default=0, help_text='In seconds; dedicated Inference Endpoints of Hugging Face only. A question that finds nothing but this one, paused or scaled to zero, starts it and waits so long. 0 does not wait.', validators=[django.core.validators.MaxValueValidator(900)], verbose_name='longest wait for one that sleeps'),
        ),
        migrations.AlterField(
            model_name='endpoint',
            name='kind',
            field=models.CharField(choices=[('chat', 'Chat'), ('embedding', 'Embedding'), ('rerank', 'Reranking')], default='chat', max_length=10),
        ),
        migrations.AddConstraint(
            model_name='endpoint',
            constraint=models.CheckConstraint(condition=models.Q(('kind__in', ['chat', 'embedding', 'rerank'])), name='endpoint_kind'),
        ),
        migrations.AddConstraint(
            model_name='endpoint',
            constraint=models.CheckConstraint(condition=models.Q(models.Q(('kind', 'chat'), _negated=True), models.Q(('protocol', 'tei'), _negated=True), _connector='OR'), name='endpoint_tei_embeds', violation_error_message='Text Embeddings Inference embeds or reranks, and does not chat.'),
        ),
        migrations.AddConstraint(
            model_name='endpoint',
            constraint=models.CheckConstraint(condition=models.Q(('wake_seconds', 0), models.Q(('kind', 'chat'), ('protocol', 'hf'), ('wake_seconds__gt', 0), ('wake_seconds__lte', 900), models.Q(('base_url', ''), _negated=True)), _connector='OR'), name='endpoint_wake', violation_error_message='Only a chat endpoint at Hugging Face, with an address of its own, is started and waited for.'),
        ),
        migrations.AlterConstraint(
            model_name='endpoint',
            name='endpoint_tgi_chats',
            constraint=models.CheckConstraint(condition=models.Q(('kind', 'chat'), models.Q(('protocol__in', ['tgi', 'tgi-generate']), _negated=True), _connector='OR'), name='endpoint_tgi_chats', violation_error_message='Text Generation Inference only chats.'),
        ),
    ]

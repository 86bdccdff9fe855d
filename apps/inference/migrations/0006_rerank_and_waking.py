"""Endpoints that rerank."""

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
        migrations.AlterConstraint(
            model_name='endpoint',
            name='endpoint_tgi_chats',
            constraint=models.CheckConstraint(condition=models.Q(('kind', 'chat'), models.Q(('protocol__in', ['tgi', 'tgi-generate']), _negated=True), _connector='OR'), name='endpoint_tgi_chats', violation_error_message='Text Generation Inference only chats.'),
        ),
    ]

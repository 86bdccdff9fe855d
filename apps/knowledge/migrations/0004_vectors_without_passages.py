import django.db.models.deletion
from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('knowledge', '0003_passages_inline'),
    ]

    operations = [
        migrations.AddField(
            model_name='embedding',
            name='live',
            field=models.BooleanField(default=False),
        ),
        migrations.AddField(
            model_name='embedding',
            name='collection',
            field=models.ForeignKey(null=True, on_delete=django.db.models.deletion.CASCADE, related_name='+', to='knowledge.collection'),
        ),
        migrations.RunSQL(
            """
            UPDATE knowledge_embedding e SET collection_id = c.collection_id, live = c.live
            FROM knowledge_chunk c WHERE c.id = e.chunk_id;
            SET CONSTRAINTS ALL IMMEDIATE
            """,
            migrations.RunSQL.noop,
        ),
        migrations.AlterField(
            model_name='embedding',
            name='collection',
            field=models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='+', to='knowledge.collection'),
        ),
        migrations.RemoveIndex(
            model_name='embedding',
            name='embedding_tenant_index',
        ),
        migrations.AddIndex(
            model_name='embedding',
            index=models.Index(condition=models.Q(('live', True)), fields=['tenant', 'index', 'collection'], name='embedding_live'),
        ),
    ]

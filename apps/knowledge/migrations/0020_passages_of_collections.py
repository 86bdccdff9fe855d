"""What a vector's foreign key to its passage and that one's collection needs; built while passages are written."""

from django.db import migrations


class Migration(migrations.Migration):
    atomic = False

    dependencies = [("knowledge", "0017_clocks_that_are_fast")]

    operations = [
        # One whose building was cut short is there and good for nothing.
        migrations.RunSQL(
            "DROP INDEX CONCURRENTLY IF EXISTS knowledge_chunk_of_collection", migrations.RunSQL.noop
        ),
        migrations.RunSQL(
            """
            CREATE UNIQUE INDEX CONCURRENTLY knowledge_chunk_of_collection
              ON knowledge_chunk (tenant_id, id, collection_id)
            """,
            "DROP INDEX CONCURRENTLY knowledge_chunk_of_collection",
        ),
        migrations.RunSQL(
            "DROP INDEX CONCURRENTLY IF EXISTS knowledge_embeddingindex_of_dimension", migrations.RunSQL.noop
        ),
        migrations.RunSQL(
            """
            CREATE UNIQUE INDEX CONCURRENTLY knowledge_embeddingindex_of_dimension
              ON knowledge_embeddingindex (tenant_id, id, dimension)
            """,
            "DROP INDEX CONCURRENTLY knowledge_embeddingindex_of_dimension",
        ),
    ]

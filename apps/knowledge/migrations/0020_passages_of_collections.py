"""Unique indexes that a vector's keys need (0021), built while passages and vectors are written."""

from django.db import migrations

INDEXES = {
    "knowledge_chunk_of_collection": "knowledge_chunk (tenant_id, id, collection_id)",
    "knowledge_embeddingindex_of_dimension": "knowledge_embeddingindex (tenant_id, id, dimension)",
    "passage_embedded_once": "knowledge_embedding (chunk_id, index_id)",
}


def built(name: str, columns: str) -> list[migrations.RunSQL]:
    return [
        # One whose building was cut short is there and good for nothing.
        migrations.RunSQL(f"DROP INDEX CONCURRENTLY IF EXISTS {name}", migrations.RunSQL.noop),
        migrations.RunSQL(
            f"CREATE UNIQUE INDEX CONCURRENTLY {name} ON {columns}", f"DROP INDEX CONCURRENTLY IF EXISTS {name}"
        ),
    ]


class Migration(migrations.Migration):
    atomic = False

    dependencies = [("knowledge", "0019_near_passages")]

    operations = [operation for name, columns in INDEXES.items() for operation in built(name, columns)]

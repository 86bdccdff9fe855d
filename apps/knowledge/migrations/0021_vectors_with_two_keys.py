"""Two foreign keys of a vector say what five said, so that as many fewer rows are looked up for each.

The new ones hold for what is written from the first statement on; what is there is checked while others read and write.
"""

import django.db.models.deletion
from django.db import migrations, models

from apps.edge.table_locks import lock_together

# The names are those under which row_security.py looks for a key that takes the tenant along.
KEYS = {
    "knowledge_embedding_chunk_id_of_tenant": (
        "(tenant_id, chunk_id, collection_id) REFERENCES knowledge_chunk (tenant_id, id, collection_id)"
    ),
    "knowledge_embedding_index_id_of_tenant": (
        "(tenant_id, index_id, dimension) REFERENCES knowledge_embeddingindex (tenant_id, id, dimension)"
    ),
}
IN_USE = (
    *("knowledge_chunk", "knowledge_embedding", "knowledge_embeddingindex", "knowledge_collection"),
    "tenants_tenant",
)
LOCK = f"DO $$ BEGIN {lock_together(*IN_USE, without='the workers')} END $$;"
# Sent at once with what they are for, the locks are of one transaction with it: a repetition finds all of it done or
# nothing.
ADD = [
    f"""
    {LOCK}
    ALTER TABLE knowledge_embedding DROP CONSTRAINT IF EXISTS {name}_whole,
      ADD CONSTRAINT {name}_whole FOREIGN KEY {key} DEFERRABLE INITIALLY DEFERRED NOT VALID
    """
    for name, key in KEYS.items()
]
VALIDATE = [f"ALTER TABLE knowledge_embedding VALIDATE CONSTRAINT {name}_whole" for name in KEYS]
REPLACE = "".join(
    f"""
    ALTER TABLE knowledge_embedding DROP CONSTRAINT IF EXISTS {name};
    ALTER TABLE knowledge_embedding RENAME CONSTRAINT {name}_whole TO {name};
    """
    for name in KEYS
)
# The index is that of 0020. With the passage first it serves as that of the key to it, too.
ONCE = """
    ALTER TABLE knowledge_embedding DROP CONSTRAINT IF EXISTS embedding_once;
    DO $$ BEGIN
        IF NOT EXISTS (SELECT FROM pg_constraint WHERE conname = 'passage_embedded_once') THEN
            ALTER TABLE knowledge_embedding
              ADD CONSTRAINT passage_embedded_once UNIQUE USING INDEX passage_embedded_once;
        END IF;
    END $$
"""
GIVE_BACK = """
    ALTER TABLE knowledge_embedding DROP CONSTRAINT knowledge_embedding_chunk_id_of_tenant,
      DROP CONSTRAINT knowledge_embedding_index_id_of_tenant,
      ADD CONSTRAINT knowledge_embedding_chunk_id_of_tenant FOREIGN KEY (tenant_id, chunk_id)
        REFERENCES knowledge_chunk (tenant_id, id) DEFERRABLE INITIALLY DEFERRED,
      ADD CONSTRAINT knowledge_embedding_index_id_of_tenant FOREIGN KEY (tenant_id, index_id)
        REFERENCES knowledge_embeddingindex (tenant_id, id) DEFERRABLE INITIALLY DEFERRED,
      ADD CONSTRAINT knowledge_embedding_collection_id_of_tenant FOREIGN KEY (tenant_id, collection_id)
        REFERENCES knowledge_collection (tenant_id, id) DEFERRABLE INITIALLY DEFERRED,
      ADD CONSTRAINT embedding_has_its_indexs_dimension FOREIGN KEY (index_id, dimension)
        REFERENCES knowledge_embeddingindex (id, dimension) DEFERRABLE INITIALLY DEFERRED
"""


class Migration(migrations.Migration):
    atomic = False

    dependencies = [("knowledge", "0020_passages_of_collections")]

    operations = [
        *(migrations.RunSQL(statement, migrations.RunSQL.noop) for statement in (*ADD, *VALIDATE)),
        migrations.RunSQL(
            f"""
            {LOCK}
            {REPLACE}
            ALTER TABLE knowledge_embedding
              DROP CONSTRAINT IF EXISTS knowledge_embedding_collection_id_of_tenant,
              DROP CONSTRAINT IF EXISTS knowledge_embedding_tenant_id_d4527fc5_fk_tenants_tenant_id,
              DROP CONSTRAINT IF EXISTS embedding_has_its_indexs_dimension
            """,
            GIVE_BACK,
        ),
        migrations.RunSQL(
            ONCE,
            """
            ALTER TABLE knowledge_embedding DROP CONSTRAINT passage_embedded_once,
              ADD CONSTRAINT embedding_once UNIQUE (index_id, chunk_id)
            """,
            state_operations=[
                migrations.RemoveConstraint(model_name="embedding", name="embedding_once"),
                migrations.AddConstraint(
                    model_name="embedding",
                    constraint=models.UniqueConstraint(fields=("chunk", "index"), name="passage_embedded_once"),
                ),
            ],
        ),
        # Not by the operation itself, which could not be repeated: one after it may be cut short.
        migrations.RunSQL(
            "ALTER TABLE knowledge_embeddingindex DROP CONSTRAINT IF EXISTS embedding_index_dimension",
            "ALTER TABLE knowledge_embeddingindex ADD CONSTRAINT embedding_index_dimension UNIQUE (id, dimension)",
            state_operations=[
                migrations.RemoveConstraint(model_name="embeddingindex", name="embedding_index_dimension")
            ],
        ),
        migrations.AlterField(
            model_name="embedding",
            name="tenant",
            field=models.ForeignKey(
                db_constraint=False,
                db_index=False,
                on_delete=django.db.models.deletion.DO_NOTHING,
                related_name="+",
                to="tenants.tenant",
            ),
        ),
        migrations.AlterField(
            model_name="embedding",
            name="collection",
            field=models.ForeignKey(
                db_constraint=False,
                db_index=False,
                on_delete=django.db.models.deletion.DO_NOTHING,
                related_name="+",
                to="knowledge.collection",
            ),
        ),
        migrations.AlterField(
            model_name="embedding",
            name="index",
            field=models.ForeignKey(
                db_index=False,
                on_delete=django.db.models.deletion.CASCADE,
                related_name="+",
                to="knowledge.embeddingindex",
            ),
        ),
        migrations.AlterField(
            model_name="embedding",
            name="chunk",
            field=models.ForeignKey(
                db_index=False,
                on_delete=django.db.models.deletion.CASCADE,
                related_name="embeddings",
                to="knowledge.chunk",
            ),
        ),
    ]

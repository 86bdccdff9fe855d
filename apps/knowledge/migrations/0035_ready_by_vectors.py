"""A worker cannot finish a document whose passages lack vectors in the index that its collection uses.

Ours look themselves (second/keeping.py). Those of releases that know of no second index would end with passages that
questions find by their words alone, where the collection has switched while they worked. They take the refusal for a
storage that did not answer, and embed the passages in the other index when they come back.
"""

from __future__ import annotations

from django.db import migrations

# The lock is that of keeping.is_current(): nobody switches until the transaction ends.
CHECK = """
    CREATE FUNCTION document_has_vectors() RETURNS trigger
    LANGUAGE plpgsql SET search_path = pg_catalog, public, pg_temp AS $$
    BEGIN
        PERFORM pg_advisory_xact_lock_shared(1431519564, hashtext(NEW.collection_id::text));
        IF EXISTS (
            SELECT FROM public.knowledge_chunk p
            JOIN public.knowledge_collection c ON c.tenant_id = p.tenant_id AND c.id = p.collection_id
            WHERE p.tenant_id = NEW.tenant_id AND p.document_id = NEW.id AND p.live AND NOT EXISTS (
                SELECT FROM public.knowledge_embedding e WHERE e.chunk_id = p.id AND e.index_id = c.index_id
            )
        ) THEN
            RAISE EXCEPTION USING ERRCODE = 'object_not_in_prerequisite_state',
                MESSAGE = 'passages of document ' || NEW.id || ' lack vectors in the index that its collection uses';
        END IF;
        RETURN NULL;
    END
    $$;
    CREATE TRIGGER document_has_vectors AFTER UPDATE ON knowledge_document FOR EACH ROW
        WHEN (OLD.lease_token IS NOT NULL AND NEW.lease_token IS NULL AND NEW.status = 'ready')
        EXECUTE FUNCTION document_has_vectors()
"""
FORGET = "DROP TRIGGER document_has_vectors ON knowledge_document; DROP FUNCTION document_has_vectors()"


class Migration(migrations.Migration):
    dependencies = [("knowledge", "0034_one_key_for_each_reference")]

    operations = [migrations.RunSQL(CHECK, FORGET)]

"""Drops foreign keys beside which stands one that takes the tenant along: tables that were made and protected in the same
migration came by both. There is nothing to drop in databases that are newer than row_security.py's way with them."""

from __future__ import annotations

from django.db import migrations

from apps.edge.table_locks import lock_together

DOUBLED = """
    SELECT plain.conrelid::regclass AS of, plain.conname AS name FROM pg_constraint plain
    WHERE plain.contype = 'f' AND cardinality(plain.conkey) = 1 AND plain.connamespace = 'public'::regnamespace
      AND EXISTS (
        SELECT FROM pg_constraint whole
        WHERE whole.contype = 'f' AND whole.conrelid = plain.conrelid AND whole.confrelid = plain.confrelid
          AND whole.conkey[2:] = plain.conkey AND whole.conname LIKE '%\\_of\\_tenant'
      )
"""
TABLES = (
    *("knowledge_judgement", "knowledge_layout", "knowledge_secondindex", "knowledge_upload"),
    *("knowledge_source", "knowledge_sourcerun", "knowledge_sourcepage"),
    *("knowledge_collection", "knowledge_document", "knowledge_embeddingindex"),
)
DROP = f"""
    DO $$ DECLARE doubled record; BEGIN
        IF NOT EXISTS ({DOUBLED}) THEN RETURN; END IF;
        {lock_together(*TABLES, without="web, workers and beat")}
        FOR doubled IN {DOUBLED} LOOP
            EXECUTE format('ALTER TABLE %s DROP CONSTRAINT %I', doubled.of, doubled.name);
        END LOOP;
    END $$
"""


class Migration(migrations.Migration):
    dependencies = [("knowledge", "0032_shares")]

    operations = [migrations.RunSQL(DROP, migrations.RunSQL.noop)]

"""A tenant that is being erased is not resumed and its slug not given away, whatever release tries. And what the admin
and the lock-out wrote down beside the audit log in earlier releases goes: no erasure finds it."""

from django.db import migrations

# Whoever begins an erasure holds the tenant's row, so that a trigger sees it.
GUARD = """
    CREATE FUNCTION refuse_what_is_erased() RETURNS trigger
    LANGUAGE plpgsql SET search_path = pg_catalog, public, pg_temp AS $$
    BEGIN
        IF current_setting('app.maintenance', true) = 'on' THEN  -- a restore brings back what there was
            RETURN NEW;
        END IF;
        IF TG_OP = 'UPDATE' AND NEW.is_active AND NOT OLD.is_active
            AND EXISTS (SELECT FROM public.tenants_erasure WHERE id = NEW.id) THEN
            RAISE EXCEPTION 'a tenant that is being erased is not resumed' USING ERRCODE = 'restrict_violation';
        END IF;
        IF (TG_OP = 'INSERT' OR NEW.slug <> OLD.slug)
            AND EXISTS (SELECT FROM public.tenants_erasure WHERE slug = NEW.slug AND finished IS NULL) THEN
            RAISE EXCEPTION 'the erasure of a tenant with this slug has not come to its end'
                USING ERRCODE = 'restrict_violation';
        END IF;
        RETURN NEW;
    END
    $$;
    CREATE TRIGGER refuse_what_is_erased BEFORE INSERT OR UPDATE OF is_active, slug ON tenants_tenant
        FOR EACH ROW EXECUTE FUNCTION refuse_what_is_erased()
"""


class Migration(migrations.Migration):
    dependencies = [
        ("tenants", "0006_data_safety"),
        ("admin", "0003_logentry_add_action_flag_choices"),
        ("axes", "0010_accessattemptexpiration"),
    ]

    operations = [
        migrations.RunSQL(
            GUARD,
            "DROP TRIGGER refuse_what_is_erased ON tenants_tenant; DROP FUNCTION refuse_what_is_erased()",
        ),
        migrations.RunSQL("TRUNCATE django_admin_log, axes_accesslog", migrations.RunSQL.noop),
    ]

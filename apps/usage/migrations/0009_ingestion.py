"""What documents use and what is kept of them: limits, and the ledger's columns for the steps of an ingestion."""

from django.conf import settings
from django.db import migrations, models

# As in 0007, with the pages.
WITHDRAW = """
    DROP TRIGGER withdraw_day_of_updated ON usage_usagerecord;
    CREATE TRIGGER withdraw_day_of_updated AFTER UPDATE ON usage_usagerecord FOR EACH ROW
        WHEN (
            (OLD.created < now() - interval '1 hour' OR NEW.created < now() - interval '1 hour')
            AND (
                OLD.kind, OLD.assistant_id, OLD.oauth_client_id, OLD.model, OLD.state, OLD.bill, OLD.prompt_tokens,
                OLD.completion_tokens, OLD.cost, OLD.created, {old}
                coalesce(NEW.end_user_id, OLD.end_user_id), coalesce(NEW.api_key_id, OLD.api_key_id)
            ) IS DISTINCT FROM (
                NEW.kind, NEW.assistant_id, NEW.oauth_client_id, NEW.model, NEW.state, NEW.bill, NEW.prompt_tokens,
                NEW.completion_tokens, NEW.cost, NEW.created, {new} OLD.end_user_id, OLD.api_key_id
            )
        )
        EXECUTE FUNCTION usage_withdraw_day();
"""


class Migration(migrations.Migration):

    dependencies = [
        ('inference', '0006_rerank_and_waking'),
        ('tenants', '0005_row_level_security'),
        ('usage', '0008_limits'),
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
    ]

    operations = [
        migrations.RemoveConstraint(
            model_name='grant',
            name='grant_form',
        ),
        migrations.RemoveConstraint(
            model_name='planlimit',
            name='plan_limit_form',
        ),
        migrations.RemoveConstraint(
            model_name='quota',
            name='quota_form',
        ),
        migrations.AddField(
            model_name='dailyusage',
            name='pages',
            field=models.BigIntegerField(db_default=0, default=0),
        ),
        migrations.AddField(
            model_name='dailyusagebyuser',
            name='pages',
            field=models.BigIntegerField(db_default=0, default=0),
        ),
        migrations.AddField(
            model_name='dailyuser',
            name='pages',
            field=models.BigIntegerField(db_default=0, default=0),
        ),
        migrations.AddField(
            model_name='usagerecord',
            name='document_id',
            field=models.UUIDField(null=True),
        ),
        migrations.AddField(
            model_name='usagerecord',
            name='pages',
            field=models.PositiveIntegerField(db_default=0, default=0),
        ),
        migrations.AlterField(
            model_name='grant',
            name='level',
            field=models.CharField(choices=[('tenant', 'The tenant as a whole'), ('assistant', 'Assistant'), ('key', 'API key'), ('client', 'OAuth2 client'), ('scope', 'Scope'), ('user', 'End user'), ('visitor', 'Visitor of a web site'), ('collection', 'Collection')], default='tenant', max_length=10, verbose_name='of whom'),
        ),
        migrations.AlterField(
            model_name='grant',
            name='metric',
            field=models.CharField(choices=[('requests', 'Questions and calls'), ('tokens', 'Tokens of prompts and answers'), ('cost', "Money, at the endpoints' prices"), ('turns', 'Questions at the same time'), ('documents', 'Documents that are kept'), ('bytes', 'Bytes of documents that are kept'), ('pages', 'Pages of documents that are read'), ('ingestion', 'Tokens of documents that are embedded')], default='tokens', max_length=10, verbose_name='of what'),
        ),
        migrations.AlterField(
            model_name='grant',
            name='window',
            field=models.CharField(choices=[('minute', 'A minute'), ('hour', 'An hour'), ('day', 'A day'), ('month', 'A calendar month'), ('once', 'At any one time')], default='month', max_length=6, verbose_name='in which time'),
        ),
        migrations.AlterField(
            model_name='planlimit',
            name='level',
            field=models.CharField(choices=[('tenant', 'The tenant as a whole'), ('assistant', 'Assistant'), ('key', 'API key'), ('client', 'OAuth2 client'), ('scope', 'Scope'), ('user', 'End user'), ('visitor', 'Visitor of a web site'), ('collection', 'Collection')], default='tenant', max_length=10, verbose_name='of whom'),
        ),
        migrations.AlterField(
            model_name='planlimit',
            name='metric',
            field=models.CharField(choices=[('requests', 'Questions and calls'), ('tokens', 'Tokens of prompts and answers'), ('cost', "Money, at the endpoints' prices"), ('turns', 'Questions at the same time'), ('documents', 'Documents that are kept'), ('bytes', 'Bytes of documents that are kept'), ('pages', 'Pages of documents that are read'), ('ingestion', 'Tokens of documents that are embedded')], default='tokens', max_length=10, verbose_name='of what'),
        ),
        migrations.AlterField(
            model_name='planlimit',
            name='window',
            field=models.CharField(choices=[('minute', 'A minute'), ('hour', 'An hour'), ('day', 'A day'), ('month', 'A calendar month'), ('once', 'At any one time')], default='month', max_length=6, verbose_name='in which time'),
        ),
        migrations.AlterField(
            model_name='quota',
            name='level',
            field=models.CharField(choices=[('tenant', 'The tenant as a whole'), ('assistant', 'Assistant'), ('key', 'API key'), ('client', 'OAuth2 client'), ('scope', 'Scope'), ('user', 'End user'), ('visitor', 'Visitor of a web site'), ('collection', 'Collection')], default='tenant', max_length=10, verbose_name='of whom'),
        ),
        migrations.AlterField(
            model_name='quota',
            name='metric',
            field=models.CharField(choices=[('requests', 'Questions and calls'), ('tokens', 'Tokens of prompts and answers'), ('cost', "Money, at the endpoints' prices"), ('turns', 'Questions at the same time'), ('documents', 'Documents that are kept'), ('bytes', 'Bytes of documents that are kept'), ('pages', 'Pages of documents that are read'), ('ingestion', 'Tokens of documents that are embedded')], default='tokens', max_length=10, verbose_name='of what'),
        ),
        migrations.AlterField(
            model_name='quota',
            name='subject',
            field=models.CharField(blank=True, default='', help_text="The id of the assistant, key, client or collection, the name of the scope, or the end user's own id with the tenant. Empty for each of them by itself.", max_length=200, verbose_name='which one'),
        ),
        migrations.AlterField(
            model_name='quota',
            name='window',
            field=models.CharField(choices=[('minute', 'A minute'), ('hour', 'An hour'), ('day', 'A day'), ('month', 'A calendar month'), ('once', 'At any one time')], default='month', max_length=6, verbose_name='in which time'),
        ),
        migrations.AlterField(
            model_name='usagerecord',
            name='kind',
            field=models.CharField(choices=[('turn', 'Turn'), ('embeddings', 'Embeddings'), ('ingestion', 'Reading and embedding of documents')], db_default='turn', default='turn', max_length=10),
        ),
        migrations.AddIndex(
            model_name='usagerecord',
            index=models.Index(condition=models.Q(('kind', 'ingestion')), fields=['tenant', 'created'], include=('pages', 'prompt_tokens', 'reserved_tokens', 'state', 'bill'), name='usage_ingestion'),
        ),
        migrations.AddConstraint(
            model_name='grant',
            constraint=models.CheckConstraint(condition=models.Q(models.Q(models.Q(('metric__in', ['bytes', 'documents', 'turns']), ('window', 'once')), models.Q(models.Q(('metric__in', ['bytes', 'documents', 'turns']), _negated=True), models.Q(('window', 'once'), _negated=True)), _connector='OR'), ('amount__gt', 0)), name='grant_form'),
        ),
        migrations.AddConstraint(
            model_name='planlimit',
            constraint=models.CheckConstraint(condition=models.Q(models.Q(models.Q(('metric__in', ['bytes', 'documents', 'turns']), ('window', 'once')), models.Q(models.Q(('metric__in', ['bytes', 'documents', 'turns']), _negated=True), models.Q(('window', 'once'), _negated=True)), _connector='OR'), ('amount__gt', 0)), name='plan_limit_form'),
        ),
        migrations.AddConstraint(
            model_name='quota',
            constraint=models.CheckConstraint(condition=models.Q(models.Q(models.Q(('metric__in', ['bytes', 'documents', 'turns']), ('window', 'once')), models.Q(models.Q(('metric__in', ['bytes', 'documents', 'turns']), _negated=True), models.Q(('window', 'once'), _negated=True)), _connector='OR'), ('amount__gt', 0)), name='quota_form'),
        ),
        migrations.RunSQL(WITHDRAW.format(old="OLD.pages,", new="NEW.pages,"), WITHDRAW.format(old="", new="")),
    ]

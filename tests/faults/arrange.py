"""Makes two tenants for the fault tests, in a process whose environment names their database, and prints them as JSON.

Each has an assistant `guide` that reads a passage of its own, one `plain` that reads nothing, and a canary: a word
that stands in all that the tenant says, reads and is told, and may be found nowhere else.

    python -m tests.faults.arrange http://127.0.0.1:9000
"""

from __future__ import annotations

import json
import sys

import django

CANARIES = {"acme": "canaryofacme", "globex": "canaryofglobex"}
LONGEST = 2000  # tokens of an answer
MANY = 1000  # questions at once: the rows about crowds are not about waiting in line
ROOM = 10**9  # of every limit, so that all is counted and nothing refused
LIMITS = (
    ("tenant", "requests", "day"),
    ("tenant", "requests", "minute"),
    ("tenant", "tokens", "month"),
    ("tenant", "cost", "month"),
    ("tenant", "turns", "once"),
    ("user", "tokens", "day"),
    ("key", "requests", "hour"),
)


def arrange(model: str) -> dict[str, dict[str, str]]:
    """By slug, each tenant's id, key and canary. model: the base URL of its chat and embedding server."""
    from apps.inference.models import Endpoint  # noqa: PLC0415 - Django's settings are read by now
    from apps.usage.limit_models import Plan  # noqa: PLC0415
    from tests import all_tenants, factories  # noqa: PLC0415
    from tests.fakes.inference import embedding  # noqa: PLC0415

    all_tenants.install()
    plan = Plan.objects.create(name="Roomy", is_default=True)
    for level, metric, window in LIMITS:
        plan.limits.create(level=level, metric=metric, window=window, amount=ROOM)
    factories.make_endpoint(model, protocol="vllm", limit=MANY, prompt_price=1, completion_price=3)
    embedder = factories.make_endpoint(model, kind=Endpoint.Kind.EMBEDDING, limit=MANY)
    made = {}
    for slug, canary in CANARIES.items():
        tenant = factories.make_tenant(slug)
        index = factories.make_index(tenant=tenant, endpoint=embedder)
        collection = factories.make_collection(tenant=tenant, index=index, slug="manuals")
        document = factories.make_document(tenant=tenant, collection=collection, title="Manual")
        text = f"The pump of {canary} must be primed before the first brew."
        factories.make_passage(tenant=tenant, document=document, text=text, vector=embedding(text))
        factories.make_assistant(tenant=tenant, collections=(collection,), slug="guide", max_tokens=LONGEST)
        factories.make_assistant(tenant=tenant, slug="plain", max_tokens=LONGEST)
        made[slug] = {"id": str(tenant.pk), "slug": slug, "canary": canary, "key": factories.make_key(tenant=tenant)}
    return made


if __name__ == "__main__":
    django.setup(set_prefix=False)
    sys.stdout.write(json.dumps(arrange(sys.argv[1])))

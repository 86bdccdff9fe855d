"""Sources to run, and what tests ask of a run."""

from __future__ import annotations

from typing import Any

from asgiref.sync import async_to_sync
from django.utils import timezone

from apps.knowledge.crawl import registering, running, schedule
from apps.knowledge.models import Collection, Document, Source, SourcePage, SourceRun
from apps.tenants.models import Tenant
from tests.apps.knowledge.ingesting import ingested
from tests.fakes.site import Site


def page(title: str, *links: str, head: str = "") -> str:
    """A page of its own words that links to these."""
    anchors = "".join(f'<p>See <a href="{link}">{link}</a>.</p>' for link in links)
    return f"<title>{title}</title>{head}<h1>{title}</h1><p>All about {title} stands here.</p>{anchors}"


def site_source(tenant: Tenant, collection: Collection, site: Site, path: str = "/", **fields: Any) -> Source:
    wanted = {"kind": "site", "location": f"{site.url}{path}", **fields}
    return registering.add_source(tenant, collection, **wanted)


def run_once(source: Source) -> SourceRun:
    """Its next slice, by a worker that takes it up now."""
    run, _ = schedule.run_now(source.tenant, source)
    SourcePage.objects.filter(run=run, visited=False).update(due_at=timezone.now())
    async_to_sync(running.run_slice)(source.tenant_id, run.pk, run.slices)
    run.refresh_from_db()
    return run


def run_whole(source: Source, *, ingest: bool = True) -> SourceRun:
    """All slices of a run, and what it brought ingested."""
    for _ in range(50):
        run = run_once(source)
        if run.ended:
            break
    assert run.ended, run.state
    if ingest:
        for document in Document.objects.filter(source_page__source=source).unfinished():
            ingested(source.tenant, document)
    return run


def counts(run: SourceRun) -> dict[str, int]:
    """Those that are not zero."""
    found = {name: getattr(run, name) for name in ("found", "new", "changed", "unchanged", "gone", "refused")}
    return {name: count for name, count in found.items() if count}


def refusals(run: SourceRun) -> dict[str, str]:
    """Codes by address, without the host."""
    return {one["address"].partition("://")[2].partition("/")[2]: one["code"] for one in run.refusals}


def titles(source: Source) -> list[str]:
    rows = Document.objects.filter(source_page__source=source).order_by("title")
    return list(rows.values_list("title", flat=True))

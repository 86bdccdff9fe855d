"""What a run has found and what it has looked at, kept in the database: whichever worker takes the next slice goes on
there.

Every function writes in the transaction that it is called in, and first of all under the run's lease, which locks the
run's row: a worker that lost it changes nothing.
"""

from __future__ import annotations

import datetime
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from django.db.models import F, Min, Q, QuerySet
from django.utils import timezone

from apps.knowledge import lease, storage
from apps.knowledge.crawl import scope
from apps.knowledge.ingest import delete_document
from apps.knowledge.models import Source, SourcePage, SourceRun
from apps.knowledge.source_models import LOCATION_CHARS
from chatbot.errors import ExtractionFailed, ParleyError

MOST_REFUSALS = 100  # that a report names; all of them are counted
MOST_LISTINGS = 200  # sitemaps of one run
# A page is gone when so many complete runs in a row did not find it.
ABSENCES = 2
SWEPT_AT_ONCE = 20
# A page whose host does not answer is tried again after so many seconds; then it is refused.
RETRIES = (30.0, 120.0)

Outcome = Literal["new", "changed", "unchanged", "refused", "moved"]


class NothingFoundError(ExtractionFailed):
    code = "nothing_found"
    default_message = "There is nothing at all where the documents should be. Those that are here stay."


class DuplicateError(ExtractionFailed):
    code = "duplicate"


@dataclass(frozen=True, slots=True)
class Found:
    """version: what a listing says of it, which changes with the content."""

    address: str
    version: str = ""


@dataclass(frozen=True, slots=True)
class Visited:
    """What became of a page, and where it leads: addresses at `depth`, after so many redirects in a row.

    refusal: why nothing was made of it. absent: there is nothing for us any more.
    """

    outcome: Outcome
    leads_to: Sequence[Found] = ()
    depth: int = 0
    hops: int = 0
    listings: bool = False
    refusal: ParleyError | None = None
    absent: bool = False


def pages_of(run: SourceRun) -> QuerySet[SourcePage]:
    rows: QuerySet[SourcePage] = SourcePage.objects.for_tenant(run.tenant_id).filter(source=run.source)
    return rows


def begin(run: SourceRun, start: Found, *, listing: bool) -> None:
    """A queued run runs from now on, from this address. Of pages that were found before only those are kept that have
    documents, however the runs ended."""
    _write(run, state=SourceRun.State.RUNNING)
    pages_of(run).filter(document=None).delete()
    _discover(run, [start], listings=listing)


def next_page(run: SourceRun) -> SourcePage | None:
    """The next one to look at; what says where pages are goes first, and then what is near the start."""
    waiting = pages_of(run).filter(run=run, visited=False, due_at__lte=timezone.now())
    return waiting.select_related("document").order_by("-listing", "depth", "due_at", "address").first()


def next_due(run: SourceRun) -> datetime.datetime | None:
    """When the next of those is due that were put off; None where all were looked at."""
    found: datetime.datetime | None = pages_of(run).filter(run=run, visited=False).aggregate(due=Min("due_at"))["due"]
    return found


def settle(run: SourceRun, page: SourcePage, visited: Visited) -> None:
    """The page was looked at."""
    counts: dict[str, Any] = {"attempts": 0} if page.listing else {"attempts": 0, "done": run.done + 1}
    if visited.outcome != "moved" and not page.listing:
        counts[visited.outcome] = getattr(run, visited.outcome) + 1
    if visited.refusal and len(run.refusals) < MOST_REFUSALS:
        counts["refusals"] = [*run.refusals, refusal_of(page.address, visited.refusal)]
    _write(run, **counts)
    moved = visited.outcome == "moved"
    pages_of(run).filter(pk=page.pk).update(
        visited=True,
        absent=visited.absent or moved,
        moved=moved,
        duplicate=isinstance(visited.refusal, DuplicateError),
    )
    if moved:
        _look_again(run, [one.address for one in visited.leads_to])
    _discover(run, visited.leads_to, depth=visited.depth, hops=visited.hops, listings=visited.listings)


def _look_again(run: SourceRun, targets: Sequence[str]) -> None:
    """What was refused since it had the content of a page that has moved there, as is known now, takes its document."""
    if pages_of(run).filter(run=run, address__in=targets, duplicate=True).update(visited=False, duplicate=False):
        refusals = [one for one in run.refusals if one["address"] not in targets]
        _write(run, done=run.done - 1, refused=run.refused - 1, refusals=refusals)


def refusal_of(address: str, error: ParleyError) -> dict[str, str]:
    return {"address": address, "code": error.code, "message": sentence_of(error)}


def sentence_of(error: ParleyError) -> str:
    return " ".join(error.fields.values()) if error.fields else error.message


def put_off(run: SourceRun, page: SourcePage, error: ParleyError) -> bool:
    """Look at the page later, since its host does not answer; False where that has been done often enough."""
    if page.attempts >= len(RETRIES):
        return False
    _write(run, attempts=0)
    seconds = max(RETRIES[page.attempts], min(error.retry_after or 0, 10 * RETRIES[-1]))
    due = timezone.now() + datetime.timedelta(seconds=seconds)
    pages_of(run).filter(pk=page.pk).update(attempts=F("attempts") + 1, due_at=due)
    return True


def has_moved(run: SourceRun, address: str) -> bool:
    """Whether this run was there already and was led elsewhere."""
    return pages_of(run).filter(run=run, address=address, moved=True).exists()


def _discover(run: SourceRun, found: Iterable[Found], *, depth: int = 0, hops: int = 0, listings: bool = False) -> None:
    """Add what this run did not come to yet, up to the page limit."""
    # What PostgreSQL could not keep is left out: keys of a bucket may hold anything.
    wanted = {one.address: one for one in found if _can_be_kept(one.address)}
    rows = pages_of(run).filter(address__in=wanted)
    known = {row.address: row for row in rows}
    fresh = [one for one in wanted.values() if one.address not in known or known[one.address].run_id != run.pk]
    if not fresh:
        return
    listed = pages_of(run).filter(run=run, listing=True).count() if listings else run.found
    room = (MOST_LISTINGS if listings else run.source.max_pages) - listed
    taken = fresh[: max(room, 0)]
    _write(run, cut=run.cut or len(taken) < len(fresh), **({} if listings else {"found": run.found + len(taken)}))
    now = timezone.now()
    state = {"run": run, "depth": depth, "hops": hops, "listing": listings, "due_at": now, "visited": False,
             "moved": False, "absent": False, "duplicate": False, "attempts": 0}  # fmt: skip
    again: list[SourcePage] = []
    new: list[SourcePage] = []
    for one in taken:
        row = known.get(one.address) or SourcePage(tenant_id=run.tenant_id, source=run.source, address=one.address)
        for name, value in {**state, "version": one.version}.items():
            setattr(row, name, value)
        (again if one.address in known else new).append(row)
    SourcePage.objects.bulk_update(again, [*state, "version"], batch_size=500)
    SourcePage.objects.bulk_create(new, batch_size=500)


def _can_be_kept(address: str) -> bool:
    return "\0" not in address and len(address.encode()) <= LOCATION_CHARS


def recall(run: SourceRun) -> bool:
    """Look, too, at pages that have documents and that no link led to; whether there are any such."""
    if run.cut or run.source.kind != Source.Kind.SITE:
        return False
    left = pages_of(run).exclude(run=run).exclude(document=None).values_list("address", flat=True)
    inside = [Found(address) for address in left if scope.holds(run.source, address)]
    # As deep as links are followed: none of theirs are.
    _discover(run, inside, depth=run.source.depth)
    return bool(inside) and not run.cut


def judge(run: SourceRun) -> None:
    """All pages were looked at: count those that are absent. A run that was cut says nothing of them.

    Raises NothingFoundError where a list is empty: a folder that is not mounted is empty, too.
    """
    if not run.found:
        raise NothingFoundError
    _write(run, judged=True)
    if run.cut:
        return
    pages = pages_of(run)
    absent = Q(absent=True) | ~Q(run=run) | Q(run=None)
    pages.filter(absent).update(absences=F("absences") + 1)
    pages.exclude(absent).update(absences=0)


def sweep(run: SourceRun) -> bool:
    """Delete some of the documents whose pages are gone; whether there may be more. A run that was cut deletes none: it
    did not judge whether what one before it left is back."""
    if run.cut:
        return False
    storage.in_turn(run.tenant)  # before any row is locked
    lease.renew(run)
    gone = list(pages_of(run).filter(absences__gte=ABSENCES).select_related("document")[:SWEPT_AT_ONCE])
    documents = [page.document for page in gone if hasattr(page, "document")]
    for document in documents:
        delete_document(run.tenant, document)
    pages_of(run).filter(pk__in=[page.pk for page in gone]).delete()
    _write(run, gone=run.gone + len(documents))
    return len(gone) == SWEPT_AT_ONCE


def _write(run: SourceRun, **fields: Any) -> None:
    lease.write(run, **fields)
    for name, value in fields.items():
        setattr(run, name, value)

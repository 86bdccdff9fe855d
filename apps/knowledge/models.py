"""Collections of documents, the passages cut from them, and the vectors that stand for those."""

from __future__ import annotations

import datetime
import re
import uuid
from collections.abc import Iterable
from typing import Any, ClassVar

from django.contrib.postgres.fields import ArrayField
from django.contrib.postgres.indexes import GinIndex, OpClass
from django.contrib.postgres.search import SearchVectorField
from django.core.exceptions import ValidationError
from django.db import models
from django.db.models import Q
from django.db.models.functions import Now
from django.utils import timezone
from pgvector.django import HalfVectorField

from apps.inference.models import Endpoint
from apps.knowledge.layout_models import EFS, Layout
from apps.knowledge.second_models import SecondIndex
from apps.knowledge.source_models import Source, SourcePage, SourceRun
from apps.knowledge.upload_models import Upload
from apps.tenants.models import User, slug_validator
from apps.tenants.scoping import TenantOwned, TenantQuerySet
from chatbot import languages

__all__ = [
    "EFS",
    "TITLE_CHARS",
    "URL_CHARS",
    "Chunk",
    "ChunkQuerySet",
    "Collection",
    "Document",
    "DocumentQuerySet",
    "Embedding",
    "EmbeddingIndex",
    "Judgement",
    "Layout",
    "SecondIndex",
    "Source",
    "SourcePage",
    "SourceRun",
    "Tombstone",
    "Upload",
]

TITLE_CHARS = 300  # of a document, and of each heading above a passage
URL_CHARS = 2000
LARGE_BYTES = 4 * 2**20  # of a file that workers of its own read, lest others wait for minutes
# How far ahead the time of one that was just sent can lie. A queued one's that lies farther is of a clock that is fast.
MOST_AHEAD = datetime.timedelta(minutes=2)
PUBLISHED_AT_ONCE = 1_000  # vectors, or passages whose words are read
QUESTION_CHARS = 500  # of one that is judged
FILTERS = ("tags", "source", "after", "before")  # what every search can be narrowed by; Collection.fields adds to them
MOST_FIELDS, MOST_TAGS, TAG_CHARS = 20, 50, 50
_FIELD = re.compile(r"[a-z][a-z0-9_]{0,39}")


def validate_fields(names: list[str]) -> None:
    """Raises ValidationError unless each is a name that a filter may have."""
    if len(names) > MOST_FIELDS:
        raise ValidationError(f"There can be {MOST_FIELDS} fields.")
    for name in names:
        if not _FIELD.fullmatch(name) or name in FILTERS:
            raise ValidationError(
                f"{name!r} cannot name a field: use up to 40 lower-case letters, digits and underscores, a letter "
                f"first, and none of {', '.join(FILTERS)}."
            )


class EmbeddingIndex(TenantOwned):
    """A model and its dimension: vectors of one index can be compared with each other and with nothing else."""

    endpoint = models.ForeignKey(Endpoint, on_delete=models.PROTECT, related_name="+")
    model = models.CharField(max_length=200)
    dimension = models.PositiveIntegerField()
    created = models.DateTimeField(default=timezone.now, editable=False)

    class Meta:
        verbose_name = "embedding index"
        verbose_name_plural = "embedding indexes"
        ordering = ("-created",)
        constraints = [
            models.UniqueConstraint(fields=["tenant", "endpoint", "model", "dimension"], name="embedding_index_once"),
        ]

    def __str__(self) -> str:
        return f"{self.model} ({self.dimension})"


class Collection(TenantOwned):
    """Documents that are searched together."""

    name = models.CharField(max_length=100)
    slug = models.CharField(max_length=63, validators=[slug_validator])
    description = models.TextField(blank=True)
    index = models.ForeignKey(EmbeddingIndex, on_delete=models.RESTRICT, related_name="collections", editable=False)
    fields = ArrayField(
        models.CharField(max_length=40),
        default=list,
        db_default=[],
        blank=True,
        validators=[validate_fields],
        help_text="Names of your own by which its documents can be told apart in a search, such as department.",
    )
    created = models.DateTimeField(default=timezone.now, editable=False)

    class Meta:
        ordering = ("name",)
        constraints = [models.UniqueConstraint(fields=["tenant", "slug"], name="collection_slug_once")]

    def __str__(self) -> str:
        return self.name


class DocumentQuerySet(TenantQuerySet["Document"]):
    def unfinished(self) -> DocumentQuerySet:
        return self.exclude(status__in=[Document.Status.READY, Document.Status.FAILED])

    def waiting(self, now: datetime.datetime) -> DocumentQuerySet:
        """Those whose quota is not free yet, as far as was known when they began to wait."""
        return self.filter(status=Document.Status.WAITING, next_attempt_at__gt=now)

    def unclaimed(self) -> DocumentQuerySet:
        """Unfinished, and no worker holds them: never claimed, or the worker's lease ran out."""
        return self.unfinished().filter(Q(lease_until=None) | Q(lease_until__lt=Now()))  # PostgreSQL's, as lease.clock

    def claimable(self, now: datetime.datetime) -> DocumentQuerySet:
        """Unclaimed, and not pausing: a message that comes late or twice does not end a pause."""
        return self.unclaimed().exclude(status__in=Document.PAUSES, next_attempt_at__gt=now)

    def due(self, now: datetime.datetime) -> DocumentQuerySet:
        """Unclaimed, and neither pausing nor already sent to the workers a moment ago."""
        astray = Q(status=Document.Status.QUEUED, next_attempt_at__gt=now + MOST_AHEAD)
        return self.unclaimed().filter(Q(next_attempt_at__lte=now) | astray)

    def sent(self, now: datetime.datetime) -> DocumentQuerySet:
        """Sent to the workers a moment ago, none of which has taken them yet."""
        ahead = {"next_attempt_at__gt": now, "next_attempt_at__lte": now + MOST_AHEAD}
        return self.unclaimed().filter(status=Document.Status.QUEUED, **ahead)

    def held(self) -> DocumentQuerySet:
        """Those that workers are at."""
        return self.unfinished().filter(lease_until__gte=Now())

    def small(self) -> DocumentQuerySet:
        """Those that are soon read, as far as their size tells; also what is yet to be fetched."""
        return self.filter(size__lte=LARGE_BYTES)

    def large(self) -> DocumentQuerySet:
        return self.filter(size__gt=LARGE_BYTES)


class Document(TenantOwned):
    """A file, a text or what is at an address, and how far its ingestion has come.

    `stored` names its bytes in the storage; like their type and digest it is empty until they are fetched.
    """

    class Status(models.TextChoices):
        QUEUED = "queued", "Queued"
        EXTRACTING = "extracting", "Extracting"
        CHUNKING = "chunking", "Chunking"
        EMBEDDING = "embedding", "Embedding"
        WAITING = "waiting", "Waiting for a quota"
        READY = "ready", "Ready"
        RETRYING = "retrying", "Retrying"
        FAILED = "failed", "Failed"

    PAUSES: ClassVar = (Status.RETRYING, Status.WAITING)

    collection = models.ForeignKey(Collection, on_delete=models.CASCADE, related_name="documents")
    title = models.CharField(max_length=TITLE_CHARS)
    file_name = models.CharField(max_length=255, blank=True)
    source_url = models.CharField(max_length=URL_CHARS, blank=True)
    # The bytes at the address are yet to come, or wanted again.
    to_fetch = models.BooleanField(default=False, editable=False)
    # When they were last found to be those that are stored, and what their host then called this version of them.
    fetched_at = models.DateTimeField(null=True, blank=True)
    etag = models.CharField(max_length=200, blank=True, editable=False)
    modified = models.CharField(max_length=200, blank=True, default="", db_default="", editable=False)
    # Which page of a source it is; null where somebody added it.
    source_page = models.OneToOneField(
        SourcePage, on_delete=models.SET_NULL, null=True, blank=True, related_name="document", editable=False
    )
    media_type = models.CharField(max_length=100)
    size = models.PositiveBigIntegerField(help_text="Bytes")
    sha256 = models.CharField(max_length=64)
    stored = models.CharField(max_length=300, editable=False)
    status = models.CharField(max_length=12, choices=Status, default=Status.QUEUED)
    progress_done = models.PositiveIntegerField(default=0)
    progress_total = models.PositiveIntegerField(default=0)
    failure_code = models.CharField(max_length=50, blank=True)
    failure_message = models.CharField(max_length=500, blank=True)
    attempts = models.PositiveSmallIntegerField(default=0)
    # A worker owns the document until then; afterwards another may claim it. Null while nobody works on it.
    lease_until = models.DateTimeField(null=True, blank=True)
    # Made anew by each claim and cleared by each change of the bytes: a worker writes only while it is still its own.
    lease_token = models.UUIDField(null=True, blank=True, editable=False)
    # Of which metric it needs how much to go on, once that was refused it: a quota is used up.
    needs_metric = models.CharField(max_length=10, blank=True, default="", db_default="", editable=False)
    needs = models.PositiveBigIntegerField(default=0, db_default=0, editable=False)
    # When the document is next sent to the workers, unless one holds it: it was just sent, it backs off, or it waits.
    next_attempt_at = models.DateTimeField(default=timezone.now)
    tags = ArrayField(models.CharField(max_length=TAG_CHARS), default=list, db_default=[], blank=True)
    # Values of the collection's own fields.
    fields = models.JSONField(default=dict, db_default={}, blank=True)
    language = models.CharField(
        max_length=5,
        choices=[(code, languages.name(code)) for code in languages.LANGUAGES],
        blank=True,
        default="",
        db_default="",
        help_text="As somebody said it is in. Left empty, it is found out.",
    )
    # The configuration by which PostgreSQL made stems of the words of its live passages.
    stemming = models.CharField(max_length=20, default="english", db_default="english", editable=False)
    pages = models.PositiveIntegerField(default=0)
    passages = models.PositiveIntegerField(default=0)
    created_by = models.ForeignKey(User, on_delete=models.SET_NULL, null=True, blank=True, related_name="+")
    created = models.DateTimeField(default=timezone.now, editable=False)
    updated = models.DateTimeField(auto_now=True)
    ready_at = models.DateTimeField(null=True, blank=True)

    objects: ClassVar[Any] = DocumentQuerySet.as_manager()

    ahead: int | None = None  # documents that are taken before it, once queue.count_ahead() has counted them

    class Meta:
        ordering = ("-created",)
        indexes = [
            models.Index(fields=["tenant", "collection", "-created"], name="document_listing"),
            # Whether bytes are there already, and whether any other document has them.
            models.Index(fields=["tenant", "sha256"], name="document_by_digest"),
            models.Index(fields=["tenant", "stored"], name="document_by_bytes"),
            models.Index(
                fields=["next_attempt_at"], condition=~Q(status__in=["ready", "failed"]), name="document_unfinished"
            ),
            # Whose turn it is, and how many stand before it: few pages are read, however many wait.
            models.Index(
                fields=["tenant", "created"],
                include=["size", "status", "next_attempt_at", "lease_until"],
                condition=~Q(status__in=["ready", "failed"]),
                name="document_turns",
            ),
            # Those that workers are at: few, however many wait.
            models.Index(
                fields=["tenant", "lease_until"], condition=Q(lease_until__isnull=False), name="document_held"
            ),
        ]
        constraints = [
            models.UniqueConstraint(
                fields=["collection", "sha256"], condition=~Q(sha256=""), name="document_bytes_once"
            ),
            models.UniqueConstraint(
                fields=["collection", "source_url"], condition=~Q(source_url=""), name="document_address_once"
            ),
            models.CheckConstraint(
                condition=~Q(stored="") | (Q(to_fetch=True) & ~Q(source_url="")), name="document_has_bytes"
            ),
            models.CheckConstraint(
                condition=Q(
                    status__in=[
                        "queued",
                        "extracting",
                        "chunking",
                        "embedding",
                        "waiting",
                        "ready",
                        "retrying",
                        "failed",
                    ]
                ),
                name="document_status",
            ),
            models.CheckConstraint(
                condition=~Q(status="failed") | ~Q(failure_message=""), name="document_failure_says_why"
            ),
        ]

    def __str__(self) -> str:
        return self.title

    @property
    def is_large(self) -> bool:
        return self.size > LARGE_BYTES

    @property
    def pauses(self) -> bool:
        """It goes on at `next_attempt_at`."""
        return self.status in self.PAUSES


class Tombstone(TenantOwned):
    """What is left to forget of a document that was deleted, or of bytes that a document has no longer: see forgetting.

    `stored` names the bytes in the storage, until they are gone. `quoted`: answers may still quote the document. Where
    `created` lies ahead, a document is about to have these bytes: see storage.promised().
    """

    document_id = models.UUIDField(null=True, editable=False)
    stored = models.CharField(max_length=300, blank=True, editable=False)
    quoted = models.BooleanField(default=False, editable=False)
    created = models.DateTimeField(default=timezone.now, editable=False)

    class Meta:
        ordering = ("created",)

    def __str__(self) -> str:
        return str(self.document_id or self.stored)


class ChunkQuerySet(TenantQuerySet["Chunk"]):
    def publish(self) -> int:
        """Let searches find these passages and their vectors; how many.

        An HNSW index takes milliseconds for each vector, so no statement is about so many that its time runs out.
        """
        ids = list(self.order_by().values_list("pk", flat=True))
        for start in range(0, len(ids), PUBLISHED_AT_ONCE):
            Embedding.objects.filter(chunk__in=ids[start : start + PUBLISHED_AT_ONCE]).update(live=True)
        return self.update(live=True)

    def forget_other_vectors(self, indexes: Iterable[uuid.UUID]) -> None:
        """Those that they have in other indexes than these: one was dropped while the vectors were made."""
        others = Embedding.objects.filter(chunk__in=self.order_by().values("pk")).exclude(index__in=indexes)
        others._raw_delete(self.db)

    def discard(self) -> None:
        """Delete these passages and their vectors in two statements, where Model.delete() would send one a hundred."""
        Embedding.objects.filter(chunk__in=self.order_by().values("pk"))._raw_delete(self.db)
        self.order_by()._raw_delete(self.db)


class Chunk(TenantOwned):
    """A passage. Search finds it only when `live`, which the swap at the end of an ingestion sets for all at once."""

    document = models.ForeignKey(Document, on_delete=models.CASCADE, related_name="chunks")
    collection = models.ForeignKey(Collection, on_delete=models.CASCADE, related_name="+")
    live = models.BooleanField(default=False)
    position = models.PositiveIntegerField()
    text = models.TextField()
    heading = ArrayField(models.CharField(max_length=TITLE_CHARS), default=list)
    page = models.PositiveIntegerField(null=True)
    tokens = models.PositiveIntegerField()
    digest = models.CharField(max_length=64)
    # The release before says nothing, and means what its document has.
    stemming = models.CharField(max_length=20, null=True, editable=False)  # noqa: DJ001 - null is not a configuration
    tsv = SearchVectorField(null=True, editable=False)  # a trigger writes it, whenever a passage is written

    objects: ClassVar[Any] = ChunkQuerySet.as_manager()

    class Meta:
        ordering = ("document", "position")
        verbose_name = "passage"
        indexes = [
            # With the id, a search by vectors reads this index alone and no passage but those it returns.
            models.Index(fields=["tenant", "collection"], include=["id"], condition=Q(live=True), name="chunk_live"),
            GinIndex(fields=["tenant", "tsv"], name="chunk_words"),
            GinIndex(models.F("tenant"), OpClass(models.F("text"), name="gin_trgm_ops"), name="chunk_trigrams"),
        ]
        constraints = [models.UniqueConstraint(fields=["document", "live", "position"], name="chunk_position_once")]

    def __str__(self) -> str:
        return self.text[:80]


class Embedding(TenantOwned):
    """A passage's vector in one index. The database refuses a vector whose dimension is not its index's.

    What decides whether a search may find it stands here again: comparing vectors then reads no passage.
    Two foreign keys vouch for all of it, since each is looked up for every vector: (tenant, chunk, collection) is a
    passage's, (tenant, index, dimension) an index's. Tenant and collection need none of their own: their passages go
    before they do.
    """

    tenant = models.ForeignKey(
        "tenants.Tenant", on_delete=models.DO_NOTHING, db_constraint=False, db_index=False, related_name="+"
    )
    index = models.ForeignKey(EmbeddingIndex, on_delete=models.CASCADE, db_index=False, related_name="+")
    chunk = models.ForeignKey(Chunk, on_delete=models.CASCADE, db_index=False, related_name="embeddings")
    collection = models.ForeignKey(
        Collection, on_delete=models.DO_NOTHING, db_constraint=False, db_index=False, related_name="+"
    )
    live = models.BooleanField(default=False)
    dimension = models.PositiveIntegerField()
    vector = HalfVectorField()

    class Meta:
        indexes = [
            models.Index(fields=["tenant", "index", "collection"], condition=Q(live=True), name="embedding_live")
        ]
        # The passage first, by which vectors are looked up and deleted.
        constraints = [models.UniqueConstraint(fields=["chunk", "index"], name="passage_embedded_once")]


class Judgement(TenantOwned):
    """What somebody said of a passage that a question found: that it answers, or does not. `manage.py evaluate` reads
    them. A passage goes by its document and the section it stands in, so that it may be cut anew."""

    collection = models.ForeignKey(Collection, on_delete=models.CASCADE, related_name="+")
    document = models.ForeignKey(Document, on_delete=models.CASCADE, related_name="+")
    question = models.CharField(max_length=QUESTION_CHARS)
    section = models.CharField(max_length=TITLE_CHARS, blank=True)
    right = models.BooleanField()
    created_by = models.ForeignKey(User, on_delete=models.SET_NULL, null=True, blank=True, related_name="+")
    created = models.DateTimeField(default=timezone.now, editable=False)

    class Meta:
        ordering = ("question", "created")
        constraints = [
            models.UniqueConstraint(fields=["document", "section", "question"], name="judgement_once"),
        ]

    def __str__(self) -> str:
        return self.question

"""Conversations, and their turns: each a question, its answer and how that came about."""

from __future__ import annotations

from typing import Any, ClassVar

from django.contrib.postgres.fields import ArrayField
from django.db import models
from django.db.models import Q
from django.db.models.functions import Now
from django.utils import timezone

from apps.assistants.models import Assistant, PromptVersion
from apps.inference.models import Endpoint
from apps.tenants.models import ApiKey, EndUser
from apps.tenants.scoping import TenantOwned, TenantQuerySet


class Conversation(TenantOwned):
    """One end user's talk with one assistant."""

    assistant = models.ForeignKey(Assistant, on_delete=models.CASCADE, related_name="conversations")
    end_user = models.ForeignKey(EndUser, on_delete=models.CASCADE, related_name="conversations")
    title = models.CharField(max_length=200, blank=True)
    created = models.DateTimeField(default=timezone.now, editable=False)
    active_at = models.DateTimeField("last activity", default=timezone.now)

    class Meta:
        ordering = ("-active_at",)
        indexes = [
            models.Index(fields=["tenant", "-active_at", "id"], name="conversation_listing"),
            models.Index(fields=["tenant", "end_user", "-active_at"], name="conversation_of_end_user"),
        ]

    def __str__(self) -> str:
        return self.title or "Untitled conversation"

    @property
    def shared(self) -> bool:
        """Whether a link shows it to whoever has one."""
        now = timezone.now()
        return any(share.expires_at is None or share.expires_at > now for share in self.shares.all())


class Message(TenantOwned):
    """Something said, in a conversation, or in a turn that has none. A stored message never changes, but that it stops
    quoting documents that are deleted."""

    class Role(models.TextChoices):
        USER = "user", "User"
        ASSISTANT = "assistant", "Assistant"

    conversation = models.ForeignKey(Conversation, on_delete=models.CASCADE, null=True, related_name="messages")
    turn = models.ForeignKey("Turn", on_delete=models.CASCADE, null=True, related_name="+", db_index=False)
    role = models.CharField(max_length=10, choices=Role)
    text = models.TextField()
    citations = models.JSONField(default=list, help_text="As chatbot.events.Source gives them.")
    created = models.DateTimeField(default=timezone.now, editable=False)

    class Meta:
        ordering = ("created",)
        indexes = [
            models.Index(fields=["tenant", "conversation", "created"], name="message_listing"),
            models.Index(fields=["turn"], condition=Q(turn__isnull=False), name="message_of_lone_turn"),
        ]
        constraints = [
            models.CheckConstraint(condition=Q(role__in=["user", "assistant"]), name="message_role"),
            # Whatever is deleted takes its messages along: with the conversation, or with the turn.
            models.CheckConstraint(
                condition=Q(conversation__isnull=False, turn=None) | Q(conversation=None, turn__isnull=False),
                name="message_belongs_once",
            ),
        ]

    def __str__(self) -> str:
        return self.text[:80]


class AttachmentManager(models.Manager.from_queryset(TenantQuerySet["Attachment"])):  # type: ignore[misc]
    """Only a prompt takes the texts, which may be long (bringing.py): lists go without."""

    def get_queryset(self) -> TenantQuerySet[Attachment]:
        rows: TenantQuerySet[Attachment] = super().get_queryset()
        return rows.defer("text")


class Attachment(TenantOwned):
    """A file that came with a question, or is yet to come with one. Its text is kept, and its bytes are not: nothing
    but the text is ever read again, and it goes with the conversation."""

    conversation = models.ForeignKey(Conversation, on_delete=models.CASCADE, related_name="attachments")
    questions = models.ManyToManyField(Message, through="Attached", related_name="attachments")
    name = models.CharField(max_length=255)
    media_type = models.CharField(max_length=100)
    size = models.PositiveBigIntegerField(help_text="Bytes of the file.")
    text = models.TextField()
    kept = models.PositiveBigIntegerField(help_text="Bytes of the text.")
    tokens = models.PositiveIntegerField(help_text="Of the text, estimated.")
    shortened = models.BooleanField(help_text="The file says more than the text that is kept.")
    created = models.DateTimeField(default=timezone.now, editable=False)

    objects: ClassVar[Any] = AttachmentManager()

    class Meta:
        ordering = ("created", "id")
        indexes = [
            models.Index(fields=["tenant", "conversation", "created"], name="attachment_listing"),
            # Those that no question came for are looked for by their age.
            models.Index(fields=["tenant", "created"], name="attachment_by_age"),
        ]

    def __str__(self) -> str:
        return self.name


class Attached(TenantOwned):
    """That a question came with a file. A question that edits another one comes with the same."""

    question = models.ForeignKey(Message, on_delete=models.CASCADE, related_name="+")
    attachment = models.ForeignKey(Attachment, on_delete=models.CASCADE, related_name="uses")

    class Meta:
        verbose_name = verbose_name_plural = "attached"
        constraints = [models.UniqueConstraint(fields=["question", "attachment"], name="attached_once")]


class Turn(TenantOwned):
    """A question and its answer. A question asked again has several turns.

    Each follows the one before it on its branch: a conversation is a tree. One without a conversation was asked by a
    client that keeps the conversation itself.
    """

    class State(models.TextChoices):
        QUEUED = "queued", "Queued"
        RUNNING = "running", "Running"
        FINISHED = "finished", "Finished"
        STOPPED = "stopped", "Stopped"
        INTERRUPTED = "interrupted", "Interrupted"
        FAILED = "failed", "Failed"

    OPEN = (State.QUEUED, State.RUNNING)

    conversation = models.ForeignKey(Conversation, on_delete=models.CASCADE, null=True, related_name="turns")
    assistant = models.ForeignKey(Assistant, on_delete=models.CASCADE, related_name="turns")
    end_user = models.ForeignKey(EndUser, on_delete=models.CASCADE, related_name="turns")
    question = models.ForeignKey(Message, on_delete=models.CASCADE, related_name="turns")
    answer = models.OneToOneField(Message, on_delete=models.SET_NULL, null=True, related_name="answered_by")
    parent = models.ForeignKey("self", on_delete=models.CASCADE, null=True, related_name="+")
    # It has no parent because it begins a branch, and not because a release wrote it that knew no branches: then its
    # parent is the turn before it in time (branches.py).
    begins = models.BooleanField(default=False, db_default=False)
    continues = models.ForeignKey(
        "self",
        on_delete=models.CASCADE,
        null=True,
        related_name="+",
        db_index=False,
        help_text="The turn whose answer this one's begins with.",
    )
    api_key = models.ForeignKey(ApiKey, on_delete=models.SET_NULL, null=True, related_name="+")
    prompt_version = models.ForeignKey(PromptVersion, on_delete=models.RESTRICT, related_name="+")
    endpoint = models.ForeignKey(Endpoint, on_delete=models.SET_NULL, null=True, related_name="+")
    state = models.CharField(max_length=12, choices=State, default=State.RUNNING)
    # The process that runs it, and how often it was taken over: together they fence off a runner that lost it.
    replica = models.UUIDField()
    epoch = models.PositiveIntegerField(default=1)
    claimed_at = models.DateTimeField(null=True, help_text="When a replica took it over from another, last.")
    ends_with = models.JSONField(default=list, db_default=[], help_text="What, announced as ended, stops the answer.")
    stopping = models.BooleanField(default=False, db_default=False, help_text="Somebody asked it to stop.")
    partial = models.TextField(blank=True, default="", db_default="", help_text="What was said at the last checkpoint.")
    client_id = models.CharField(max_length=100, blank=True, help_text="The client's own name for the question.")
    request_id = models.CharField(max_length=64, blank=True)
    finish_reason = models.CharField(max_length=20, blank=True)
    error_code = models.CharField(max_length=50, blank=True)
    error_message = models.CharField(max_length=500, blank=True)
    sources = models.JSONField(default=list, help_text="The passages that the model received.")
    prompt_tokens = models.PositiveIntegerField(default=0)
    completion_tokens = models.PositiveIntegerField(default=0)
    usage_estimated = models.BooleanField(default=False)
    search_ms = models.FloatField(null=True)
    first_token_ms = models.FloatField(null=True)
    total_ms = models.FloatField(null=True)
    degraded = ArrayField(
        models.CharField(max_length=100), default=list, db_default=[], help_text="What its search had to do without."
    )
    last_seq = models.PositiveIntegerField(default=0, help_text="Of the terminal event, so that cursors stay valid.")
    story = models.JSONField(default=dict, db_default={}, help_text="As chatbot.inference.story.Story has it.")
    created = models.DateTimeField(default=timezone.now, editable=False)
    closed_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ("created",)
        indexes = [
            models.Index(fields=["tenant", "conversation", "created"], name="turn_listing"),
            models.Index(fields=["created"], condition=Q(state__in=["queued", "running"]), name="turn_open"),
            # The admin's lists, newest first: a tenant's, and the operators' of all.
            models.Index(fields=["tenant", "-created", "-id"], name="turn_of_tenant"),
            models.Index(fields=["-created", "-id"], name="turn_newest"),
            # Looked through whenever a turn is deleted.
            models.Index(fields=["continues"], condition=Q(continues__isnull=False), name="turn_continued"),
        ]
        constraints = [
            # TurnInProgress, decided by the database.
            models.UniqueConstraint(
                fields=["conversation"],
                condition=Q(state__in=["queued", "running"]),
                name="turn_one_open_per_conversation",
            ),
            models.CheckConstraint(
                condition=Q(state__in=["queued", "running", "finished", "stopped", "interrupted", "failed"]),
                name="turn_state",
            ),
            models.CheckConstraint(
                condition=Q(state__in=["queued", "running"], closed_at=None)
                | Q(~Q(state__in=["queued", "running"]), closed_at__isnull=False),
                name="turn_closed_whole",
            ),
        ]

    def __str__(self) -> str:
        return self.question.text[:80]


class Share(TenantOwned):
    """A link that shows a conversation to whoever has it, as far as it had come by then. Deleting the row ends it.

    The link's secret is not kept, only its digest.
    """

    conversation = models.ForeignKey(Conversation, on_delete=models.CASCADE, related_name="shares")
    turn = models.ForeignKey(Turn, on_delete=models.CASCADE, related_name="+", help_text="The last one of the branch.")
    digest = models.BinaryField(max_length=32, unique=True)
    created = models.DateTimeField(default=timezone.now, editable=False)
    expires_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        indexes = [models.Index(fields=["tenant", "conversation"], name="share_of_conversation")]


class Merging(TenantOwned):
    """An anonymous visitor who turned out to be somebody: their conversations are that one's now, once and for all."""

    visitor = models.OneToOneField(EndUser, on_delete=models.CASCADE, related_name="+")
    into = models.ForeignKey(EndUser, on_delete=models.CASCADE, related_name="+")
    created = models.DateTimeField(default=timezone.now, editable=False)


class Replica(models.Model):
    """A process that runs turns. It lives as long as it renews its beat and, where it holds one, its advisory lock;
    without a row it is dead, and its open turns are whoever's claims them."""

    id = models.UUIDField(primary_key=True, editable=False)
    name = models.CharField(max_length=200, help_text="Host and process.")
    lock = models.BigIntegerField(null=True, help_text="Key of the advisory lock that it holds.")
    started = models.DateTimeField(db_default=Now())
    beat = models.DateTimeField(db_default=Now())
    draining = models.BooleanField(default=False, db_default=False)

    class Meta:
        ordering = ("started",)

    def __str__(self) -> str:
        return self.name


class Feedback(TenantOwned):
    """What an end user thinks of an answer."""

    class Rating(models.TextChoices):
        UP = "up", "Helpful"
        DOWN = "down", "Not helpful"

    class Reason(models.TextChoices):
        CORRECT = "correct", "correct"
        HELPFUL = "helpful", "helpful"
        CLEAR = "clear", "easy to understand"
        WRONG = "wrong", "not correct"
        UNHELPFUL = "unhelpful", "did not help"
        SOURCES = "sources", "wrong sources"
        UNCLEAR = "unclear", "hard to understand"

    message = models.ForeignKey(Message, on_delete=models.CASCADE, related_name="feedback")
    end_user = models.ForeignKey(EndUser, on_delete=models.CASCADE, related_name="+")
    rating = models.CharField(max_length=4, choices=Rating)
    reasons = ArrayField(
        models.CharField(max_length=20, choices=Reason), default=list, db_default=[], blank=True, size=len(Reason)
    )
    comment = models.CharField(max_length=2000, blank=True)
    created = models.DateTimeField(default=timezone.now, editable=False)
    changed = models.DateTimeField(default=timezone.now)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["message", "end_user"], name="feedback_once"),
            models.CheckConstraint(condition=Q(rating__in=["up", "down"]), name="feedback_rating"),
        ]

    def __str__(self) -> str:
        return self.get_rating_display()

    @property
    def why(self) -> str:
        """The reasons in words."""
        return ", ".join(self.Reason(reason).label for reason in self.reasons)

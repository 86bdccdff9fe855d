"""Ask an assistant from the terminal and watch the answer stream."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import sys
from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from rest_framework.exceptions import ValidationError

from apps.access.authentication import Caller
from apps.conversations import asking, following, runner
from apps.edge.errors import translate
from apps.tenants import lookups, rights
from apps.tenants.scoping import platform_unit, unit
from chatbot.errors import ParleyError
from chatbot.events import START, Event, Failed, Sources, Token, TurnFinished


class Command(BaseCommand):
    help = "Chat with an assistant. With a question it answers that one and ends; without, it asks for questions."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("question", nargs="?", help="left out: read questions until end of input")
        parser.add_argument("--tenant", required=True, help="slug of the tenant")
        parser.add_argument("--assistant", required=True, help="slug of the assistant")
        parser.add_argument("--user", default="terminal", help="name of the end user who asks")

    def handle(self, **options: Any) -> None:
        logging.getLogger().setLevel(logging.ERROR)  # the terminal is for the conversation
        try:
            asyncio.run(self._chat(options))
        except KeyboardInterrupt:
            self.stdout.write("")

    async def _chat(self, options: dict[str, Any]) -> None:
        tenant = await platform_unit(lookups.find_tenant, options["tenant"])
        if tenant is None:
            raise CommandError(f"There is no tenant {options['tenant']!r}.")
        caller = Caller(tenant=tenant, scopes=rights.ALL)
        try:
            conversation = await unit(asking.begin, caller, options["assistant"], user=options["user"])
        except ParleyError as error:
            raise CommandError(" ".join((error.fields or {"": error.message}).values())) from error
        if options["question"]:
            if not await self._ask(caller, conversation.pk, options["question"]):
                raise CommandError("No answer.")
            return
        while (line := await asyncio.to_thread(self._read)) is not None:
            if line.strip():
                await self._ask(caller, conversation.pk, line)

    def _read(self) -> str | None:
        if sys.stdin.isatty():
            self.stdout.write(self.style.MIGRATE_HEADING("you › "), ending="")
            self.stdout.flush()
        return sys.stdin.readline() or None

    async def _ask(self, caller: Caller, conversation_id: Any, text: str) -> bool:
        """Print the answer as it comes; Ctrl-C stops it and keeps what was said."""
        try:
            turn_id = await asking.ask(caller, conversation_id, asking.question_in({"text": text}))
        except (ParleyError, ValidationError) as raised:
            error = translate(raised)
            self.stderr.write(" ".join((error.fields or {"": error.message}).values()))
            return False
        end: Event | None = None
        try:
            async for batch in following.follow(caller.tenant, turn_id, START):
                for _, end in batch:
                    self._show(end)
        except asyncio.CancelledError:
            runner.stop(turn_id)
            with contextlib.suppress(asyncio.CancelledError):
                await runner.drain(5.0)
            raise
        return isinstance(end, TurnFinished)

    def _show(self, event: Event) -> None:
        match event:
            case Sources(sources=sources):
                for source in sources:
                    place = " › ".join([source.title, *source.heading])
                    page = f", page {source.page}" if source.page else ""
                    self.stdout.write(self.style.HTTP_INFO(f"[{source.n}] {place}{page}"))
            case Token(text=text):
                self.stdout.write(text, ending="")
                self.stdout.flush()
            case TurnFinished():
                self._finish(event)
            case Failed(message=message):
                self.stderr.write(f"\n{message}")

    def _finish(self, event: TurnFinished) -> None:
        if event.finish_reason == "sources_only":
            self.stdout.write("No model server can be reached; the passages above are what the documents say.")
        cited = ", ".join(f"[{source.n}]" for source in event.citations) or "nothing cited"
        first = event.timings.first_token_ms or 0
        tokens = event.usage.total_tokens
        self.stdout.write(
            self.style.HTTP_INFO(f"\n\n{tokens} tokens · first after {first:.0f} ms · {cited} · {event.finish_reason}")
        )

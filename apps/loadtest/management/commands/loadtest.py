"""`manage.py loadtest`: simulated users ask a running Parley, and what became of their questions is told."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from argparse import ArgumentParser
from math import ceil
from pathlib import Path
from typing import Any

import orjson
import uvloop
from django.core.management.base import BaseCommand, CommandError

from apps.loadtest import greeting, plan, report
from apps.loadtest.doors import Target
from apps.loadtest.greeting import BadTarget
from apps.loadtest.plan import BadPlan, Plan
from apps.loadtest.running import Crowd
from apps.loadtest.tally import figures

QUESTIONS = (
    "What is this about?",
    "How do I begin?",
    "What does it need to run, and how much of it?",
    "What should I do when something fails?",
    "Who may see what I write here?",
    "Where is that described in more detail?",
)


class Command(BaseCommand):
    help = (
        "Ask a running Parley as many users would, by its public API alone, and tell how it answered. Exits with 1"
        " where an answer broke, or is stored otherwise than it was told."
    )
    requires_system_checks = ()

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("target", help="address of a Parley, such as https://chat.example.com")
        parser.add_argument(
            "--key", default=os.environ.get("PARLEY_KEY", ""), help="API key, or PARLEY_KEY in the environment"
        )
        parser.add_argument("--assistant", required=True, help="slug of the assistant")
        parser.add_argument("--mix", default="rest=1,sse=6,ws=3", help="users by door, as rest=1,sse=6,ws=3")
        loop = parser.add_mutually_exclusive_group(required=True)
        closed = "closed loop: get to so many users within that time, 10:30s 10:2m"
        loop.add_argument("--ramp", nargs="+", metavar="USERS:TIME", help=closed)
        opened = "open loop: get to so many new conversations a second, 5:30s 5:2m"
        loop.add_argument("--rate", nargs="+", metavar="RATE:TIME", help=opened)
        parser.add_argument("--think", default="5s", help="between an answer and the next question, about")
        parser.add_argument("--turns", type=int, default=3, help="questions of a conversation")
        parser.add_argument("--leaves", default="5%", help="share of streams that are left, and come back to at once")
        parser.add_argument("--stops", default="2%", help="share of streams that are stopped")
        parser.add_argument("--verify", default="10%", help="share of answers that are compared with what is stored")
        parser.add_argument("--patience", default="60s", help="without an event, or without the whole answer by REST")
        parser.add_argument("--questions", type=Path, help="a file with a question a line, instead of some plain ones")
        parser.add_argument("--html", type=Path, help="write a report with charts, as one file")
        parser.add_argument("--json", type=Path, help="write the figures")

    def handle(self, **options: Any) -> None:
        try:
            planned, most = self._planned(options)
            told = uvloop.run(self._run(planned, most, _questions(options["questions"]), options))
        except (BadPlan, BadTarget) as error:
            raise CommandError(str(error)) from error
        self.stdout.write(report.table(told))
        if options["json"]:
            _write(options["json"], orjson.dumps(told, option=orjson.OPT_INDENT_2))
        if options["html"]:
            _write(options["html"], report.html(told).encode())
        if told["all"]["broken"] or told["all"]["differing"]:
            sys.exit(1)

    def _planned(self, options: dict[str, Any]) -> tuple[Plan, int]:
        """The plan, and how many users there may be at the same time."""
        opens = bool(options["rate"])
        planned = Plan(
            mix=plan.mix(options["mix"]),
            stages=plan.stages(options["rate"] or options["ramp"]),
            opens=opens,
            think=plan.duration(options["think"]),
            turns=options["turns"],
            leaves=plan.share(options["leaves"]),
            stops=plan.share(options["stops"]),
            verifies=plan.share(options["verify"]),
            patience=plan.duration(options["patience"]),
        )
        if planned.turns < 1 or not planned.patience:
            raise BadPlan("A conversation has at least one question, and patience is more than none.")
        return planned, greeting.open_files(0 if opens else ceil(planned.peak))

    async def _run(self, planned: Plan, most: int, questions: list[str], options: dict[str, Any]) -> dict[str, Any]:
        key = options["key"]
        if not key.isascii() or not key.isprintable() or not key.strip():
            raise BadTarget("There is no key: give --key, or set PARLEY_KEY.")
        url = greeting.address(options["target"])
        async with Target.reached(url, key, options["assistant"]) as target:
            await greeting.greet(target)
            interrupted = asyncio.Event()
            asyncio.get_running_loop().add_signal_handler(signal.SIGINT, interrupted.set)
            crowd = Crowd(planned, target, questions, most, self.stdout.write, interrupted)
            begun = time.process_time()
            started = time.time()
            seconds = await crowd.run()
            cpu = time.process_time() - begun
        return {
            "target": url,
            "assistant": options["assistant"],
            "started": started,
            "interrupted": interrupted.is_set(),
            **report.described(planned),
            **figures(crowd.tally, seconds),
            "generator_cpu": cpu / (time.time() - started),
        }


def _questions(path: Path | None) -> list[str]:
    if path is None:
        return list(QUESTIONS)
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise BadPlan(f"{path} cannot be read ({error}).") from error
    if not (found := [line.strip() for line in lines if line.strip()]):
        raise BadPlan(f"{path} holds no question.")
    return found


def _write(path: Path, data: bytes) -> None:
    try:
        path.write_bytes(data)
    except OSError as error:
        raise CommandError(f"{path} cannot be written ({error.strerror}).") from error

"""Reads /metrics as Prometheus does."""

from __future__ import annotations

import re
from collections.abc import Iterator

from django.test import AsyncClient

Sample = tuple[str, frozenset[tuple[str, str]]]


async def scraped() -> dict[Sample, float]:
    return dict(_samples((await AsyncClient().get("/metrics")).content.decode()))


def _samples(text: str) -> Iterator[tuple[Sample, float]]:
    for name, labels, value in re.findall(r"^(\w+)(?:\{(.*)\})? (\S+)$", text, re.MULTILINE):
        yield (name, frozenset(re.findall(r'(\w+)="([^"]*)"', labels))), float(value)


def sample(name: str, **labels: str) -> Sample:
    return name, frozenset(labels.items())


async def grown(before: dict[Sample, float], name: str, **labels: str) -> float:
    one = sample(name, **labels)
    return (await scraped()).get(one, 0.0) - before.get(one, 0.0)

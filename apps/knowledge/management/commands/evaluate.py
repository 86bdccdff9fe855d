"""Measures searches by questions whose answers are known."""

from __future__ import annotations

from argparse import ArgumentParser
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

from asgiref.sync import async_to_sync
from django.core.management.base import BaseCommand, CommandError

from apps.knowledge import evaluation
from apps.knowledge.collections import find_collection
from apps.knowledge.evaluation import WHOLE, Measured
from apps.knowledge.judged import JudgedSet, JudgedSetError, read_set
from apps.knowledge.judging import judged_set
from apps.knowledge.management.terminal import sentence, tenant_named
from apps.knowledge.models import Collection
from apps.knowledge.ranking import RECIPE, Recipe
from apps.tenants.models import Tenant
from apps.tenants.scoping import tenant_scope
from chatbot.errors import NotFound, ParleyError

PARTS = ", ".join(field.name for field in fields(Recipe))


class Command(BaseCommand):
    help = "Measure how well searches answer a set of judged questions: nDCG@10, recall@k and MRR, by stage and in all."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("set", type=Path, nargs="?", help="directory of a set in BEIR's or TREC's form")
        parser.add_argument(
            "--marked", action="store_true", help="instead of a set, what was marked on the collection's search page"
        )
        parser.add_argument("--tenant", required=True, help="slug of the tenant")
        parser.add_argument(
            "--collection", help="slug of the collection that is searched; without it the set's own corpus, for a while"
        )
        parser.add_argument("--k", type=int, default=10, help="passages that recall looks at (default: %(default)s)")
        parser.add_argument(
            "--compare",
            nargs=2,
            metavar=("A", "B"),
            type=_recipe,
            help=f'two ways to search, each like "vector=1,text=0.5"; to choose from: {PARTS}',
        )

    def handle(self, **options: Any) -> None:
        tenant = tenant_named(options["tenant"])
        if options["k"] < 1:
            raise CommandError("--k should be at least 1.")
        if options["marked"] == bool(options["set"]):
            raise CommandError("Name a set, or say --marked.")
        try:
            self._evaluate(tenant, options)
        except JudgedSetError as error:
            raise CommandError(str(error)) from error
        except evaluation.MissingToolError as error:
            raise CommandError(
                "This needs a package that Parley itself does without: pip install ir-measures"
            ) from error
        except NotFound as error:
            raise CommandError(f"There is no collection {options['collection']!r}.") from error
        except ParleyError as error:
            raise CommandError(sentence(error)) from error

    def _evaluate(self, tenant: Tenant, options: dict[str, Any]) -> None:
        judged = None if options["marked"] else read_set(options["set"])
        if options["collection"]:
            with tenant_scope(tenant):
                collection = find_collection(tenant, options["collection"])
                judged = judged or judged_set(tenant, collection)
            self._measure(tenant, collection, judged, {}, options)
        elif judged and judged.corpus:
            with evaluation.loaded(tenant, judged) as (collection, ids):
                self._measure(tenant, collection, judged, ids, options)
        else:
            raise CommandError("There is no corpus: say with --collection what is searched.")

    def _measure(
        self, tenant: Tenant, collection: Collection, judged: JudgedSet, ids: dict[str, str], options: dict[str, Any]
    ) -> None:
        if not judged.qrels:
            raise CommandError("Of no question is an answer known yet.")
        k = options["k"]
        results = []
        for recipe in options["compare"] or [RECIPE]:
            ranked = async_to_sync(evaluation.ranked)(tenant, collection, judged, recipe, depth=max(k, 10), ids=ids)
            results.append(evaluation.measured(judged, ranked.stages, k=k))
        self.stdout.write(f"{len(judged.qrels)} judged queries")
        for name, result in zip("AB", results, strict=False):
            self._table(result, k, name if len(results) > 1 else "stage")
        if len(results) > 1:
            self._difference(*(result[WHOLE] for result in results))
        if line := evaluation.line(judged, ranked.relevance):
            self.stdout.write(
                f"A least relevance of {line.least:.3f} keeps {evaluation.KEPT:.0%} of these queries and refuses "
                f"{line.refused} of {line.unanswerable} that have no answer."
            )

    def _table(self, result: Mapping[str, Measured], k: int, name: str) -> None:
        self.stdout.write(f"{name:<10}{'nDCG@10':>9}{f'recall@{k}':>11}{'MRR':>8}")
        for stage, found in result.items():
            self.stdout.write(f"{stage:<10}{found.ndcg:>9.3f}{found.recall:>11.3f}{found.mrr:>8.3f}")

    def _difference(self, a: Measured, b: Measured) -> None:
        changes = [b.by_query.get(query, 0.0) - value for query, value in a.by_query.items()]
        better, worse = sum(change > 0 for change in changes), sum(change < 0 for change in changes)
        self.stdout.write(f"B - A: {b.ndcg - a.ndcg:+.3f} nDCG@10; {better} queries better, {worse} worse")


def _recipe(text: str) -> Recipe:
    """Raises ValueError, which argparse turns into its own words."""
    parts = dict(part.split("=", 1) for part in text.split(",") if part)
    return Recipe(**{name: float(value) for name, value in parts.items()})

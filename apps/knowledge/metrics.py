"""What ingestion and search count."""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client import Counter, Histogram, Metric
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from apps.tenants import lookups

INGESTED = Counter(
    "parley_documents_ingested_total",
    "Ingestions that ended, by outcome: ready, retrying, superseded, or the code of a failure.",
    ["outcome"],
)
STAGE_SECONDS = Histogram(
    "parley_ingest_stage_seconds",
    "Seconds that a document spent in a stage.",
    ["stage"],
    buckets=(0.05, 0.1, 0.5, 1, 5, 10, 30, 60, 300, 1800),
)
EMBEDDED = Counter("parley_passages_embedded_total", "Passages whose vector an embedding endpoint made.")
REUSED = Counter("parley_passages_reused_total", "Passages whose vector was taken from the document's last version.")
SEARCH_SECONDS = Histogram(
    "parley_search_seconds",
    "Seconds of a search, by part: the question's vector, the database, or reranking.",
    ["part"],
    buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 15),
)
SEARCH_DEGRADED = Counter("parley_search_degraded_total", "Searches without the question's vector, or not reranked.")


RECALL = "parley_retrieval_recall_at_10"


class Recall(Collector):
    """What was last measured of all HNSW indexes together, as the database knows it: a worker of any host measures."""

    def __init__(self) -> None:
        [(lowest, mean)] = lookups.call("recall_of_layouts")
        self.values = {"lowest": lowest, "mean": mean}

    def collect(self) -> Iterator[Metric]:
        gauge = GaugeMetricFamily(
            RECALL,
            "Of the nearest ten passages, the share that searches by HNSW indexes find: the lowest, and the mean.",
            labels=["of"],
        )
        for of, value in self.values.items():
            if value is not None:
                gauge.add_metric([of], value)
        yield gauge

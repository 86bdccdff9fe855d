"""The running product, for tests that ask it everything its OpenAPI schema describes."""

from tests.journeys.conftest import model, world

__all__ = ["model", "world"]

"""How the admin looks and what its sidebar holds."""

from __future__ import annotations

from typing import Any

UNFOLD: dict[str, Any] = {"SITE_TITLE": "Parley", "SITE_HEADER": "Parley"}

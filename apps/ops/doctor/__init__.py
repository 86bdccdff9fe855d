"""Looks at everything that Parley stands on, and says what to do about what is wrong.

Each check stands with what it looks at, in the app's doctor.py or here, and yields what it finds. What cannot be looked
at because something beneath it does not answer is left out: the check of that one tells of it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from apps.edge.doctor import beat, cache_server, shared_state, worker
from apps.edge.findings import Finding
from apps.inference.doctor import endpoints
from apps.knowledge.doctor import layouts, readers, scratch, storage
from apps.ops.doctor.clocks import clocks
from apps.ops.doctor.data import demo, encryption, postgres
from apps.ops.doctor.process import contradictions, mail, packages, parley, python, static_files, widget
from apps.usage.doctor import limits

CHECKS: tuple[Callable[[], Iterator[Finding]], ...] = (
    parley,
    python,
    packages,
    contradictions,
    storage,
    scratch,
    readers,
    static_files,
    widget,
    postgres,
    demo,
    encryption,
    limits,
    shared_state,
    cache_server,
    clocks,
    worker,
    beat,
    layouts,
    mail,
    endpoints,
)

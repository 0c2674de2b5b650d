"""Manifests as text, and what the planner makes of their rows."""

from __future__ import annotations

import csv
import io

import pytest

from jobs.errors import BadInput
from jobs.manifest.reader import ReadOptions, open_manifest
from jobs.planning.planner import PlanOptions, prepare
from providers.catalog.models import Catalog
from providers.registry import PROVIDERS

EVERYONE = frozenset(PROVIDERS)


def table(*rows):
    text = io.StringIO()
    writer = csv.DictWriter(text, dict.fromkeys(name for row in rows for name in row), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def manifest_of(tmp_path, content, name="m.csv"):
    path = tmp_path / name
    path.write_text(content)
    return open_manifest(path, name=name, options=ReadOptions())


def plan(tmp_path, content, name="m.csv", **options):
    manifest = manifest_of(tmp_path, content, name)
    planner = prepare(manifest, PlanOptions(**{"batch": "b", "configured": EVERYONE, **options}), Catalog.load())
    return [planner.plan(raw) for raw in manifest.rows()]


def refused(tmp_path, content, name="m.csv", **options):
    with pytest.raises(BadInput) as caught:
        plan(tmp_path, content, name, **options)
    return str(caught.value)

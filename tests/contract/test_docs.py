"""The documentation names what there is."""

import re
from dataclasses import fields
from pathlib import Path

import pytest
from click import Context

from service.cli import cli
from service.config import CLIENT_SETTINGS, SETTINGS, Limits, Setting
from service.telemetry import Metrics

ROOT = Path(__file__).parents[2]
OPERATING = (ROOT / "docs" / "operating.md").read_text()
LIMITS = (ROOT / "docs" / "limits.md").read_text()


@pytest.mark.parametrize("setting", [*SETTINGS, *CLIENT_SETTINGS], ids=lambda one: str(one.name))
def test_settings(setting: Setting) -> None:
    """Every setting stands in the operating guide."""
    assert f"`{setting.variable}`" in OPERATING


def test_limits() -> None:
    """Limits stand in their guide with the value they have, all that callers can run into."""
    rows = re.findall(r"^\| `(\w+)` \| (\d+) \|", LIMITS, re.MULTILINE)
    told = {field.name for field in fields(Limits) if field.name.endswith("_of_token_max")}

    assert [(name, value) for name, value in rows if float(value) != getattr(Limits(), name)] == []
    assert len(rows) > 25
    assert told <= {name for name, _ in rows}


def test_metrics() -> None:
    """Every metric stands in the operating guide under the name Prometheus shows."""
    names = [
        metric.name + ("_total" if metric.type == "counter" else "")
        for metric in Metrics().registry.collect()
    ]

    assert [name for name in names if f"`{name}`" not in OPERATING] == []


def test_commands() -> None:
    """Every command stands in the changelog's or the README's list."""
    told = (ROOT / "CHANGELOG.md").read_text() + (ROOT / "README.md").read_text()

    assert [name for name in cli.list_commands(Context(cli)) if name not in told] == []

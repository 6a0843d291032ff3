"""The dashboard and the alert rules ask for metrics that there are, by labels that they have."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import promql_parser
import pytest
import yaml
from prometheus_client import CollectorRegistry

from service.telemetry import Metrics, ParentMetrics

ROOT = Path(__file__).parents[2]
DASHBOARD = json.loads((ROOT / "deploy" / "grafana" / "plugstatus.json").read_text())
RULES = yaml.safe_load((ROOT / "deploy" / "prometheus" / "plugstatus.rules.yml").read_text())
OPERATING = (ROOT / "docs" / "operating.md").read_text()

SCRAPED = {"instance", "job", "le"}
"""Labels of every sample, by scraping, and of buckets."""

ALERTS = [rule for group in RULES["groups"] for rule in group["rules"]]
PANELS = [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]
QUERIES = [
    *(pytest.param(rule["expr"], id=rule["alert"]) for rule in ALERTS),
    *(
        pytest.param(target["expr"], id=f"{panel['title']} {target['refId']}")
        for panel in PANELS
        for target in panel["targets"]
    ),
]


def _known() -> dict[str, set[str]]:
    """The labels of each sample there can be, by its name; `up` is Prometheus's own."""
    metrics = Metrics()
    for kind in ("unary", "server_stream"):
        metrics.calls.of(kind, "service", "method").handled["OK"] += 1
    registries: list[CollectorRegistry] = [metrics.registry, ParentMetrics().registry]
    found = {"up": set[str]()}
    for registry in registries:
        for collector in registry._collector_to_names:
            samples = [one for metric in collector.collect() for one in metric.samples]
            labels = {label for one in samples for label in one.labels}
            labels |= set(getattr(collector, "_labelnames", ()))
            found |= dict.fromkeys(registry._collector_to_names[collector], labels)
    return found


KNOWN = _known()


def _selectors(node: Any) -> Iterator[Any]:
    """Every vector selector of a parsed query."""
    if isinstance(node, promql_parser.VectorSelector):
        yield node
    for name in ("lhs", "rhs", "expr", "vector_selector"):
        if (part := getattr(node, name, None)) is not None:
            yield from _selectors(part)
    for part in getattr(node, "args", None) or ():
        yield from _selectors(part)


def _grouped(node: Any) -> Iterator[str]:
    """Every label that a parsed query groups by."""
    modifier = getattr(node, "modifier", None)
    if isinstance(node, promql_parser.AggregateExpr) and modifier is not None:
        yield from modifier.labels
    for name in ("lhs", "rhs", "expr"):
        if (part := getattr(node, name, None)) is not None:
            yield from _grouped(part)
    for part in getattr(node, "args", None) or ():
        yield from _grouped(part)


@pytest.mark.parametrize("query", QUERIES)
def test_a_query_asks_for_what_there_is(query: str) -> None:
    """Prometheus can parse it, and no alert waits for a sample that never comes."""
    parsed = promql_parser.parse(query)
    selectors = list(_selectors(parsed))
    labels = SCRAPED.union(*(KNOWN.get(one.name, set()) for one in selectors))

    assert selectors
    assert [one.name for one in selectors if one.name not in KNOWN] == []
    for one in selectors:
        matched = {matcher.name for matcher in one.matchers.matchers}
        assert matched <= KNOWN[one.name] | SCRAPED
    assert set(_grouped(parsed)) <= labels


def test_every_metric_is_on_the_dashboard() -> None:
    """Whatever is counted can be looked at."""
    shown = {
        one.name
        for panel in PANELS
        for target in panel["targets"]
        for one in _selectors(promql_parser.parse(target["expr"]))
    }
    families = {
        metric.name
        for registry in (Metrics().registry, ParentMetrics().registry)
        for metric in registry.collect()
    }

    assert [name for name in families if not any(one.startswith(name) for one in shown)] == []


def test_alerts_say_what_to_do() -> None:
    """Each has a severity, a summary and an action, and stands in the operating guide."""
    names = [rule["alert"] for rule in ALERTS]

    assert len(set(names)) == len(names) > 15
    for rule in ALERTS:
        assert rule["labels"]["severity"] in {"page", "ticket"}
        assert set(rule["annotations"]) == {"summary", "action"}
        assert f"`{rule['alert']}`" in OPERATING


def test_the_dashboard_can_be_imported() -> None:
    """Panels have ids of their own, a place of their own, and ask the chosen data source."""
    ids = [panel["id"] for panel in DASHBOARD["panels"]]
    places = [(panel["gridPos"]["x"], panel["gridPos"]["y"]) for panel in DASHBOARD["panels"]]

    assert len(set(ids)) == len(ids)
    assert len(set(places)) == len(places)
    assert {panel["datasource"]["uid"] for panel in PANELS} == {"${datasource}"}
    assert [one["name"] for one in DASHBOARD["templating"]["list"]] == ["datasource"]

"""What docs, alerts and dashboard say is what is there."""

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client import CollectorRegistry

from agent_session.gateway.metrics import Metrics
from agent_session.telemetry import metrics
from scripts.prometheus_rule import prometheus_rule
from tests.observability.support import FOLDER, ROOT, alerts, names_in, needs, queries_of_the_dashboard

DOCS = (ROOT / "docs" / "observability.md").read_text()
PROCESS = {"process_cpu_seconds_total", "process_resident_memory_bytes", "process_start_time_seconds"}


def registered(registry: CollectorRegistry) -> dict[str, tuple[str, tuple[str, ...]]]:
    """Kind and labels of our metrics, by the name that people see."""
    found: dict[str, tuple[str, tuple[str, ...]]] = {}
    for collector in set(registry._collector_to_names):
        for family in getattr(collector, "describe", list)():
            if family.name.startswith("agent_session_"):
                name = family.name + ("_total" if family.type == "counter" else "")
                found[name] = family.type, tuple(collector._labelnames)  # type: ignore[attr-defined]
    return found


def ours() -> dict[str, tuple[str, tuple[str, ...]]]:
    return registered(metrics.REGISTRY) | registered(Metrics().registry)


def test_the_documented_metrics_are_those_that_are_registered() -> None:
    rows = re.findall(r"^\| `(agent_session_\w+)` \| (\w+) \| ([^|]*)\|", DOCS, re.M)
    documented = {name: (kind, tuple(re.findall(r"`(\w+)`", labels))) for name, kind, labels in rows}
    assert documented == ours()


def test_no_label_can_name_a_session_a_person_or_a_token() -> None:
    for name, (_, labels) in ours().items():
        assert not {"session", "key", "principal", "user", "sender", "token", "turn", "call"} & set(labels), name


def test_every_alert_has_a_runbook_that_exists() -> None:
    headings = {line[4:].lower() for line in DOCS.splitlines() if line.startswith("### ")}
    for alert in alerts():
        page, _, anchor = alert["annotations"]["runbook"].partition("#")
        assert (ROOT / page).is_file()
        assert anchor in headings, alert["alert"]
        assert alert["alert"] in DOCS
    runbooks = {alert["annotations"]["runbook"].partition("#")[2] for alert in alerts()}
    named = {one for one in headings if one.startswith("agentsession")}
    assert named == runbooks, "a runbook for an alert that is gone"


def test_dashboard_and_rules_ask_for_metrics_that_we_have_or_that_temporal_has() -> None:
    known = {*ours(), *PROCESS, "up"}
    recorded = {rule["record"] for group in _groups() for rule in group["rules"] if "record" in rule}
    asked = [*queries_of_the_dashboard(), *(rule["expr"] for group in _groups() for rule in group["rules"])]
    for query in asked:
        for name in names_in(query) - recorded:
            whole = re.sub(r"_(bucket|count|sum)$", "", name)
            assert name in known or whole in known or name.startswith("temporal_"), query


def test_the_operators_rules_are_those_of_the_file() -> None:
    text = (FOLDER / "operator" / "prometheusrule.yaml").read_text()
    assert text == prometheus_rule((FOLDER / "rules.yaml").read_text()), "make rules"
    assert yaml.safe_load(text)["spec"] == yaml.safe_load((FOLDER / "rules.yaml").read_text())


def test_the_dashboard_can_be_imported() -> None:
    dashboard = json.loads((FOLDER / "dashboard.json").read_text())
    panels = [one for one in dashboard["panels"] if one["type"] != "row"]
    assert len({one["id"] for one in dashboard["panels"]}) == len(dashboard["panels"])
    assert all(one["gridPos"]["x"] + one["gridPos"]["w"] <= 24 for one in panels)
    assert all(target["expr"] for one in panels for target in one["targets"])
    assert {one["datasource"]["uid"] for one in panels} == {"${datasource}"}


def test_promtool_accepts_the_rules() -> None:
    needs("promtool")
    done = subprocess.run(["promtool", "check", "rules", FOLDER / "rules.yaml"], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_each_alert_fires_when_it_should_and_not_before(tmp_path: Path) -> None:
    """Series are in `rules_test.yaml`; every alert is in it."""
    needs("promtool")
    cases = Path(__file__).with_name("rules_test.yaml")
    shutil.copy(cases, tmp_path / cases.name)
    shutil.copy(FOLDER / "rules.yaml", tmp_path / "rules.yaml")
    done = subprocess.run(["promtool", "test", "rules", tmp_path / cases.name], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    tested = [one for test in yaml.safe_load(cases.read_text())["tests"] for one in test.get("alert_rule_test", [])]
    fired = {one["alertname"] for one in tested if one.get("exp_alerts")}
    assert fired == {alert["alert"] for alert in alerts()}


def _groups() -> list[dict[str, Any]]:
    return yaml.safe_load((FOLDER / "rules.yaml").read_text())["groups"]


def test_names_that_people_choose_are_bounded_for_each_label(monkeypatch: pytest.MonkeyPatch) -> None:
    """Many models must not hide a channel."""
    monkeypatch.setattr(metrics, "_known", {})
    chosen = [metrics.bounded("model", f"one-{number}") for number in range(metrics.NAMES_KEPT + 5)]
    assert len(set(chosen)) == metrics.NAMES_KEPT + 1
    assert chosen[-1] == metrics.OTHER
    assert metrics.bounded("model", "one-0") == "one-0"
    assert metrics.bounded("channel", "slack") == "slack"


def test_every_query_of_the_dashboard_keeps_to_the_chosen_namespaces() -> None:
    """One that is not there, as in compose, is chosen with all."""
    dashboard = json.loads((FOLDER / "dashboard.json").read_text())
    (variable,) = [one for one in dashboard["templating"]["list"] if one["name"] == "namespace"]
    assert (variable["allValue"], variable["current"]["value"]) == (".*", ["$__all"])
    for query in queries_of_the_dashboard():
        assert query.count('namespace=~"$namespace"') == len(
            re.findall(r"\b(?:agent_session|temporal|process)_", query)
        )


def test_no_rule_adds_up_tenants() -> None:
    """Prometheus leaves a label away that no series has, so the rules hold without namespaces, too."""
    for rule in [rule for group in _groups() for rule in group["rules"]]:
        sums = re.findall(r"\b(?:sum|min|max)\b(?: by \(([^)]*)\))?", rule["expr"])
        assert all(labels.startswith("namespace") for labels in sums), rule

"""Write k8s/observability/operator/prometheusrule.yaml from rules.yaml, which promtool checks: the same groups, as the
Prometheus operator wants them."""

from pathlib import Path

FOLDER = Path(__file__).parents[1] / "k8s" / "observability"
HEAD = """\
# Made by `make rules` from ../rules.yaml.
apiVersion: monitoring.coreos.com/v1
kind: PrometheusRule
metadata:
  name: agent-session
  labels:
    app.kubernetes.io/part-of: agent-session
spec:
"""


def prometheus_rule(rules: str) -> str:
    """The resource's text."""
    lines = [line for line in rules.splitlines() if not line.startswith("#")]
    return HEAD + "".join(f"  {line}\n" if line else "\n" for line in lines)


if __name__ == "__main__":
    text = prometheus_rule((FOLDER / "rules.yaml").read_text())
    (FOLDER / "operator" / "prometheusrule.yaml").write_text(text)

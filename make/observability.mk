.PHONY: observability rules

observability: setup ## Traces, metrics, alerts and dashboard against a real run and a real Prometheus (about a minute)
	@$(BIN)/python -m pytest -q tests/observability --timeout 300

rules: setup ## Write the operator's PrometheusRule anew from k8s/observability/rules.yaml
	@$(BIN)/python scripts/prometheus_rule.py

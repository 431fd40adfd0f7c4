"""Export to an OpenTelemetry collector, by OTLP over HTTP: an optional extra, `remora[otlp]`."""

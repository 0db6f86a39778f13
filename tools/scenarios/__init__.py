"""Scenarios: what terminals and issuers do, and what the wire must show. The format is told in tests/scenarios/README.md."""

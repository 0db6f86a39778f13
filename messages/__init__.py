"""Payment messages: framings, ISO 8583 dialects, ISO 20022 schemas. Knows nothing of the switch."""

"""What operators see: logs, control socket, metrics, switchctl."""

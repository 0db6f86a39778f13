"""The deterministic engine: offer and apply. Imports no asyncio, socket, etcd, clock or randomness."""

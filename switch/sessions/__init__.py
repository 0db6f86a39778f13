"""Sockets: listeners, links, peek, consume, write. Carries out what the applied state says and decides nothing."""

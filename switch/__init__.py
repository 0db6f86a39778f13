"""The switch daemon: a replicated engine (core), its log in etcd (mirror), its sockets (sessions), its operators (ops)."""

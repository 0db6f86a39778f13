"""The replicated log in etcd: append, watch, snapshot, fence, sealing. Knows nothing of what is in an entry."""

"""Programs around the switch: etcd for tests, injector, simulators, demo, benchmarks."""

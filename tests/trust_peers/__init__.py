"""The probes of `tests.trust`, put to this library and to its peers: ``python -m tests.trust_peers.run``."""

"""A real cluster, a real Rucio and real permanent sites on one machine, for the demo and the end-to-end tests."""

"""gather -> plan -> apply -> status, for one buffer at a time."""

"""Pure decisions: facts in, plans and statuses out. No clock, no I/O, no randomness, no logs."""

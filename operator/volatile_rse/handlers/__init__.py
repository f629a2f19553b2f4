"""The only user of kopf: it watches, and hands every event on."""

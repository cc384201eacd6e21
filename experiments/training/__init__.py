"""One run, from its configuration to its record. Knows records, models and data; sweeps and commands enter."""

"""Claims and what the records say about them, in numbers. Knows records; reports, dashboards and commands enter."""

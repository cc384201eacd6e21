"""Documents and figures about runs and verdicts. Knows verdicts and records; dashboards and commands enter."""

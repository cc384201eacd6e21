"""Many runs: arms that tune and evaluate, workers, clusters. Knows training and records; only commands enter."""

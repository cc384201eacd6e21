"""What is seen as it goes: terminal, browser, wandb. Knows reports, verdicts and records; only commands enter."""

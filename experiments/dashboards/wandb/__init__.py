"""Runs and verdicts in Weights & Biases, a view of their files: offline unless asked, never read back, never needed."""

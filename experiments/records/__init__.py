"""What is on disk, for everybody: identity, run folders, locks, tables, the choice of a rate. Knows no other room."""

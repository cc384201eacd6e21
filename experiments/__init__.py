"""The suite's own code. The files here are commands: arguments, call, print. The rest lives in rooms.

records     what is on disk, for everybody
training    one run: from a configuration to its record
sweeps      many runs: arms, workers, clusters
verdicts    what the records say about the claims
reports     what is written about it
dashboards  what is seen as it goes

training and sweeps know torch and Hydra, verdicts, reports and dashboards do not: they meet in records alone. Only
commands, scripts and Hydra's plugins join the two, and nobody imports those.
"""

"""The suite's own code. The files here are commands, `layernorm <name>`: arguments, call, print. The rest lives in
rooms.

records     what is on disk, for everybody
training    one run: from a configuration to its record
sweeps      many runs: arms, workers, clusters
verdicts    what the records say about the claims
reports     what is written about it
dashboards  what is seen as it goes

training and sweeps know torch and Hydra, verdicts, reports and dashboards do not: they meet in records alone. Only
commands, scripts and Hydra's plugins join the two, and nobody imports those.
"""

import signal
import sys

if sys.argv[:1] == ["-m"]:  # one of the commands is about to be imported
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)  # until the command listens, Ctrl-C ends it without a word
    if sys.version_info < (3, 11):  # noqa: UP036 (that is the question)
        sys.exit(f"error: Python {sys.version.split()[0]} is too old; make setup PYTHON=<3.11 or newer>")
    from experiments.records.one_line import name_what_is_not_installed

    name_what_is_not_installed()

"""`python -m models.kernels`: compile the kernels for this machine."""

from .library import main

main()

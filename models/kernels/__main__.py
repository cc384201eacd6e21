"""`python -m models.kernels`: compile the kernels for this machine."""

from models.kernels.library import main

main()

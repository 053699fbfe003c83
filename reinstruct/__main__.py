"""`python -m reinstruct` is the command `reinstruct`."""

from reinstruct.cli import main

main()

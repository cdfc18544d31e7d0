"""`python -m globuswrap`."""

from globuswrap.cli.main import main

main()

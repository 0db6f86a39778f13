"""`python -m switch` is switchd."""

from switch.daemon import main

main()

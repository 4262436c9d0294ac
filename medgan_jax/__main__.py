"""`python -m medgan_jax`: the command line."""

import sys

from medgan_jax.cli import main

if __name__ == "__main__":
    sys.exit(main())

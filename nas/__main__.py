"""`python -m nas` is the command line."""

import sys

from nas.cli import main

sys.exit(main())

"""`python -m hanllama` is the `hanllama` command."""

import sys

from hanllama.cli import main

sys.exit(main())

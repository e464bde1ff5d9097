"""`python -m l3ac_tokenizer.cli` is `l3ac`."""

import sys

from .main import main

sys.exit(main())

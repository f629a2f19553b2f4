"""``python -m volatile_rse.cli`` is ``vrse``."""

import sys

from volatile_rse.cli.entry import main

sys.exit(main())

"""`python -m sandbox` is the command `sandbox`."""

from .cli import main

raise SystemExit(main())

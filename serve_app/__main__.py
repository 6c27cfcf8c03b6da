"""`python -m serve_app` is the `rerank` command."""

import sys

from serve_app.cli.main import main

sys.exit(main())

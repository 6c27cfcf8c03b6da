"""`python -m serve_app` is the `rerank` command."""

import sys

from serve_app.cli.main import main

if __name__ == "__main__":
    sys.exit(main())

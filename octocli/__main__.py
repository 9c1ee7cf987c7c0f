"""``python -m octocli`` is the same program as ``octodb``."""

from octocli.main import main

if __name__ == "__main__":
    main()

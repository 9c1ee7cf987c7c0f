"""One module for each command, its click command called ``command``. Options and the order of steps."""

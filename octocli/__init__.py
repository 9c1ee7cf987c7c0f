"""The command line of OctoDB. It knows the library only as ``import octodb``."""

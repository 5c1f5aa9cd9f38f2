"""The command line: each verb reads its settings, calls the library and prints the result."""

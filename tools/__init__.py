"""Commands for who changes this project: generated documents, and whether they are still true."""

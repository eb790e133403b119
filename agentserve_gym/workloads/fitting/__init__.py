"""How the generators' parameter files are made from public traces and published fits."""

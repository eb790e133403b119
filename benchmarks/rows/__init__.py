"""The rows of the page, by what they measure."""

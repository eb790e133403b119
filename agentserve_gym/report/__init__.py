"""What reports are made of: statistics, Markdown tables, the shell of a page, colours."""

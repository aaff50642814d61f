"""The pages. Each calls `dashboard.data` for its tables, `dashboard.figures` for its figures, and shows both."""

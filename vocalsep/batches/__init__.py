"""What one process does with the songs of a batch: jobs, the worker that does them, and the events that it reports."""

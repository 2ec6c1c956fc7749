"""The songs of one call: find them (inputs), plan their outputs, process them (work, processes), report (progress)."""

"""Scoring of models, of other separators' estimates and of ideal masks, with one ruler.

`songs` says what is scored on, `rows` what is scored, `scores` with what; `runs` does it, and can be stopped and
resumed; `summary` adds it up.
"""

"""Score models, other separators' estimates and ideal masks, all in the same way.

`songs` prepares what to score on, `estimators` lists what to score, and `scores` holds the scores. `runs` scores a
whole data set, and continues a run that was stopped; `summary` and `report` turn its results into figures and tables.
"""

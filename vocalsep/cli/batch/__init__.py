"""Process the songs of one call of ``vocalsep extract``.

`inputs` finds them, `plan` decides where their outputs go, `work` and `processes` process them, and `progress` reports.
"""

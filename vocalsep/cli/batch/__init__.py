"""Process the songs of one call of ``vocalsep extract`` or ``vocalsep cluster``.

`inputs` finds them, `plan` makes jobs of them, `processes` or `driver` hand these to the workers of `batches.work`, and
`progress` and `recording` report what became of them.
"""

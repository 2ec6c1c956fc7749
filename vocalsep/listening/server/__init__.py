"""The local web app: songs go in, and the player shows their parts.

`guard` decides which requests are answered, `store` keeps the songs on disk, `queue` hands them to whoever separates
them, `downloads` makes files of the results, `updates` tells browsers what changes, and `routes` answers requests.
"""

"""Make the excerpts that a net is trained on.

`sampler` draws stems from pools of tracks and mixes them. `augment` changes their sound, `studio` treats lone voices as
a studio would, `keys` moves a voice into the key of an accompaniment, and `silence` cuts pauses.
"""

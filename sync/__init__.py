"""The engine: what a patrol's phone sends becomes records that are kept once, placed, linked and provable.

The story of a batch, in ten sentences. An officer's phone has collected operations all day, and in the evening sends
them as one batch. `wire` reads the envelope or refuses it whole; of each operation it tells only who it is: its id
and its fingerprint. `intake` locks the installation's row, so that batches of one phone are taken one after the
other, and sets aside what it knows already: a repeat is answered as it was the first time. What is new is read to its
last field; an operation that is wrong becomes one with a problem, never an error. In a fixed number of queries
`settling` gathers what the batch touches: the records named, the people, the vendors, earlier operations that waited
for one of these. `verdicts` then judges one operation after the other, without a database, and asks the small
deciders: `clock` when it happened, `places` where and in which township, `enforcement` what the lists of that day
say, `revisions` what an amend does to a record that has moved on. So each operation is applied, held, in conflict or
quarantined, and what waited joins as soon as what it waited for is there. All rows are written table by table, and
`journal` ends the transaction: the feed, one link of the evidence chain, the counter last. Should anything unexpected
be raised, the same operations are taken one at a time, and the one that fails is kept raw for a person. The caller
commits, and only then does the phone hear the receipt and forget.

Nothing here knows Flask, the environment or the time of day; `README.md` beside this file is the law, `PROTOCOL.md` the
promise to authors of phone apps.
"""

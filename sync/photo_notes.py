"""Decides: what to remark where a photo says something else than the record that cites it."""

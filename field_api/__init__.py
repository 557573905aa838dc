"""THE DOOR: Flask in front of `sync/`, one file per URL noun, on a ground floor of five.

`settings` what the environment says · `database` sessions · `identity` who is asking · `answers` what all answers have
in common and what a problem looks like · `app` puts it together. The other files are nouns of the URL: each defines
`blueprint`, knows the ground floor and the engine, never another noun. No SQL here; only views and commands commit.
"""

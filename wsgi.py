"""Builds the app from the environment; nothing else. Raises SettingsInvalid without a FIELD_API_SECRET."""

import gc
import os

from field_api.app import create_app
from field_api.settings import Settings

app = create_app(Settings.from_environment(os.environ))
# What is loaded by now stays for good: left out of every later collection, which took a sixth of a batch's time. And a
# batch makes some 100,000 objects that live until its answer: looking through them every 700 finds nothing.
gc.freeze()
gc.set_threshold(50_000, 20, 100)

"""Preferences as data: any published layout in, pairs, judgements or rankings out."""

from hanllama.talks.preferences.form import Judged, Pair, Preference, Ranked
from hanllama.talks.preferences.reader import PreferenceReader

__all__ = ["Judged", "Pair", "Preference", "PreferenceReader", "Ranked"]

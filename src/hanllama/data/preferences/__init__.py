"""Preferences as data: any published layout in, pairs, judgements or rankings out."""

from hanllama.data.preferences.form import Judged, Pair, Preference, Ranked
from hanllama.data.preferences.reader import PreferenceReader

__all__ = ["Judged", "Pair", "Preference", "PreferenceReader", "Ranked"]

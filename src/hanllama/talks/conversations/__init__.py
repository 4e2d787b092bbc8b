"""Conversations as data: any published layout in, one form out; see `reader` and `form`."""

from hanllama.talks.conversations.form import Conversation, Message, Record, Unusable
from hanllama.talks.conversations.reader import ConversationReader, parse_fill

__all__ = ["Conversation", "ConversationReader", "Message", "Record", "Unusable", "parse_fill"]

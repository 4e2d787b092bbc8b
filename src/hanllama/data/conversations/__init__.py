"""Conversations as data: any published layout in, one form out; see `reader` and `form`."""

from hanllama.data.conversations.form import Conversation, Message, Record, Unusable
from hanllama.data.conversations.intake import parse_fill
from hanllama.data.conversations.reader import ConversationReader

__all__ = ["Conversation", "ConversationReader", "Message", "Record", "Unusable", "parse_fill"]

"""The protocol of withdrawal as a model that is walked exhaustively."""

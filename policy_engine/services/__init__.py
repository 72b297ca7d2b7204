"""The floor that does things: deciding, recording, changing, publishing, asking; knows store interfaces, not stores."""

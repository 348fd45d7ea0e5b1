"""Models that are asked: who they are, where they lie, and every answer kept."""

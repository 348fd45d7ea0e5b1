"""What every block of the `arte:` configuration has in common."""

from pydantic import BaseModel, ConfigDict


class Block(BaseModel):
    """A block in which a key that does not exist is an error, never ignored."""

    model_config = ConfigDict(extra="forbid")

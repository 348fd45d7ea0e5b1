"""The stages in their order, and rounds of them."""

"""One run of the loop: its folder, what is entered there, and what it goes on from."""

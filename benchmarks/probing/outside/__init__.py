"""Contenders with environments of their own.

`installed` finds them from here. The other modules run there, and take nothing of this project that takes a library.
"""

"""The same policy, fast: one engine, three modes, each checked against the plain network."""

from __future__ import annotations

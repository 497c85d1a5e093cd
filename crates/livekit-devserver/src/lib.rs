//! A LiveKit server in one process, for demos and tests. Never for production.

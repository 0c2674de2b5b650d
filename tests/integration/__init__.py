"""Parts together with real servers: databases, stores, Redis, HTTP."""

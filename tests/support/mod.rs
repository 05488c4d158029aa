//! Shared by the integration tests: a server process of their own.

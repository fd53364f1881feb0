//! wharf-e2e

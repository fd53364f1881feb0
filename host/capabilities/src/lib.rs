//! wharf-capabilities

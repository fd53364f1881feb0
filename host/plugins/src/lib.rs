//! wharf-plugins

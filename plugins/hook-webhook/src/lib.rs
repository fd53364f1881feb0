//! plugin-hook-webhook

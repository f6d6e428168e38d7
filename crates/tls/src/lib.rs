//! tidegate-tls

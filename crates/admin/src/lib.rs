//! tidegate-admin

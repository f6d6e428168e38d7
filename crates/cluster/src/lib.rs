//! tidegate-cluster

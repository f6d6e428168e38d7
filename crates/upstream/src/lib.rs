//! tidegate-upstream

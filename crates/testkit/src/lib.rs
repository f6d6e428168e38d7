//! What tests of several crates share. Test code only: nothing the binary links.

pub mod sim;

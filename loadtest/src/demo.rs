use crate::node::Binary;
pub(crate) struct Options { pub seconds: u64, pub rate: f64, pub binary: Binary }
pub(crate) fn run(_o: &Options) -> anyhow::Result<()> { Ok(()) }

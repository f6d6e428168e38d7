//! Compiles `proto/` with protox: no protoc on the machine, no generated code in the repository.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let root = "../../proto";
    println!("cargo:rerun-if-changed={root}");
    let ours = ["tidegate/cluster/v1/cluster.proto", "tidegate/usage/v1/usage.proto"];
    let schemas = protox::compile([ours.as_slice(), &["grpc/health/v1/health.proto"]].concat(), [root])?;
    tonic_prost_build::configure().build_server(true).build_client(true).compile_fds(schemas)?;
    Ok(())
}

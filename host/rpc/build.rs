//! Compiles the `.proto` files with a compiler written in Rust, so that nobody needs `protoc`.

use std::error::Error;

/// Every file with a service or a message of ours, relative to `proto/`.
const FILES: [&str; 4] = [
    "values.proto",
    "agent.proto",
    "data.proto",
    "operator.proto",
];

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed=proto");
    let files = protox::compile(FILES, ["proto"])?;
    // Payloads are kept as reference-counted bytes: a chunk is not copied on its way.
    tonic_prost_build::configure()
        // A generated `connect` for transports would clash with the method of that name.
        .build_transport(false)
        .bytes(".proffer.data.v0")
        .bytes(".proffer.operator.v0")
        .compile_fds(files)?;
    Ok(())
}

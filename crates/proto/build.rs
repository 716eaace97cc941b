// SPDX-License-Identifier: Apache-2.0
//! Compiles the protocol files, without a system `protoc`.

use std::error::Error;
use std::path::{Path, PathBuf};

use prost::Message;

/// Messages whose Rust types live in `types`, where unknown fields survive.
const EXTERN: &[(&str, &str)] = &[
    (".filer_pb.Entry", "::dulse_types::Entry"),
    (".filer_pb.FuseAttributes", "::dulse_types::FuseAttributes"),
    (".filer_pb.FileChunk", "::dulse_types::FileChunk"),
    (".filer_pb.FileId", "::dulse_types::FileIdMessage"),
    (".filer_pb.RemoteEntry", "::dulse_types::RemoteEntry"),
    (".filer_pb.SSEType", "::dulse_types::SseType"),
];

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed=proto");
    let mut files = proto_files(Path::new("proto"))?;
    files.extend(proto_files(Path::new("proto/dulse"))?);
    files.sort();
    let descriptors = protox::compile(&files, ["proto"])?;
    let out = PathBuf::from(std::env::var("OUT_DIR")?);
    std::fs::write(out.join("descriptors.bin"), descriptors.encode_to_vec())?;
    let mut builder = tonic_prost_build::configure()
        .bytes(".")
        .emit_rerun_if_changed(false);
    for (proto, rust) in EXTERN {
        builder = builder.extern_path(*proto, *rust);
    }
    builder.compile_fds(descriptors)?;
    Ok(())
}

fn proto_files(dir: &Path) -> std::io::Result<Vec<PathBuf>> {
    let items = std::fs::read_dir(dir)?.collect::<Result<Vec<_>, _>>()?;
    let paths = items.into_iter().map(|item| item.path());
    Ok(paths
        .filter(|path| path.extension().is_some_and(|e| e == "proto"))
        .collect())
}

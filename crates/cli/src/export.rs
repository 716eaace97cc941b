// SPDX-License-Identifier: Apache-2.0
//! `dulse export`: a filer's entries as a file that `fs.meta.load` reads.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use clap::Args;
use dulse_import::meta::{self, MetaWriter};
use dulse_proto::filer::TraverseBfsMetadataRequest;
use dulse_proto::filer::seaweed_filer_client::SeaweedFilerClient;
use dulse_types::{FullPath, ServerAddress};

use crate::exit::Usage;
use crate::status::ask;

/// Pause between two lines of progress.
const SHOW_EVERY: Duration = Duration::from_secs(2);

/// Most bytes of a message: the greatest entry and what is around it.
const MESSAGE_BYTES_MAX: usize = 64 << 20;

/// Arguments of `dulse export`.
#[derive(Args, Clone, Debug)]
#[command(
    after_help = "Entries with their attributes and where their contents lie; contents stay on the \
                  volume servers, and key-value pairs are not in such files. What is changed \
                  meanwhile may be in it or not."
)]
pub(crate) struct ExportArgs {
    /// The filer to ask, `host:port`; upstream's works, too
    #[arg(long, default_value = "127.0.0.1:8888")]
    filer: ServerAddress,
    /// The directory to begin with
    #[arg(long, default_value = "/")]
    path: String,
    /// The new file; compressed when its name ends in `.gz`. `fs.meta.load` and `dulse import
    /// --from meta:FILE` read both
    #[arg(long, value_name = "FILE")]
    to: PathBuf,
}

/// Writes the file, reads it once more and counts.
///
/// # Errors
///
/// `Usage` for a path or a file that cannot be; else when the filer or the disk fails. The file
/// is removed then.
pub(crate) async fn export(args: ExportArgs) -> Result<()> {
    let path = FullPath::parse(&args.path).map_err(|e| Usage(e.to_string()))?;
    let writer = MetaWriter::create(&args.to)
        .map_err(|e| Usage(format!("cannot make `{}`: {e}", args.to.display())))?;
    let written = write(&args, &path, writer).await;
    let checked = written.and_then(|n| Ok((n, count(&args.to)?)));
    let checked = checked.and_then(|(written, read)| {
        ensure!(
            written + 1 == read,
            "{written} entries were written, and {read} can be read"
        );
        Ok(written)
    });
    match checked {
        Ok(n) => {
            println!("{n} entries in `{}`", args.to.display());
            Ok(())
        }
        Err(error) => {
            // Part of a file must not be taken for a whole one.
            let _ = std::fs::remove_file(&args.to);
            Err(error)
        }
    }
}

async fn write(args: &ExportArgs, path: &FullPath, mut writer: MetaWriter) -> Result<u64> {
    let channel = ask::dial(&args.filer).await;
    let channel = channel.with_context(|| format!("the filer {} does not answer", args.filer))?;
    let mut client = SeaweedFilerClient::new(channel).max_decoding_message_size(MESSAGE_BYTES_MAX);
    let request = TraverseBfsMetadataRequest {
        directory: path.as_str().to_owned(),
        excluded_prefixes: Vec::new(),
    };
    let mut entries = client.traverse_bfs_metadata(request).await?.into_inner();
    let (mut n, mut shown) = (0, Instant::now());
    let mut top = None;
    while let Some(found) = entries.message().await? {
        let entry = found.entry.unwrap_or_default();
        let added = writer.add(&found.directory, &entry);
        added.with_context(|| format!("write `{}`", args.to.display()))?;
        n += 1;
        top.get_or_insert((found.directory, entry));
        if shown.elapsed() > SHOW_EVERY {
            shown = Instant::now();
            eprintln!("exported {n} entries");
        }
    }
    // Upstream's shell makes directories one by one and files beside them, and does not wait for
    // files behind the last directory: some would be missing. So the first one stands there again.
    let ended = top.map_or(Ok(()), |(directory, entry)| writer.add(&directory, &entry));
    let finished = ended.and_then(|()| writer.finish());
    finished.with_context(|| format!("write `{}`", args.to.display()))?;
    Ok(n)
}

fn count(file: &std::path::Path) -> Result<u64> {
    let mut n = 0;
    for item in meta::open(file)? {
        item?;
        n += 1;
    }
    Ok(n)
}

// SPDX-License-Identifier: Apache-2.0
//! `dulse conflicts`: what lost to concurrent changes, and what is to become of it.

mod print;

use std::io::Write as _;
use std::time::Instant;

use anyhow::{Context, Result, bail};
use bytes::Bytes;
use clap::{Args, Subcommand};
use dulse_proto::conflicts::conflicts_client::ConflictsClient;
use dulse_proto::conflicts::{
    DismissRequest, ListRequest, ReadRequest, RestoreRequest, ShowRequest,
};
use dulse_types::{Identity, ServerAddress};
use tonic::transport::Channel;

use crate::exit::Usage;
use crate::status::{self, Format, ask};

/// Arguments of `dulse conflicts`.
#[derive(Args, Clone, Debug)]
#[command(
    after_help = "Exit code: 0 when it was done; 1 when there is no such conflict, or something is \
                  in its way; 2 when the call cannot work as typed; 3 when no filer answers or it \
                  failed there."
)]
pub(crate) struct ConflictsArgs {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand, Clone, Debug)]
enum Command {
    /// Lists conflicts, pending ones too, as every filer knows them
    List {
        /// Only paths that begin like this
        #[arg(long, default_value = "")]
        prefix: String,
        /// At most so many
        #[arg(long, default_value_t = 1_000)]
        limit: usize,
        #[command(flatten)]
        common: Common,
    },
    /// Shows one with what lost and what the path shows now
    Show {
        /// As listed
        id: String,
        /// Writes the content that lost to standard output instead
        #[arg(long)]
        content: bool,
        #[command(flatten)]
        common: Common,
    },
    /// Writes what lost back, in place or as a copy, and ends the conflict
    Restore {
        /// As listed
        id: String,
        /// Where to; its own path by default, or beside it when something else is there
        #[arg(long)]
        to: Option<String>,
        #[command(flatten)]
        common: Common,
    },
    /// Ends conflicts; the content that lost is freed in time
    Dismiss {
        /// As listed
        #[arg(required = true)]
        ids: Vec<String>,
        #[command(flatten)]
        common: Common,
    },
}

#[derive(Args, Clone, Debug)]
struct Common {
    /// The filer to ask, `host:port`; any one knows all, so by default one that the master lists
    #[arg(long)]
    filer: Option<ServerAddress>,
    /// Masters, `host:port`, a comma list
    #[arg(long, default_value = "127.0.0.1:9333", value_delimiter = ',')]
    master: Vec<ServerAddress>,
    /// The filers' group
    #[arg(long, default_value = "")]
    filer_group: String,
    /// How to print
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
}

impl Common {
    async fn client(&self) -> Result<ConflictsClient<Channel>> {
        let address = match &self.filer {
            Some(address) => address.clone(),
            None => self.any_filer().await?,
        };
        let channel = ask::dial(&address).await;
        let channel = channel.with_context(|| format!("the filer {address} does not answer"))?;
        Ok(ConflictsClient::new(channel))
    }

    /// One that is ready, of all the master lists.
    async fn any_filer(&self) -> Result<ServerAddress> {
        let until = Instant::now() + status::ANSWER_TIME_MAX;
        let cluster = ask::cluster(&self.master, &self.filer_group, until).await?;
        let Some(ready) = cluster.filers.iter().find(|filer| filer.ready) else {
            let masters: Vec<String> = self.master.iter().map(|m| m.http()).collect();
            bail!("no filer that {} lists is ready", masters.join(" or "));
        };
        Ok(ready.address.parse()?)
    }
}

/// Does what was asked; false when there is no such conflict or something is in its way.
///
/// # Errors
///
/// When no filer answers, or the call fails there.
pub(crate) async fn conflicts(args: ConflictsArgs) -> Result<bool> {
    match args.command {
        Command::List {
            prefix,
            limit,
            common,
        } => list(&common, prefix, limit).await,
        Command::Show {
            id,
            content,
            common,
        } => {
            let id = parse(&id)?;
            match content {
                true => read(&common, id).await,
                false => show(&common, id).await,
            }
        }
        Command::Restore { id, to, common } => restore(&common, parse(&id)?, to).await,
        Command::Dismiss { ids, common } => {
            let ids: Result<Vec<Bytes>> = ids.iter().map(|id| parse(id)).collect();
            dismiss(&common, ids?).await
        }
    }
}

async fn list(common: &Common, prefix: String, limit: usize) -> Result<bool> {
    let mut client = common.client().await?;
    let (mut found, mut after) = (Vec::new(), Bytes::new());
    let mut is_more = true;
    while is_more && found.len() < limit {
        let request = ListRequest {
            prefix: prefix.clone(),
            limit: 0,
            after,
        };
        let reply = client.list(request).await.map_err(said)?.into_inner();
        found.extend(reply.conflicts.into_iter().map(print::Conflict::of));
        after = reply.next;
        is_more = !after.is_empty();
    }
    found.truncate(limit);
    found.sort_by(|a, b| (&a.path, &a.id).cmp(&(&b.path, &b.id)));
    print::list(&found, is_more, common.format)?;
    Ok(true)
}

async fn show(common: &Common, id: Bytes) -> Result<bool> {
    let mut client = common.client().await?;
    let reply = client.show(ShowRequest { id }).await;
    let Some(reply) = answered(reply)? else {
        return Ok(false);
    };
    print::show(reply.into_inner(), common.format)?;
    Ok(true)
}

async fn read(common: &Common, id: Bytes) -> Result<bool> {
    let mut client = common.client().await?;
    let Some(reply) = answered(client.read(ReadRequest { id }).await)? else {
        return Ok(false);
    };
    let mut parts = reply.into_inner();
    let mut out = std::io::stdout().lock();
    while let Some(part) = parts.message().await.map_err(said)? {
        out.write_all(&part.content).context("write the content")?;
    }
    out.flush().context("write the content")?;
    Ok(true)
}

async fn restore(common: &Common, id: Bytes, to: Option<String>) -> Result<bool> {
    let mut client = common.client().await?;
    let to = to.unwrap_or_default();
    let Some(reply) = answered(client.restore(RestoreRequest { id, to }).await)? else {
        return Ok(false);
    };
    print::restored(&reply.into_inner(), common.format)?;
    Ok(true)
}

async fn dismiss(common: &Common, ids: Vec<Bytes>) -> Result<bool> {
    let mut client = common.client().await?;
    let mut is_all = true;
    for id in ids {
        let name = print::name(&id);
        match answered(client.dismiss(DismissRequest { id }).await)? {
            Some(_) => print::dismissed(&name, common.format),
            None => is_all = false,
        }
    }
    Ok(is_all)
}

/// An id as it is listed: `stamp@origin.index`.
fn parse(text: &str) -> Result<Bytes> {
    let id: Result<Identity, _> = text.parse();
    let id = id.map_err(|e| Usage(format!("{e}")))?;
    Ok(Bytes::copy_from_slice(&id.to_bytes()))
}

/// `None`, with its reason on standard error, for an answer of "no".
fn answered<T>(reply: Result<T, tonic::Status>) -> Result<Option<T>> {
    use tonic::Code;
    match reply {
        Ok(reply) => Ok(Some(reply)),
        Err(status) => match status.code() {
            Code::NotFound | Code::AlreadyExists | Code::FailedPrecondition => {
                eprintln!("dulse: {}", status.message());
                Ok(None)
            }
            Code::InvalidArgument => Err(Usage(status.message().to_owned()).into()),
            _ => Err(said(status)),
        },
    }
}

fn said(status: tonic::Status) -> anyhow::Error {
    anyhow::anyhow!("{}", status.message())
}

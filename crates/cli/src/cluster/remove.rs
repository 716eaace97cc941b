// SPDX-License-Identifier: Apache-2.0
//! `dulse cluster remove`.

use std::io::{BufRead, Write};

use anyhow::{Context, Result, bail};
use clap::Args;
use dulse_proto::members::RemoveRequest;
use dulse_proto::members::members_client::MembersClient;
use dulse_types::{Origin, ServerAddress};

use super::Where;
use super::members::{Member, Members, look, span};
use crate::exit::Usage;
use crate::status::ask;

/// Arguments of `dulse cluster remove`.
#[derive(Args, Clone, Debug)]
#[command(
    after_help = "Exit code: 0 when the member was removed; 2 when there is no such member, it is \
                  the last one, it is alive and not forced, or nobody said yes; 3 when no filer \
                  answers or the removal failed."
)]
pub(super) struct RemoveArgs {
    /// Whom: its origin as `dulse cluster members` shows it, or `host:port`
    member: String,
    #[command(flatten)]
    at: Where,
    /// Do not ask
    #[arg(long)]
    yes: bool,
    /// Remove it though it answers
    #[arg(long)]
    force: bool,
}

/// Removes a member.
///
/// # Errors
///
/// `Usage` when it may not be removed.
pub(super) async fn remove(args: RemoveArgs) -> Result<()> {
    let found = look(&args.at).await?;
    let member = choose(&found, &args.member)?;
    let by = may_remove(&found, member, args.force)?;
    let text = consequences(member);
    if !args.yes && !confirmed(&text)? {
        return Err(Usage("nothing was removed".to_owned()).into());
    }
    let mut client = MembersClient::new(ask::dial(by).await?);
    let request = RemoveRequest {
        origin: member.origin.parse::<Origin>().context("an origin")?.0,
        is_forced: args.force,
    };
    let removed = client.remove(request).await;
    removed.map_err(|status| anyhow::anyhow!("{by}: {}", status.message()))?;
    println!("removed {} ({})", member.origin, member.address);
    Ok(())
}

/// The one that is meant.
fn choose<'a>(found: &'a Members, wanted: &str) -> Result<&'a Member, Usage> {
    let by_address: Option<ServerAddress> = wanted.parse().ok();
    let is_meant = |member: &&Member| {
        let at: Option<ServerAddress> = member.address.parse().ok();
        let is_there = at.zip(by_address.as_ref());
        member.origin == wanted || is_there.is_some_and(|(a, b)| a.is_same_server(b))
    };
    let is_member = |member: &&Member| matches!(member.state.as_str(), "live" | "silent");
    let mut meant = found.members.iter().filter(is_meant).filter(is_member);
    match (meant.next(), meant.next()) {
        (Some(member), None) => Ok(member),
        (None, _) => Err(Usage(format!(
            "`{wanted}` is no member; `dulse cluster members` lists them"
        ))),
        (Some(_), Some(_)) => Err(Usage(format!(
            "several members are known at `{wanted}`; expected an origin"
        ))),
    }
}

/// Whom to ask for it; refuses what must not be.
fn may_remove<'a>(
    found: &'a Members,
    member: &Member,
    is_forced: bool,
) -> Result<&'a ServerAddress, Usage> {
    let mut others = found.members.iter().filter(|m| m.origin != member.origin);
    if !others.any(|m| matches!(m.state.as_str(), "live" | "silent")) {
        return Err(Usage(format!(
            "`{}` is the last member: without it nothing is left",
            member.origin
        )));
    }
    if member.state == "live" && !is_forced {
        return Err(Usage(format!(
            "`{}` is alive: stop it with --leave-on-shutdown, which loses nothing, or add --force",
            member.origin
        )));
    }
    let mut filers = found.filers.iter();
    let by = filers.find(|(origin, _)| origin.to_string() != member.origin);
    let by = by.ok_or_else(|| Usage("no other filer answers that could remove it".to_owned()))?;
    Ok(&by.1)
}

/// What an operator is told before.
fn consequences(member: &Member) -> String {
    let heard = match member.silent_seconds {
        Some(seconds) => format!("last heard {} ago", span(seconds)),
        None => "not heard by any filer since that started".to_owned(),
    };
    format!(
        "{} at {} ({}, {heard})\n\
         Everything of it up to {} stays. What it acknowledged to clients later and handed to \n\
         nobody is not in the cluster; if its store starts again it joins under a new origin \n\
         and makes those changes anew. If its disk is lost, so are they.\n",
        member.origin, member.address, member.state, member.last_known
    )
}

fn confirmed(text: &str) -> Result<bool> {
    let mut out = std::io::stderr();
    write!(out, "{text}Remove it for good? Type `yes`: ").context("ask")?;
    out.flush().context("ask")?;
    let mut line = String::new();
    let read = std::io::stdin().lock().read_line(&mut line);
    if read.context("read the answer")? == 0 {
        bail!("nobody answers; use --yes");
    }
    Ok(line.trim() == "yes")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn member(origin: u64, port: u16, state: &str) -> Member {
        Member {
            origin: Origin(origin).to_string(),
            address: format!("127.0.0.1:{port}"),
            state: state.to_owned(),
            silent_seconds: None,
            holds_back: None,
            last_known: "0".to_owned(),
        }
    }

    fn found(members: Vec<Member>) -> Members {
        let address = "127.0.0.1:8888".parse().unwrap();
        Members {
            members,
            filers: vec![(Origin(1), address)],
        }
    }

    #[test]
    fn the_last_member_and_a_live_one_are_not_removed_by_mistake() {
        let two = found(vec![member(1, 8888, "live"), member(2, 8889, "silent")]);
        let meant = choose(&two, "127.0.0.1:8889").unwrap();
        assert_eq!(meant.origin, Origin(2).to_string());
        assert!(may_remove(&two, meant, false).is_ok());
        assert!(choose(&two, "127.0.0.1:8890").is_err());
        let live = found(vec![member(1, 8888, "live"), member(2, 8889, "live")]);
        let meant = choose(&live, &Origin(2).to_string()).unwrap();
        assert!(
            may_remove(&live, meant, false)
                .unwrap_err()
                .0
                .contains("alive")
        );
        assert!(may_remove(&live, meant, true).is_ok());
        let meant = choose(&live, &Origin(1).to_string()).unwrap();
        let nobody = may_remove(&live, meant, true).unwrap_err();
        assert!(nobody.0.contains("no other filer answers"));
        let one = found(vec![member(1, 8888, "silent"), member(2, 8889, "removed")]);
        let meant = choose(&one, "127.0.0.1:8888").unwrap();
        assert!(
            may_remove(&one, meant, true)
                .unwrap_err()
                .0
                .contains("last")
        );
        assert!(choose(&one, "127.0.0.1:8889").is_err());
    }
}

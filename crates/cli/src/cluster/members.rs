// SPDX-License-Identifier: Apache-2.0
//! `dulse cluster members`.

use std::time::Instant;

use anyhow::{Context, Result, bail};
use clap::Args;
use dulse_proto::members as pb;
use dulse_proto::members::members_client::MembersClient;
use dulse_types::{Origin, ServerAddress};
use serde::Serialize;

use super::Where;
use crate::status::{self, Format, ask};

/// Arguments of `dulse cluster members`.
#[derive(Args, Clone, Debug)]
#[command(
    after_help = "Exit code: 0 when the members could be shown; 2 when the call cannot work as \
                  typed; 3 when no filer answers."
)]
pub(super) struct MembersArgs {
    #[command(flatten)]
    at: Where,
    /// How to print
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
}

/// One member; field names are an interface.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub(super) struct Member {
    pub(super) origin: String,
    /// Empty where nobody knows it.
    pub(super) address: String,
    /// live, silent, left, fenced or removed.
    pub(super) state: String,
    /// Since any filer heard it; `null` where none has since its start.
    pub(super) silent_seconds: Option<f64>,
    /// The stamp behind which it is not known to have everything, so that logs are kept from
    /// there; as text, since many readers of JSON round numbers of this size.
    pub(super) holds_back: Option<String>,
    /// The last of its own changes that anybody knows of.
    pub(super) last_known: String,
}

/// What the filers that answer say of the members.
pub(super) struct Members {
    pub(super) members: Vec<Member>,
    /// Filers that answer, with their origins.
    pub(super) filers: Vec<(Origin, ServerAddress)>,
}

/// Prints the members.
///
/// # Errors
///
/// When no filer answers.
pub(super) async fn members(args: MembersArgs) -> Result<()> {
    let found = look(&args.at).await?;
    match args.format {
        Format::Json => {
            let text = serde_json::to_string_pretty(&found.members).context("write JSON")?;
            println!("{text}");
        }
        Format::Text => print!("{}", table(&found.members)),
    }
    Ok(())
}

/// Asks every filer that answers.
///
/// # Errors
///
/// When none does.
pub(super) async fn look(at: &Where) -> Result<Members> {
    let until = Instant::now() + status::ANSWER_TIME_MAX;
    let cluster = ask::cluster(&at.master, &at.filer_group, until).await?;
    let mut found = Members {
        members: Vec::new(),
        filers: Vec::new(),
    };
    let mut last = None;
    for filer in &cluster.filers {
        let address: ServerAddress = filer.address.parse()?;
        match list(&address).await {
            Ok(reply) => {
                let own = reply.members.iter().find(|m| m.is_self);
                found
                    .filers
                    .extend(own.map(|own| (Origin(own.origin), address)));
                for member in reply.members {
                    merge(&mut found.members, member);
                }
            }
            Err(error) => last = Some(error.context(format!("ask the filer {address}"))),
        }
    }
    match last {
        Some(error) if found.filers.is_empty() => Err(error),
        _ if found.members.is_empty() => bail!("no filer answers that belongs to a cluster"),
        _ => Ok(found),
    }
}

async fn list(address: &ServerAddress) -> Result<pb::ListReply> {
    let mut client = MembersClient::new(ask::dial(address).await?);
    let asked = client.list(pb::ListRequest {});
    let reply = tokio::time::timeout(status::ANSWER_TIME_MAX, asked).await;
    let reply = reply.context("no answer in time")?;
    Ok(reply
        .map_err(|status| anyhow::anyhow!("{}", status.message()))?
        .into_inner())
}

/// Of several views of one member what is furthest on counts: gone over silent over live, the
/// latest time it was heard, the least that it is known to have.
fn merge(members: &mut Vec<Member>, said: pb::Member) {
    let origin = Origin(said.origin).to_string();
    let holds_back = said.holds_back.map(|stamp| stamp.to_string());
    let Some(known) = members.iter_mut().find(|m| m.origin == origin) else {
        members.push(Member {
            origin,
            address: said.address,
            state: said.state,
            silent_seconds: said.silent_seconds.or(said.is_self.then_some(0.0)),
            holds_back,
            last_known: said.last_known.to_string(),
        });
        return;
    };
    let is_gone = |state: &str| !matches!(state, "live" | "silent");
    if said.is_self || is_gone(&said.state) || (known.state == "silent" && said.state == "live") {
        if !is_gone(&known.state) {
            known.state = said.state;
        }
        known.address = said.address;
    }
    let own = said.is_self.then_some(0.0);
    let heard = [known.silent_seconds, said.silent_seconds, own];
    known.silent_seconds = heard.into_iter().flatten().reduce(f64::min);
    let number = |text: &str| text.parse::<i64>().unwrap_or(0);
    let both = [known.holds_back.take(), holds_back];
    known.holds_back = both.into_iter().flatten().min_by_key(|s| number(s));
    if number(&known.last_known) < said.last_known {
        known.last_known = said.last_known.to_string();
    }
}

fn table(members: &[Member]) -> String {
    let mut out = format!(
        "{:<16}  {:<28}  {:<8}  {:<14}  {}\n",
        "ORIGIN", "ADDRESS", "STATE", "LAST HEARD", "HOLDS BACK"
    );
    for member in members {
        let heard = match member.silent_seconds {
            Some(seconds) => format!("{} ago", span(seconds)),
            None => "-".to_owned(),
        };
        let holds = match &member.holds_back {
            Some(stamp) => format!("logs from {stamp} on"),
            None => "nothing".to_owned(),
        };
        out.push_str(&format!(
            "{:<16}  {:<28}  {:<8}  {heard:<14}  {holds}\n",
            member.origin, member.address, member.state
        ));
    }
    out
}

/// A time as people say it.
pub(super) fn span(seconds: f64) -> String {
    let units = [(86_400.0, "d"), (3_600.0, "h"), (60.0, "min")];
    let unit = units.into_iter().find(|(unit, _)| seconds >= 2.0 * unit);
    match unit {
        Some((unit, name)) => format!("{:.0} {name}", seconds / unit),
        None => format!("{seconds:.1} s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(state: &str, silent: Option<f64>, is_self: bool) -> pb::Member {
        pb::Member {
            origin: 7,
            address: "h:1.2".to_owned(),
            state: state.to_owned(),
            silent_seconds: silent,
            is_self,
            ..pb::Member::default()
        }
    }

    #[test]
    fn of_several_views_of_a_member_the_furthest_on_counts() {
        let state = |views: &[pb::Member]| {
            let mut members = Vec::new();
            for view in views {
                merge(&mut members, view.clone());
            }
            (members[0].state.clone(), members[0].silent_seconds)
        };
        let (silent, live) = (said("silent", Some(60.0), false), said("live", None, true));
        assert_eq!(
            state(&[silent.clone(), live.clone()]),
            ("live".into(), Some(0.0))
        );
        let gone = said("removed", None, false);
        assert_eq!(
            state(&[gone.clone(), silent.clone()]),
            ("removed".into(), Some(60.0))
        );
        assert_eq!(state(&[live, gone]), ("removed".into(), Some(0.0)));
        assert_eq!(state(&[silent]), ("silent".into(), Some(60.0)));
    }

    #[test]
    fn spans_are_said_in_the_unit_that_people_use() {
        let said: Vec<String> = [0.2, 119.0, 120.0, 7_200.0, 172_800.0].map(span).into();
        assert_eq!(said, ["0.2 s", "119.0 s", "2 min", "2 h", "2 d"]);
    }
}

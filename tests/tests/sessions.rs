// SPDX-License-Identifier: Apache-2.0
//! I10 behind a load balancer that deals each request to the next of three filers: with the
//! tokens of its own writes a client never reads behind them.

use std::collections::BTreeMap;

use anyhow::{Context, Result, ensure};
use dulse_proto::filer as pb;
use dulse_tests::{Cluster, PATIENCE};
use reqwest::{Method, Response};
use tonic::Request;

/// Rounds of one client.
const ROUNDS: usize = 40;

/// Clients at once, each with a session of its own.
const CLIENTS: usize = 4;

/// What a client remembers: of each filer it wrote to the last position.
#[derive(Default)]
struct Session {
    tokens: BTreeMap<String, i64>,
    n_requests: usize,
}

impl Session {
    fn take(&mut self, text: &str) -> Result<()> {
        for token in text.split(',') {
            let (origin, stamp) = token.trim().split_once(':').context("a token")?;
            let stamp: i64 = stamp.parse()?;
            let known = self.tokens.entry(origin.to_owned()).or_default();
            *known = (*known).max(stamp);
        }
        Ok(())
    }

    fn texts(&self) -> Vec<String> {
        let tokens = self.tokens.iter();
        tokens
            .map(|(origin, stamp)| format!("{origin}:{stamp}"))
            .collect()
    }

    /// The filer whose turn it is.
    fn next(&mut self) -> usize {
        self.n_requests += 1;
        self.n_requests % 3
    }
}

/// One HTTP request at the next filer, with the session; a write's answer has a token.
async fn ask(
    cluster: &Cluster,
    session: &mut Session,
    method: Method,
    path: &str,
    body: &str,
) -> Result<Response> {
    let url = cluster.url(session.next(), path);
    let is_write = method != Method::GET;
    let mut request = cluster
        .http
        .request(method.clone(), url)
        .body(body.to_owned());
    // As several headers or as one list: both ways.
    if session.n_requests.is_multiple_of(2) {
        for token in session.texts() {
            request = request.header("dulse-token", token);
        }
    } else if !session.tokens.is_empty() {
        request = request.header("dulse-token", session.texts().join(", "));
    }
    let answer = request.header("accept", "application/json").send().await?;
    let status = answer.status();
    ensure!(status != 503 && status != 400, "{method} {path}: {status}");
    if is_write {
        let token = answer.headers().get("dulse-token");
        let token = token.with_context(|| format!("{method} {path}: no token in {answer:?}"))?;
        session.take(token.to_str()?)?;
    }
    Ok(answer)
}

async fn content(cluster: &Cluster, session: &mut Session, path: &str) -> Result<Option<String>> {
    let answer = ask(cluster, session, Method::GET, path, "").await?;
    match answer.status().as_u16() {
        200 => Ok(Some(answer.text().await?)),
        404 => Ok(None),
        other => anyhow::bail!("{path}: {other}"),
    }
}

async fn listed(cluster: &Cluster, session: &mut Session, dir: &str) -> Result<String> {
    let answer = ask(
        cluster,
        session,
        Method::GET,
        &format!("{dir}/?limit=1000"),
        "",
    )
    .await?;
    Ok(answer.text().await?)
}

async fn one_client(cluster: &Cluster, who: usize) -> Result<()> {
    let (mut session, dir) = (Session::default(), format!("/i10/{who}"));
    let s = &mut session;
    for round in 0..ROUNDS {
        let (old, new) = (format!("{dir}/{round}"), format!("{dir}/{round}-moved"));
        ask(cluster, s, Method::PUT, &old, "one").await?;
        ensure!(
            content(cluster, s, &old).await?.as_deref() == Some("one"),
            "created"
        );
        ask(cluster, s, Method::PUT, &format!("{old}?op=append"), " two").await?;
        ask(
            cluster,
            s,
            Method::PUT,
            &format!("{old}?op=append"),
            " three",
        )
        .await?;
        let all = content(cluster, s, &old).await?;
        ensure!(
            all.as_deref() == Some("one two three"),
            "appended elsewhere: {all:?}"
        );
        ensure!(
            listed(cluster, s, &dir)
                .await?
                .contains(&format!("{old}\"")),
            "listed"
        );
        ask(
            cluster,
            s,
            Method::POST,
            &format!("{new}?mv.from={old}"),
            "",
        )
        .await?;
        ensure!(content(cluster, s, &old).await?.is_none(), "moved away");
        let all = content(cluster, s, &new).await?;
        ensure!(all.as_deref() == Some("one two three"), "moved: {all:?}");
        ask(cluster, s, Method::PUT, &new, "over").await?;
        ensure!(
            content(cluster, s, &new).await?.as_deref() == Some("over"),
            "overwritten"
        );
        ask(cluster, s, Method::DELETE, &new, "").await?;
        ensure!(content(cluster, s, &new).await?.is_none(), "deleted");
        // Nothing is left to do, and that is known from here on, too.
        ask(cluster, s, Method::DELETE, &new, "").await?;
        let listing = listed(cluster, s, &dir).await;
        ensure!(!listing?.contains(&format!("{new}\"")), "no longer listed");
        ask(cluster, s, Method::POST, &format!("{dir}/d{round}/"), "").await?;
        ensure!(
            listed(cluster, s, &dir)
                .await?
                .contains(&format!("/d{round}\"")),
            "made"
        );
    }
    Ok(())
}

#[tokio::test]
async fn i10_a_client_dealt_over_three_filers_never_reads_behind_its_writes() -> Result<()> {
    let cluster = Cluster::start(&["redb", "sqlite", "redb"]).await?;
    let clients = (0..CLIENTS).map(|who| one_client(&cluster, who));
    futures::future::try_join_all(clients).await?;
    cluster.wait_converged().await?;
    ensure!(cluster.verify()? == Some(0), "verify");
    Ok(())
}

/// A gRPC request with the session.
fn with<T>(session: &Session, message: T) -> Result<Request<T>> {
    let mut request = Request::new(message);
    for token in session.texts() {
        request.metadata_mut().append("dulse-token", token.parse()?);
    }
    request.set_timeout(PATIENCE);
    Ok(request)
}

/// Takes the tokens of an answer; a write's has one.
fn taken<T>(session: &mut Session, answer: tonic::Response<T>, what: &str) -> Result<T> {
    let tokens: Vec<_> = answer.metadata().get_all("dulse-token").iter().collect();
    ensure!(!tokens.is_empty(), "{what}: no token");
    for token in tokens {
        session.take(token.to_str()?)?;
    }
    Ok(answer.into_inner())
}

#[tokio::test]
async fn i10_every_write_over_grpc_has_a_token_and_every_read_waits_for_it() -> Result<()> {
    let cluster = Cluster::start(&["redb", "sqlite", "redb"]).await?;
    let filers = [
        cluster.grpc(0).await?,
        cluster.grpc(1).await?,
        cluster.grpc(2).await?,
    ];
    let mut session = Session::default();
    let s = &mut session;
    let dir = || "/i10".to_owned();
    for round in 0..ROUNDS {
        let name = format!("f{round}");
        let entry = || Some(dulse_types::Entry::default().with_name(&name));
        let create = pb::CreateEntryRequest {
            directory: dir(),
            entry: entry(),
            ..pb::CreateEntryRequest::default()
        };
        let answer = filers[s.next()]
            .clone()
            .create_entry(with(s, create)?)
            .await?;
        taken(s, answer, "create")?;
        let update = pb::UpdateEntryRequest {
            directory: dir(),
            entry: entry(),
            ..pb::UpdateEntryRequest::default()
        };
        // It changes nothing: what it saw counts.
        let answer = filers[s.next()]
            .clone()
            .update_entry(with(s, update)?)
            .await?;
        taken(s, answer, "update")?;
        let append = pb::AppendToEntryRequest {
            directory: dir(),
            entry_name: name.clone(),
            chunks: Vec::new(),
        };
        let answer = filers[s.next()]
            .clone()
            .append_to_entry(with(s, append)?)
            .await?;
        taken(s, answer, "append")?;
        let rename = pb::AtomicRenameEntryRequest {
            old_directory: dir(),
            old_name: name.clone(),
            new_directory: dir(),
            new_name: format!("{name}-a"),
            signatures: Vec::new(),
        };
        let answer = filers[s.next()]
            .clone()
            .atomic_rename_entry(with(s, rename)?)
            .await?;
        taken(s, answer, "rename")?;
        let rename = pb::StreamRenameEntryRequest {
            old_directory: dir(),
            old_name: format!("{name}-a"),
            new_directory: dir(),
            new_name: format!("{name}-b"),
            signatures: Vec::new(),
        };
        let answer = filers[s.next()]
            .clone()
            .stream_rename_entry(with(s, rename)?)
            .await?;
        let mut notes = taken(s, answer, "rename with notes")?;
        while notes.message().await?.is_some() {}
        let list = pb::ListEntriesRequest {
            directory: dir(),
            limit: 1_000,
            ..pb::ListEntriesRequest::default()
        };
        let answer = filers[s.next()]
            .clone()
            .list_entries(with(s, list)?)
            .await?;
        let (mut rows, mut names) = (answer.into_inner(), Vec::<String>::new());
        while let Some(row) = rows.message().await? {
            names.extend(row.entry.map(|entry| String::from(entry.name())));
        }
        ensure!(names.contains(&format!("{name}-b")), "{name}: {names:?}");
        ensure!(!names.contains(&name), "{name}: {names:?}");
        let key = bytes::Bytes::from(name.clone());
        let put = pb::KvPutRequest {
            key: key.clone(),
            value: "v".into(),
        };
        let answer = filers[s.next()].clone().kv_put(with(s, put)?).await?;
        taken(s, answer, "key")?;
        let got = filers[s.next()]
            .clone()
            .kv_get(with(s, pb::KvGetRequest { key })?)
            .await?;
        ensure!(got.into_inner().value == "v", "key of {name}");
        let delete = || pb::DeleteEntryRequest {
            directory: dir(),
            name: format!("{name}-b"),
            ..pb::DeleteEntryRequest::default()
        };
        let answer = filers[s.next()]
            .clone()
            .delete_entry(with(s, delete())?)
            .await?;
        ensure!(
            taken(s, answer, "delete")?.error.is_empty(),
            "delete of {name}"
        );
        let look = pb::LookupDirectoryEntryRequest {
            directory: dir(),
            name: format!("{name}-b"),
        };
        let gone = filers[s.next()]
            .clone()
            .lookup_directory_entry(with(s, look)?)
            .await;
        ensure!(gone.is_err(), "{name} is gone everywhere");
    }
    Ok(())
}

#[tokio::test]
async fn what_is_no_token_or_too_many_is_refused_and_a_late_write_is_told() -> Result<()> {
    let cluster = Cluster::start(&["redb"]).await?;
    for (token, status) in [
        ("nonsense".to_owned(), 400),
        (["0000000100000001:1"; 65].join(","), 400),
        (format!("0000000100000001:{}", i64::MAX), 503),
    ] {
        for method in [Method::GET, Method::PUT, Method::DELETE] {
            let request = cluster.http.request(method.clone(), cluster.url(0, "/x"));
            let answer = request
                .header("dulse-token", &token)
                .body("x")
                .send()
                .await?;
            let (is, said) = (answer.status().as_u16(), answer.text().await?);
            ensure!(is == status, "{method} {token}: {is} {said}");
        }
    }
    ensure!(cluster.get(0, "/x").await?.is_none(), "no write was made");
    Ok(())
}

// SPDX-License-Identifier: Apache-2.0
//! Carries out what the core decides, with tokio and tonic.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use dulse_cluster::{Judgement, Now};
use dulse_merge::change::MemberStep;
use dulse_proto::replication::replication_client::ReplicationClient;
use dulse_proto::replication::{Heartbeat, PullRequest};
use dulse_replica::Renewal;
use dulse_transport::{Dial, MESSAGE_BYTES_MAX};
use dulse_types::{Origin, ServerAddress, Stamp, Vector};
use tokio::task::AbortHandle;
use tonic::transport::Channel;
use tonic::{Code, Status};

use crate::core::{Action, Greeting, LinkId, Outcome, ROUND_TRIP_MAX, Refusal, StreamId};
use crate::{Inner, JUDGED_SINCE, convert, join, metrics, repair, returning};

/// The core is polled at least this often.
const POLL_EVERY: Duration = Duration::from_millis(100);

/// It moves with every heartbeat; what hangs on it, forgetting, is in no hurry.
const STABLE_EVERY: Duration = Duration::from_millis(500);

/// How often it is kept how long members are silent.
const HEARD_EVERY: Duration = Duration::from_secs(60);

/// How long connecting may take; the core gives up the handshake a little later.
const CONNECT_TIME_MAX: Duration = Duration::from_secs(3);

/// A silent connection is probed after this, so that a vanished machine is noticed.
const KEEP_ALIVE_EVERY: Duration = Duration::from_secs(10);

pub(crate) type Client = ReplicationClient<Channel>;

/// What runs: connections and the tasks on them.
#[derive(Default)]
struct Running {
    clients: BTreeMap<LinkId, Client>,
    greetings: BTreeMap<LinkId, AbortHandle>,
    streams: BTreeMap<StreamId, AbortHandle>,
}

impl Drop for Running {
    fn drop(&mut self) {
        for task in self.greetings.values().chain(self.streams.values()) {
            task.abort();
        }
    }
}

/// A handshake that ended well, with its connection.
type Met = (LinkId, Client);

/// Runs until this filer stops.
pub(crate) async fn direct(inner: Arc<Inner>) {
    let mut running = Running::default();
    let mut listed = inner.options.listed.clone();
    let mut has_master = true;
    let mut stop = inner.stop.subscribe();
    // At most one message per greeting that runs, and those are bounded by the addresses.
    let (meet, mut met) = tokio::sync::mpsc::unbounded_channel::<(Met, Greeting)>();
    let mut stable = Told::default();
    let mut noted = Now::ZERO;
    remember_silences(&inner);
    let mut refuses = false;
    loop {
        if let Some(listing) = listed.borrow_and_update().clone() {
            inner.core.lock().listed(inner.now(), listing);
        }
        while let Ok(((link, client), greeting)) = met.try_recv() {
            running.clients.insert(link, client);
            inner.core.lock().greeted(inner.now(), link, Ok(greeting));
        }
        let now = inner.now();
        let actions = inner.with(|core, view| core.poll(now, view));
        // Order: before a founder stamps its first change.
        judge_clock(&inner, &mut refuses);
        let is_idle = actions.is_empty();
        for action in actions {
            carry_out(&inner, &mut running, action, &meet);
        }
        tell_ready(&inner);
        tell_holders(&inner);
        tell_stable(&inner, &mut stable);
        note_silences(&inner, &mut noted);
        if !is_idle {
            continue;
        }
        tokio::select! {
            Some(((link, client), greeting)) = met.recv() => {
                running.clients.insert(link, client);
                inner.core.lock().greeted(inner.now(), link, Ok(greeting));
            }
            () = inner.wake.notified() => {}
            () = tokio::time::sleep(POLL_EVERY) => {}
            changed = listed.changed(), if has_master => has_master = changed.is_ok(),
            _ = stop.wait_for(|stop| *stop) => return,
        }
    }
}

/// Tells the core how long members had been silent when this filer started.
fn remember_silences(inner: &Inner) {
    match inner.store.shared().silences() {
        Ok(rows) => {
            for (member, silent) in rows {
                inner.core.lock().silent_before(member, silent);
            }
        }
        Err(error) => tracing::warn!(%error, "how long members were silent cannot be read"),
    }
}

/// Keeps how long members are silent, so that a restart does not forget it.
fn note_silences(inner: &Arc<Inner>, noted: &mut Now) {
    let now = inner.now();
    {
        let (mut core, shared) = (inner.core.lock(), inner.store.shared());
        core.log_is_over(shared.is_log_over());
        core.store_has_failed(shared.is_behind() || shared.journal().is_poisoned());
    }
    if now < *noted + HEARD_EVERY {
        return;
    }
    *noted = now;
    let rows = inner.with(|core, view| core.silences(view));
    let inner = Arc::clone(inner);
    tokio::spawn(async move {
        if let Err(error) = inner.store.note_silences(rows).await {
            tracing::debug!(%error, "how long members are silent was not noted");
        }
    });
}

/// Tells the store how far its clock is to be believed.
fn judge_clock(inner: &Inner, refuses: &mut bool) {
    let shared = inner.store.shared();
    let master = *inner.options.master_time.borrow();
    let (now, wall_ns) = (inner.now(), shared.wall_ns());
    let judged = inner.with(|core, view| {
        if let Some(time) = master {
            let asked = time.asked.saturating_duration_since(inner.started);
            core.masters_clock(asked, time.now_ns);
        }
        core.judge_clock(now, wall_ns, view)
    });
    shared.bound_clock(crate::core::bound(judged));
    *inner.clock.lock() = judged;
    let Judgement::Known { lead_ns, .. } = judged else {
        return;
    };
    if judged.refuses() != *refuses {
        *refuses = judged.refuses();
        let lead_seconds = lead_ns as f64 / 1e9;
        if *refuses {
            tracing::error!(
                lead_seconds,
                "this filer's clock leads most of the others: local \
                writes are refused until it is right"
            );
        } else {
            tracing::info!(lead_seconds, "this filer's clock is right again");
        }
    }
}

/// What the store was told last of what is stable.
#[derive(Default)]
struct Told {
    at: Now,
    vector: Vector,
}

/// Tells the store when what every member has on disk moved.
fn tell_stable(inner: &Inner, told: &mut Told) {
    let now = inner.now();
    if now < told.at + STABLE_EVERY {
        return;
    }
    told.at = now;
    match inner.stable() {
        Ok(stable) if stable != told.vector => {
            inner.store.stable(stable.clone());
            told.vector = stable;
        }
        Ok(_) => {}
        Err(error) => tracing::debug!(%error, "the members cannot be read"),
    }
}

/// Tells the store what the connected members have of its own log.
fn tell_holders(inner: &Inner) {
    let now = inner.now();
    // Order: told under the core's lock, so that what is told last is what was heard last.
    inner.with(|core, view| inner.store.peers_hold(core.holders(now, view)));
}

fn tell_ready(inner: &Inner) {
    let mut not_ready = inner.core.lock().not_ready().map(str::to_owned);
    if not_ready.is_none() {
        inner.store.shared().hold_verdicts(false);
    }
    if inner.is_returning.load(Ordering::Relaxed) {
        not_ready.get_or_insert_with(|| "making anew what only this filer had".to_owned());
    }
    if inner.is_leaving.load(Ordering::Relaxed) {
        not_ready.get_or_insert_with(|| "this filer leaves its cluster".to_owned());
    }
    inner.ready.send_if_modified(|before| {
        let is_new = *before != not_ready;
        if is_new {
            match &not_ready {
                Some(why) => tracing::info!(%why, "not ready"),
                None => tracing::info!("ready"),
            }
            *before = not_ready;
        }
        is_new
    });
}

fn carry_out(
    inner: &Arc<Inner>,
    running: &mut Running,
    action: Action,
    meet: &tokio::sync::mpsc::UnboundedSender<(Met, Greeting)>,
) {
    running.streams.retain(|_, task| !task.is_finished());
    running.greetings.retain(|_, task| !task.is_finished());
    match action {
        Action::Greet { link, address } => {
            let task = tokio::spawn(greet(Arc::clone(inner), link, address, meet.clone()));
            running.greetings.insert(link, task.abort_handle());
        }
        Action::Pull {
            stream,
            link,
            instance,
            origin,
            after,
            is_once,
        } => {
            let Some(client) = running.clients.get(&link).cloned() else {
                let lost = Some("the connection is gone".to_owned());
                inner.core.lock().ended(inner.now(), stream, lost);
                return;
            };
            let request = PullRequest {
                puller: inner.origin().0,
                origin: origin.0,
                after: after.0,
                is_once,
                group: inner.options.group.clone(),
                instance: if inner.options.protocol < JUDGED_SINCE {
                    0
                } else {
                    instance
                },
            };
            let task = tokio::spawn(pull(Arc::clone(inner), stream, client, request));
            running.streams.insert(stream, task.abort_handle());
        }
        Action::Join { stream, link } => {
            let Some(client) = running.clients.get(&link).cloned() else {
                let lost = Err("the connection is gone".to_owned());
                inner.core.lock().joined(inner.now(), stream, lost);
                return;
            };
            let task = tokio::spawn(join::join(Arc::clone(inner), stream, client));
            running.streams.insert(stream, task.abort_handle());
        }
        Action::Found { beside } => drop(tokio::spawn(found(Arc::clone(inner), beside))),
        Action::Appear => drop(tokio::spawn(appear(Arc::clone(inner)))),
        Action::Renew {
            known,
            whole,
            of_thirds,
            behind,
            is_in_use,
            why,
        } => {
            let client = running.clients.values().next().cloned();
            let behind = behind.map(|behind| (behind, client));
            let renewal = Renewal {
                known,
                whole,
                of_thirds,
                is_in_use,
                random: rand::random(),
            };
            tokio::spawn(returning::renew(Arc::clone(inner), renewal, behind, why));
        }
        Action::Fence { member } => drop(tokio::spawn(fence(Arc::clone(inner), member))),
        Action::Cancel(stream) => {
            if let Some(task) = running.streams.remove(&stream) {
                task.abort();
            }
        }
        Action::Close(link) => {
            running.clients.remove(&link);
            if let Some(task) = running.greetings.remove(&link) {
                task.abort();
            }
        }
    }
}

async fn fence(inner: Arc<Inner>, member: Origin) {
    let cut = inner.store.shared().vector().get(member);
    match inner.store.member(MemberStep::Fence { member, cut }).await {
        Ok(_) => {
            metrics::FENCED.add(1);
            tracing::warn!(%member, %cut, "a member was silent for too long and is shut out; it \
                joins again when it comes back");
        }
        Err(error) => tracing::warn!(%member, %error, "a silent member cannot be shut out"),
    }
    inner.wake.notify_one();
}

async fn appear(inner: Arc<Inner>) {
    let result = inner.store.appear().await;
    let result = result.map(drop).map_err(|error| error.to_string());
    inner.core.lock().appeared(inner.now(), result);
    inner.wake.notify_one();
}

async fn found(inner: Arc<Inner>, beside: Vec<Origin>) {
    let result = report_and_found(&inner, beside).await;
    inner.core.lock().founded(inner.now(), result);
    inner.wake.notify_one();
}

async fn report_and_found(inner: &Inner, beside: Vec<Origin>) -> Result<(), String> {
    let (member, address) = (inner.origin(), &inner.options.address);
    if !inner.options.is_alone {
        (inner.options.report)(member, address.clone(), beside).await?;
    }
    let address = address.to_string();
    let founded = inner.store.member(MemberStep::Join { member, address });
    founded.await.map_err(|e| e.to_string())?;
    tracing::info!(origin = %member, "founded a cluster");
    Ok(())
}

async fn connect(inner: &Inner, address: &ServerAddress) -> Result<Client, String> {
    let dial = Dial::within(CONNECT_TIME_MAX).probed_after(KEEP_ALIVE_EVERY);
    let channel = inner.options.transport.connect(&address.grpc(), dial).await;
    let client = ReplicationClient::new(channel.map_err(|e| e.to_string())?);
    Ok(client
        .max_decoding_message_size(MESSAGE_BYTES_MAX)
        .max_encoding_message_size(MESSAGE_BYTES_MAX))
}

async fn greet(
    inner: Arc<Inner>,
    link: LinkId,
    address: ServerAddress,
    meet: tokio::sync::mpsc::UnboundedSender<(Met, Greeting)>,
) {
    let refusal = match handshake(&inner, &address).await {
        Ok((client, greeting)) => {
            // The director is gone only when this filer stops.
            let _ = meet.send(((link, client), greeting));
            return;
        }
        Err(refusal) => refusal,
    };
    if refusal == Refusal::Foreign {
        tracing::warn!(%address, "this filer does not speak dulse's protocol: its changes are \
            not replicated");
    }
    inner.core.lock().greeted(inner.now(), link, Err(refusal));
    inner.wake.notify_one();
}

async fn handshake(inner: &Inner, address: &ServerAddress) -> Result<(Client, Greeting), Refusal> {
    let mut client = connect(inner, address).await.map_err(Refusal::Broken)?;
    let asked = inner.now();
    let theirs = client.handshake(convert::hello(inner)).await;
    let theirs = theirs.map_err(|status| refusal(&status))?.into_inner();
    if inner.now().saturating_sub(asked) <= ROUND_TRIP_MAX {
        let peer = Origin(theirs.origin);
        inner.core.lock().peers_clock(asked, peer, theirs.now_ns);
    }
    if let Some(why) = convert::mismatch(inner, &theirs) {
        return Err(Refusal::Refused(why));
    }
    let mut greeting = convert::greeting(&theirs);
    let shared = Arc::clone(inner.store.shared());
    let compared = tokio::task::spawn_blocking(move || {
        shared.met(greeting.origin)?;
        greeting.compare(&shared)?;
        Ok::<_, dulse_store::Error>(greeting)
    });
    let greeting = match compared.await {
        Ok(Ok(greeting)) => greeting,
        Ok(Err(error)) => return Err(Refusal::Broken(error.to_string())),
        Err(error) => return Err(Refusal::Broken(error.to_string())),
    };
    Ok((client, greeting))
}

fn refusal(status: &Status) -> Refusal {
    match status.code() {
        Code::Unimplemented => Refusal::Foreign,
        Code::FailedPrecondition => Refusal::Refused(status.message().to_owned()),
        _ => Refusal::Broken(status.message().to_owned()),
    }
}

/// Takes in one stream until it ends.
async fn pull(inner: Arc<Inner>, stream: StreamId, client: Client, request: PullRequest) {
    let (origin, is_once) = (Origin(request.origin), request.is_once);
    let from = Stamp(request.after);
    let broken = take_all(&inner, stream, client, request).await.err();
    let is_cut = broken.as_ref().is_some_and(convert::is_log_cut);
    let error = broken.map(|status| status.message().to_owned());
    if is_once && error.is_none() {
        tracing::info!(%origin, after = %from, "fetched another filer's changes");
    }
    if let Some(error) = &error {
        tracing::debug!(%origin, %error, "a stream ended");
    }
    {
        let mut core = inner.core.lock();
        match error {
            Some(why) if is_cut => core.cut_off(inner.now(), stream, why),
            error => core.ended(inner.now(), stream, error),
        }
    }
    inner.wake.notify_one();
}

async fn take_all(
    inner: &Inner,
    stream: StreamId,
    mut client: Client,
    request: PullRequest,
) -> Result<(), Status> {
    let (origin, is_once) = (Origin(request.origin), request.is_once);
    let mut batches = client.pull(request).await?.into_inner();
    while let Some(batch) = batches.message().await? {
        let beat = batch.heartbeat.as_ref();
        let has_history = beat.is_some_and(|beat| !beat.applied.is_empty());
        let has_history = has_history || !batch.changes.is_empty();
        let through = inner
            .core
            .lock()
            .takes_from(inner.now(), stream, has_history);
        let Some(through) = through else {
            inner.wake.notify_one();
            return Ok(());
        };
        let arrived = inner.now();
        let (n_changes, n_bytes) = (
            batch.changes.len(),
            batch.changes.iter().map(Bytes::len).sum(),
        );
        let outcome = take_in(inner, through, batch.changes).await;
        if batch.is_awaited {
            inner.store.sync_now();
        }
        if let Outcome::Cut(why) = &outcome {
            tracing::warn!(%through, %why, "changes of a former member are refused");
        }
        if let Outcome::Stuck(error) | Outcome::Failed(error) = &outcome {
            tracing::error!(%error, "a peer's change cannot be applied; its filer waits");
            metrics::STUCK.add(1);
        }
        let is_over = outcome != Outcome::Applied;
        inner.core.lock().applied(inner.now(), stream, outcome);
        if is_over {
            inner.wake.notify_one();
            return Ok(());
        }
        {
            let mut core = inner.core.lock();
            core.behind(stream, batch.n_behind);
            core.weighed(stream, n_changes, n_bytes);
        }
        if let Some(beat) = batch.heartbeat {
            if !is_once {
                compare(inner, origin, &beat);
            }
            let known = convert::addresses(&beat.known);
            let statement = convert::statement(&beat);
            {
                let mut core = inner.core.lock();
                core.heard(inner.now(), stream, statement, &known);
                // What is sent behind a backlog has waited for who knows how long.
                if batch.n_behind == 0 {
                    core.peers_clock(arrived, through, beat.now_ns);
                }
            }
            if inner.store.is_awaited() {
                tell_holders(inner);
            }
        }
    }
    Ok(())
}

/// Applies a batch; a change that cannot be applied is told, never skipped.
async fn take_in(inner: &Inner, through: Origin, changes: Vec<Bytes>) -> Outcome {
    if changes.is_empty() {
        return Outcome::Applied;
    }
    let count = changes.len() as u64;
    let applied = match inner.store.apply_from(through, changes).await {
        Ok(applied) => applied,
        Err(error) => return Outcome::Failed(error.to_string()),
    };
    metrics::RECEIVED.add(count);
    Outcome::of(&applied)
}

/// Compares digests where vectors are equal: both are of one moment on either side.
fn compare(inner: &Inner, peer: Origin, beat: &Heartbeat) {
    if inner.core.lock().is_gone() {
        return;
    }
    let (applied, sum) = inner.store.shared().digest();
    if !applied.is_empty() && applied == convert::vector(&beat.applied) {
        let is_equal = beat.digest[..] == sum.sum.to_be_bytes();
        repair::driver::compared(inner, peer, is_equal);
    }
}

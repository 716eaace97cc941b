// SPDX-License-Identifier: Apache-2.0
//! One master after the other, against a real one.

use std::net::SocketAddr;

use dulse_client::{Ask, MasterClient, Masters, listed_filers};
use dulse_master::{Master, MasterOptions};
use dulse_proto::master::GetMasterConfigurationRequest;
use dulse_transport::Transport;
use dulse_types::ServerAddress;
use tonic::{Code, Status};

/// A port that was free a moment ago.
fn free_port() -> u16 {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().port()
}

fn nobody() -> ServerAddress {
    ServerAddress::new("127.0.0.1", free_port(), free_port()).unwrap()
}

async fn master(dir: &tempfile::TempDir) -> (Master, ServerAddress) {
    let address = nobody();
    let options = MasterOptions {
        address: address.clone(),
        dir: dir.path().to_owned(),
        volume_size_limit_bytes: 1 << 30,
        default_replication: String::new(),
        transport: Transport::plain(),
    };
    let at = |text: String| text.parse::<SocketAddr>().unwrap();
    let started = Master::start(options, at(address.http()), at(address.grpc())).await;
    (started.unwrap(), address)
}

async fn leader(mut master: MasterClient) -> Result<String, Status> {
    let request = GetMasterConfigurationRequest {};
    let answer = master.get_master_configuration(request).await?;
    Ok(answer.into_inner().leader)
}

#[tokio::test]
async fn masters_that_do_not_answer_are_passed_over() {
    let dir = tempfile::tempdir().unwrap();
    let (running, address) = master(&dir).await;
    let listed = vec![nobody(), nobody(), address.clone()];
    let masters = Masters::new(Transport::plain(), listed);
    assert_eq!(
        masters.ask(Ask::ONCE, leader).await.unwrap(),
        address.to_string()
    );
    assert_eq!(
        listed_filers(&masters, "").await.unwrap(),
        Vec::<String>::new()
    );
    running.stop().await;
}

#[tokio::test]
async fn when_none_answers_the_last_ones_words_are_told() {
    let (first, last) = (nobody(), nobody());
    let masters = Masters::new(Transport::plain(), vec![first, last]);
    let status = masters.ask(Ask::ONCE, leader).await.unwrap_err();
    assert_eq!(status.code(), Code::Unavailable);
    assert!(
        status.message().starts_with("master 127.0.0.1:"),
        "{status}"
    );
    let none = Masters::new(Transport::plain(), Vec::new());
    let status = none.ask(Ask::ONCE, leader).await.unwrap_err();
    assert_eq!(status.message(), "no master is configured");
}

#[tokio::test]
async fn the_leader_that_another_names_is_asked_next() {
    let dir = tempfile::tempdir().unwrap();
    let (running, address) = master(&dir).await;
    // It names itself: the address it has is not the one it was asked at.
    let alias = ServerAddress::new("localhost", address.port(), address.grpc_port()).unwrap();
    let masters = Masters::new(Transport::plain(), vec![alias]);
    let n_asked = std::sync::atomic::AtomicUsize::new(0);
    let asked = masters.ask(Ask::ONCE, |master| {
        let n = n_asked.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        async move {
            match n {
                0 => Err(Status::unknown("raft.Server: Not current leader")),
                _ => leader(master).await,
            }
        }
    });
    assert_eq!(asked.await.unwrap(), address.to_string());
    running.stop().await;
}

#[tokio::test]
async fn a_refusal_is_not_repeated() {
    let dir = tempfile::tempdir().unwrap();
    let (running, address) = master(&dir).await;
    let masters = Masters::new(Transport::plain(), vec![address.clone(), address]);
    let n_asked = std::sync::atomic::AtomicUsize::new(0);
    let ask = Ask {
        budget: std::time::Duration::from_secs(60),
        is_final: |status| status.code() == Code::InvalidArgument,
    };
    let asked = masters.ask(ask, |_| {
        n_asked.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        async { Err::<(), _>(Status::invalid_argument("no")) }
    });
    assert_eq!(asked.await.unwrap_err().code(), Code::InvalidArgument);
    assert_eq!(n_asked.into_inner(), 1);
    running.stop().await;
}

// SPDX-License-Identifier: Apache-2.0
//! Calls of upstream's interfaces that no other test makes, at real processes: volumes and
//! collections through the filer, what the master lists, health, reflection, and what is
//! not served.

use anyhow::{Context, Result, ensure};
use dulse_proto::filer as pb;
use dulse_proto::master as mpb;
use dulse_proto::master::seaweed_client::SeaweedClient;
use dulse_tests::{Cluster, wait_for};
use tonic::Code;
use tonic::transport::{Channel, Endpoint};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;
use tonic_reflection::pb::v1::ServerReflectionRequest;
use tonic_reflection::pb::v1::server_reflection_client::ServerReflectionClient;
use tonic_reflection::pb::v1::server_reflection_request::MessageRequest;
use tonic_reflection::pb::v1::server_reflection_response::MessageResponse;

async fn channel(http_port: u16) -> Result<Channel> {
    let endpoint = Endpoint::from_shared(format!("http://127.0.0.1:{}", http_port + 10_000))?;
    Ok(endpoint.connect().await?)
}

fn lookup(directory: &str, name: &str) -> pb::LookupDirectoryEntryRequest {
    pb::LookupDirectoryEntryRequest {
        directory: directory.to_owned(),
        name: name.to_owned(),
    }
}

#[tokio::test]
async fn many_entries_are_looked_up_in_one_call() -> Result<()> {
    let cluster = Cluster::start(&["redb"]).await?;
    cluster.mkdir(0, "/many/a").await?;
    cluster.mkdir(0, "/many/b").await?;
    let mut client = cluster.grpc(0).await?;
    let request = pb::LookupDirectoryEntriesRequest {
        requests: vec![
            lookup("/many", "b"),
            lookup("/many", "none"),
            lookup("not absolute", "x"),
            lookup("/many", "a"),
        ],
        ..pb::LookupDirectoryEntriesRequest::default()
    };
    let results = client.lookup_directory_entries(request).await?;
    let results = results.into_inner().results;
    let found: Vec<bool> = results.iter().map(|r| r.found).collect();
    ensure!(found == [true, false, false, true], "{found:?}");
    ensure!(results[1].error.is_empty(), "missing is no error");
    ensure!(!results[2].error.is_empty(), "what cannot be a path is one");
    for (at, name) in [(0, "b"), (3, "a")] {
        let entry = results[at].entry.clone().context("an entry")?;
        ensure!(entry.take_name()?.1 == name, "answers keep the order");
    }
    Ok(())
}

#[tokio::test]
async fn volumes_and_collections_are_reached_through_the_filer() -> Result<()> {
    let cluster = Cluster::start(&["redb"]).await?;
    cluster.put(0, "/first", b"first".to_vec()).await?;
    let mut client = cluster.grpc(0).await?;
    let wanted = pb::AssignVolumeRequest {
        count: 3,
        path: "/buckets/shop/x".to_owned(),
        ..pb::AssignVolumeRequest::default()
    };
    let assigned = client.assign_volume(wanted).await?.into_inner();
    ensure!(assigned.error.is_empty(), "{}", assigned.error);
    ensure!(
        (assigned.count, &*assigned.collection) == (3, "shop"),
        "{assigned:?}"
    );
    let at = assigned.location.context("a location")?.url;
    ensure!(at == format!("127.0.0.1:{}", cluster.volume_port), "{at}");
    let written = cluster
        .http
        .put(format!("http://{at}/{}", assigned.file_id));
    let written = written.body("direct").send().await?;
    ensure!(written.status().is_success(), "{}", written.status());

    let (volume_id, _) = assigned.file_id.split_once(',').context("a file id")?;
    let volume_ids = vec![volume_id.to_owned(), "4000000".to_owned(), "x".to_owned()];
    let located = client
        .lookup_volume(pb::LookupVolumeRequest { volume_ids })
        .await?;
    let map = located.into_inner().locations_map;
    ensure!(
        map.len() == 1,
        "volumes that are not there spoil nothing: {map:?}"
    );
    ensure!(map[volume_id].locations[0].url == at, "{map:?}");

    let list = pb::CollectionListRequest {
        include_normal_volumes: true,
        ..pb::CollectionListRequest::default()
    };
    let collections = client.collection_list(list).await?.into_inner().collections;
    ensure!(
        collections.iter().any(|c| c.name == "shop"),
        "{collections:?}"
    );
    let figures = || {
        let mut client = client.clone();
        async move {
            let asked = pb::StatisticsRequest {
                collection: "shop".to_owned(),
                ..pb::StatisticsRequest::default()
            };
            let figures = client.statistics(asked).await;
            figures.is_ok_and(|f| f.get_ref().file_count == 1 && f.get_ref().used_size > 0)
        }
    };
    wait_for("statistics that count the file", figures).await?;
    let collection = "shop".to_owned();
    client
        .delete_collection(pb::DeleteCollectionRequest { collection })
        .await?;
    let list = pb::CollectionListRequest {
        include_normal_volumes: true,
        ..pb::CollectionListRequest::default()
    };
    let collections = client.collection_list(list).await?.into_inner().collections;
    ensure!(
        !collections.iter().any(|c| c.name == "shop"),
        "{collections:?}"
    );
    ensure!(
        cluster.get(0, "/first").await?.as_deref() == Some(b"first"),
        "others stay"
    );
    Ok(())
}

#[tokio::test]
async fn a_filer_pings_itself_peers_and_masters_and_nobody_else() -> Result<()> {
    let cluster = Cluster::start(&["redb", "redb"]).await?;
    let mut client = cluster.grpc(0).await?;
    let address = |port: u16| format!("127.0.0.1:{port}.{}", port + 10_000);
    for (target, kind, is_known) in [
        (String::new(), "", true),
        (address(cluster.filer_ports[1]), "filer", true),
        (address(cluster.master_port), "master", true),
        ("127.0.0.1:1.2".to_owned(), "filer", false),
    ] {
        let request = pb::PingRequest {
            target: target.clone(),
            target_type: kind.to_owned(),
        };
        match client.ping(request).await {
            Ok(pong) => ensure!(is_known && pong.get_ref().remote_time_ns > 0, "{target}"),
            Err(status) => ensure!(
                !is_known && status.code() == Code::InvalidArgument,
                "{target}: {status}"
            ),
        }
    }
    Ok(())
}

#[tokio::test]
async fn the_master_lists_filers_volumes_and_collections() -> Result<()> {
    let cluster = Cluster::start(&["redb", "sqlite"]).await?;
    cluster
        .put(0, "/buckets/bucket1/f", b"content".to_vec())
        .await?;
    let mut master = SeaweedClient::new(channel(cluster.master_port).await?);
    let asked = mpb::ListClusterNodesRequest {
        client_type: "filer".to_owned(),
        ..mpb::ListClusterNodesRequest::default()
    };
    let nodes = master
        .list_cluster_nodes(asked)
        .await?
        .into_inner()
        .cluster_nodes;
    for port in &cluster.filer_ports {
        let address = format!("127.0.0.1:{port}");
        let n = nodes
            .iter()
            .filter(|n| n.address.starts_with(&address))
            .count();
        ensure!(n == 1, "{address} in {nodes:?}");
    }
    let listed = master
        .volume_list(mpb::VolumeListRequest::default())
        .await?
        .into_inner();
    let topology = listed.topology_info.context("a topology")?;
    let racks = topology
        .data_center_infos
        .iter()
        .flat_map(|dc| &dc.rack_infos);
    let disks = racks
        .flat_map(|rack| &rack.data_node_infos)
        .flat_map(|node| node.disk_infos.values());
    let volumes: Vec<_> = disks.flat_map(|disk| &disk.volume_infos).collect();
    ensure!(
        volumes.iter().any(|v| v.collection == "bucket1"),
        "{volumes:?}"
    );
    let list = mpb::CollectionListRequest {
        include_normal_volumes: true,
        ..mpb::CollectionListRequest::default()
    };
    let collections = master.collection_list(list).await?.into_inner().collections;
    ensure!(
        collections.iter().any(|c| c.name == "bucket1"),
        "{collections:?}"
    );
    let name = "bucket1".to_owned();
    master
        .collection_delete(mpb::CollectionDeleteRequest { name })
        .await?;
    let figures = master.statistics(mpb::StatisticsRequest {
        collection: "bucket1".to_owned(),
        ..mpb::StatisticsRequest::default()
    });
    ensure!(
        figures.await?.get_ref().file_count == 0,
        "the collection is gone"
    );
    Ok(())
}

#[tokio::test]
async fn every_role_tells_health_and_its_interface() -> Result<()> {
    let cluster = Cluster::start(&["redb"]).await?;
    for (port, service) in [
        (cluster.master_port, "master_pb.Seaweed"),
        (cluster.volume_port, "volume_server_pb.VolumeServer"),
        (cluster.filer_ports[0], "filer_pb.SeaweedFiler"),
    ] {
        let channel = channel(port).await?;
        let mut health = HealthClient::new(channel.clone());
        for name in ["", service] {
            let asked = HealthCheckRequest {
                service: name.to_owned(),
            };
            let is = health.check(asked).await?.into_inner().status();
            ensure!(is == ServingStatus::Serving, "{service} `{name}`: {is:?}");
        }
        let mut reflection = ServerReflectionClient::new(channel);
        let request = ServerReflectionRequest {
            host: String::new(),
            message_request: Some(MessageRequest::FileContainingSymbol(service.to_owned())),
        };
        let asked = reflection.server_reflection_info(tokio_stream::once(request));
        let answer = asked
            .await?
            .into_inner()
            .message()
            .await?
            .context("an answer")?;
        let is_told = matches!(
            answer.message_response,
            Some(MessageResponse::FileDescriptorResponse(files)) if !files.file_descriptor_proto.is_empty()
        );
        ensure!(is_told, "{service} is not reflected");
        let page = cluster
            .http
            .get(format!("http://127.0.0.1:{port}/"))
            .send()
            .await?;
        let kind = page.headers()["content-type"].to_str()?.to_owned();
        ensure!(
            page.status() == 200 && kind.starts_with("text/html"),
            "{service}: {kind}"
        );
    }
    Ok(())
}

#[tokio::test]
async fn rules_written_at_one_filer_hold_at_another() -> Result<()> {
    let cluster = Cluster::start(&["redb", "sqlite"]).await?;
    cluster.put(1, "/shut/before", b"x".to_vec()).await?;
    let rules = r#"{"version":1,"locations":[{"locationPrefix":"/shut/","readOnly":true}]}"#;
    let part = reqwest::multipart::Part::text(rules).file_name("filer.conf");
    let form = reqwest::multipart::Form::new().part("file", part);
    let at = cluster.url(0, "/etc/seaweedfs/filer.conf");
    let written = cluster.http.post(at).multipart(form).send().await?;
    ensure!(written.status() == 201, "{}", written.status());
    let status = |path: &'static str| {
        let request = cluster.http.put(cluster.url(1, path)).body("more");
        async move { request.send().await.map_or(0, |a| a.status().as_u16()) }
    };
    wait_for("the rules", || async { status("/shut/new").await == 507 }).await?;
    ensure!(status("/shut/before?op=append").await == 507, "append");
    ensure!(status("/open/new").await == 201, "elsewhere");
    let kept = cluster.get(1, "/shut/before").await?;
    ensure!(kept.as_deref() == Some(b"x"), "{kept:?}");
    cluster.mkdir(0, "/open/dir").await?;
    let gone = cluster
        .http
        .delete(cluster.url(0, "/etc/seaweedfs/filer.conf"));
    ensure!(
        gone.send().await?.status() == 204,
        "rules go with their entry"
    );
    wait_for("no rules", || async { status("/shut/new").await == 201 }).await
}

#[tokio::test]
async fn what_is_not_served_says_so() -> Result<()> {
    let cluster = Cluster::start(&["redb"]).await?;
    let mut client = cluster.grpc(0).await?;
    let codes = [
        client
            .touch_access_time(pb::TouchAccessTimeRequest::default())
            .await
            .err(),
        client
            .object_transaction(pb::ObjectTransactionRequest::default())
            .await
            .err(),
        client
            .object_transaction_batch(pb::ObjectTransactionBatchRequest::default())
            .await
            .err(),
        client
            .cache_remote_object_to_local_cluster(
                pb::CacheRemoteObjectToLocalClusterRequest::default(),
            )
            .await
            .err(),
    ];
    for status in codes {
        let status = status.context("an unserved call succeeded")?;
        ensure!(status.code() == Code::Unimplemented, "{status}");
        ensure!(
            status.message().contains("is not served by this version"),
            "{status}"
        );
    }
    Ok(())
}

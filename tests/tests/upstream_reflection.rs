// SPDX-License-Identifier: Apache-2.0
//! Our compiled interface against the one that the running `weed` 4.48 tells by reflection,
//! both ways.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result, bail, ensure};
use dulse_tests::{Role, free_port, wait_for, weed};
use prost::Message;
use prost_types::{
    DescriptorProto, EnumDescriptorProto, FileDescriptorProto, FileDescriptorSet,
    ServiceDescriptorProto,
};
use tonic::transport::Endpoint;
use tonic_reflection::pb::v1::server_reflection_client::ServerReflectionClient;
use tonic_reflection::pb::v1::server_reflection_request::MessageRequest;
use tonic_reflection::pb::v1::server_reflection_response::MessageResponse;
use tonic_reflection::pb::v1::{ServerReflectionRequest, ServerReflectionResponse};

/// Which service is asked for at which role.
const SERVICES: &[(&str, usize)] = &[
    ("master_pb.Seaweed", 0),
    ("volume_server_pb.VolumeServer", 1),
    ("filer_pb.SeaweedFiler", 2),
];

/// Every file that defines a service, with all it imports.
async fn files_of(port: u16, symbol: &str) -> Result<Vec<FileDescriptorProto>> {
    let endpoint = Endpoint::from_shared(format!("http://127.0.0.1:{port}"))?;
    let mut client = ServerReflectionClient::new(endpoint.connect().await?);
    let request = ServerReflectionRequest {
        host: String::new(),
        message_request: Some(MessageRequest::FileContainingSymbol(symbol.to_owned())),
    };
    let requests = tokio_stream::once(request);
    let mut answers = client.server_reflection_info(requests).await?.into_inner();
    let answer: ServerReflectionResponse = answers.message().await?.context("an answer")?;
    match answer.message_response {
        Some(MessageResponse::FileDescriptorResponse(files)) => {
            let files = files.file_descriptor_proto.iter();
            let decoded = files.map(|bytes| FileDescriptorProto::decode(&bytes[..]));
            Ok(decoded.collect::<Result<_, _>>()?)
        }
        other => bail!("{symbol}: {other:?}"),
    }
}

/// One line per field, enum value and method of a file.
fn rows(file: &FileDescriptorProto) -> BTreeSet<String> {
    let mut out = BTreeSet::new();
    let package = format!(".{}", file.package());
    for message in &file.message_type {
        message_rows(&package, message, &mut out);
    }
    for one in &file.enum_type {
        enum_rows(&package, one, &mut out);
    }
    for service in &file.service {
        service_rows(&package, service, &mut out);
    }
    out
}

fn message_rows(parent: &str, message: &DescriptorProto, out: &mut BTreeSet<String>) {
    let name = format!("{parent}.{}", message.name());
    for field in &message.field {
        out.insert(format!(
            "{name} {} {} {:?} {:?} {}",
            field.number(),
            field.name(),
            field.r#type(),
            field.label(),
            field.type_name()
        ));
    }
    for nested in &message.nested_type {
        message_rows(&name, nested, out);
    }
    for one in &message.enum_type {
        enum_rows(&name, one, out);
    }
}

fn enum_rows(parent: &str, one: &EnumDescriptorProto, out: &mut BTreeSet<String>) {
    for value in &one.value {
        out.insert(format!(
            "{parent}.{} {} {}",
            one.name(),
            value.number(),
            value.name()
        ));
    }
}

fn service_rows(package: &str, service: &ServiceDescriptorProto, out: &mut BTreeSet<String>) {
    for method in &service.method {
        out.insert(format!(
            "{package}.{}/{} {} {} {} {}",
            service.name(),
            method.name(),
            method.input_type(),
            method.output_type(),
            method.client_streaming(),
            method.server_streaming()
        ));
    }
}

#[tokio::test]
async fn our_interface_is_the_one_that_the_running_weed_tells() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let place = |name: &str| -> Result<String> {
        let path = dir.path().join(name);
        std::fs::create_dir_all(&path)?;
        Ok(path.display().to_string())
    };
    let ports = [free_port()?, free_port()?, free_port()?];
    let start = |kind: &str, more: Vec<String>, port: u16| {
        let common = [kind, "-ip=127.0.0.1", "-ip.bind=127.0.0.1"];
        let mut arguments: Vec<String> = common.map(str::to_owned).to_vec();
        arguments.push(format!("-port={port}"));
        arguments.extend(more);
        Role::start_program(weed()?, arguments)
    };
    let master = format!("-master=127.0.0.1:{}", ports[0]);
    let _roles = [
        start(
            "master",
            vec![format!("-mdir={}", place("m")?), "-peers=none".to_owned()],
            ports[0],
        )?,
        start(
            "volume",
            vec![format!("-dir={}", place("v")?), master.clone()],
            ports[1],
        )?,
        start(
            "filer",
            vec![format!("-defaultStoreDir={}", place("f")?), master],
            ports[2],
        )?,
    ];
    let set = FileDescriptorSet::decode(dulse_proto::FILE_DESCRIPTOR_SET)?;
    let ours: BTreeMap<&str, &FileDescriptorProto> =
        set.file.iter().map(|file| (file.package(), file)).collect();
    for (symbol, role) in SERVICES {
        let port = ports[*role] + 10_000;
        wait_for(symbol, || async { files_of(port, symbol).await.is_ok() }).await?;
        let mut n_compared = 0;
        for theirs in files_of(port, symbol).await? {
            // Imports that come along, as google.protobuf's, are not ours to define.
            let Some(ours) = ours.get(theirs.package()) else {
                continue;
            };
            let (ours, theirs) = (rows(ours), rows(&theirs));
            let missing: Vec<_> = theirs.difference(&ours).collect();
            let extra: Vec<_> = ours.difference(&theirs).collect();
            ensure!(
                missing.is_empty() && extra.is_empty(),
                "{symbol}: -{missing:?} +{extra:?}"
            );
            n_compared += ours.len();
        }
        ensure!(
            n_compared > 100,
            "{symbol}: only {n_compared} rows compared"
        );
        println!("{symbol}: {n_compared} fields, values and methods alike");
    }
    Ok(())
}

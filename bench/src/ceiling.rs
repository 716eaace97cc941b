// SPDX-License-Identifier: Apache-2.0
//! The ceiling: empty services that answer the same messages and keep nothing.
//!
//! What they cost is what the protocol stack costs; no filer on it can be cheaper.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::task::{Context, Poll};

use anyhow::Result;
use bytes::Bytes;
use dulse_proto::filer as pb;
use futures::future::{BoxFuture, Ready, ready};
use futures::stream::{self, Iter};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;
use tonic::body::Body;
use tonic::codegen::Service;
use tonic::server::{Grpc, NamedService, ServerStreamingService, UnaryService};
use tonic::{Request, Response, Status};
use tonic_prost::ProstCodec;

use crate::entries;

/// Serves on two addresses until the process ends.
///
/// # Errors
///
/// When an address is taken.
pub(crate) async fn serve(http: SocketAddr, grpc: SocketAddr) -> Result<()> {
    let http = TcpListener::bind(http).await?;
    tokio::spawn(serve_http(http));
    let incoming = tonic::transport::server::TcpIncoming::bind(grpc)
        .map_err(|e| anyhow::anyhow!("listen on {grpc}: {e}"))?
        .with_nodelay(Some(true));
    tonic::transport::Server::builder()
        .add_service(Empty::new())
        .serve_with_incoming(incoming)
        .await?;
    Ok(())
}

/// The filer's service without a filer.
#[derive(Clone)]
struct Empty {
    listing: Arc<Vec<Result<pb::ListEntriesResponse, Status>>>,
}

impl Empty {
    fn new() -> Self {
        let row = |n| {
            Ok(pb::ListEntriesResponse {
                entry: Some(entries::file(n, 0)),
                snapshot_ts_ns: 0,
            })
        };
        Self {
            listing: Arc::new((0..entries::FILES_PER_DIRECTORY).map(row).collect()),
        }
    }
}

impl NamedService for Empty {
    const NAME: &'static str = "filer_pb.SeaweedFiler";
}

type Answer<T> = Ready<Result<Response<T>, Status>>;

macro_rules! unary {
    ($name:ident, $request:ty, $answer:ty, $make:expr) => {
        struct $name;
        impl UnaryService<$request> for $name {
            type Response = $answer;
            type Future = Answer<$answer>;
            fn call(&mut self, request: Request<$request>) -> Self::Future {
                let make: fn($request) -> $answer = $make;
                ready(Ok(Response::new(make(request.into_inner()))))
            }
        }
    };
}

/// The event that answers of writes carry.
fn event(
    directory: String,
    new_entry: Option<dulse_types::Entry>,
) -> Option<pb::SubscribeMetadataResponse> {
    Some(pb::SubscribeMetadataResponse {
        event_notification: Some(pb::EventNotification {
            new_entry,
            new_parent_path: directory.clone(),
            signatures: vec![1],
            ..pb::EventNotification::default()
        }),
        directory,
        ts_ns: 1,
        ..pb::SubscribeMetadataResponse::default()
    })
}

unary!(
    Create,
    pb::CreateEntryRequest,
    pb::CreateEntryResponse,
    |r| {
        pb::CreateEntryResponse {
            metadata_event: event(r.directory, r.entry),
            ..pb::CreateEntryResponse::default()
        }
    }
);
unary!(
    Update,
    pb::UpdateEntryRequest,
    pb::UpdateEntryResponse,
    |r| {
        pb::UpdateEntryResponse {
            metadata_event: event(r.directory, r.entry),
            ..pb::UpdateEntryResponse::default()
        }
    }
);
unary!(
    Delete,
    pb::DeleteEntryRequest,
    pb::DeleteEntryResponse,
    |r| {
        pb::DeleteEntryResponse {
            metadata_event: event(r.directory, Some(entries::file(1, 0))),
            ..pb::DeleteEntryResponse::default()
        }
    }
);
unary!(
    Lookup,
    pb::LookupDirectoryEntryRequest,
    pb::LookupDirectoryEntryResponse,
    |_| {
        pb::LookupDirectoryEntryResponse {
            entry: Some(entries::file(1, 0)),
            ..pb::LookupDirectoryEntryResponse::default()
        }
    }
);

struct List(Arc<Vec<Result<pb::ListEntriesResponse, Status>>>);

impl ServerStreamingService<pb::ListEntriesRequest> for List {
    type Response = pb::ListEntriesResponse;
    type ResponseStream = Iter<std::vec::IntoIter<Result<pb::ListEntriesResponse, Status>>>;
    type Future = Answer<Self::ResponseStream>;
    fn call(&mut self, _: Request<pb::ListEntriesRequest>) -> Self::Future {
        ready(Ok(Response::new(stream::iter(self.0.to_vec()))))
    }
}

impl Service<http::Request<Body>> for Empty {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let listing = Arc::clone(&self.listing);
        Box::pin(async move {
            let method = request.uri().path().rsplit('/').next().unwrap_or_default();
            Ok(match method {
                "CreateEntry" => grpc().unary(Create, request).await,
                "UpdateEntry" => grpc().unary(Update, request).await,
                "DeleteEntry" => grpc().unary(Delete, request).await,
                "LookupDirectoryEntry" => grpc().unary(Lookup, request).await,
                "ListEntries" => grpc().server_streaming(List(listing), request).await,
                _ => Status::unimplemented("the ceiling has no such call").into_http(),
            })
        })
    }
}

fn grpc<Reply, Asked>() -> Grpc<ProstCodec<Reply, Asked>>
where
    Reply: prost::Message + 'static,
    Asked: prost::Message + Default + 'static,
{
    Grpc::new(ProstCodec::default())
}

async fn serve_http(listener: TcpListener) {
    let content = Bytes::from(entries::content(1));
    while let Ok((stream, _)) = listener.accept().await {
        // A socket without the option is slower, not wrong.
        let _ = stream.set_nodelay(true);
        let content = content.clone();
        let answering = service_fn(move |r| answer(r, content.clone()));
        let serving = hyper::server::conn::http1::Builder::new()
            .serve_connection(TokioIo::new(stream), answering);
        tokio::spawn(async move {
            if let Err(error) = serving.await {
                eprintln!("ceiling: {error}");
            }
        });
    }
}

/// Takes what is put, gives 4 KiB for a get.
async fn answer(
    request: hyper::Request<Incoming>,
    content: Bytes,
) -> Result<hyper::Response<Full<Bytes>>, hyper::Error> {
    let is_put = request.method() == hyper::Method::PUT;
    request.into_body().collect().await?;
    let (code, body) = if is_put {
        (201, Bytes::from_static(b"{}"))
    } else {
        (200, content)
    };
    let mut answer = hyper::Response::new(Full::new(body));
    *answer.status_mut() = hyper::StatusCode::from_u16(code).unwrap_or_default();
    Ok(answer)
}

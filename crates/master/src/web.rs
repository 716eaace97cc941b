// SPDX-License-Identifier: Apache-2.0
//! The master over HTTP: assign, look up, status, health.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::extract::{ConnectInfo, Query, Request, State as Shared};
use axum::http::{StatusCode, Uri, header};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{Html, IntoResponse, Json, Response};
use axum::routing::get;
use dulse_proto::master as pb;
use dulse_transport::Guarded;
use serde_json::{Value, json};
use tonic::Code;

use crate::growth::grow_by;
use crate::service::State;
use crate::{page, tree};

type Parameters = Query<HashMap<String, String>>;

/// Routes of the master.
pub(crate) fn router(state: Arc<State>) -> Router {
    let ok = || async { StatusCode::OK };
    Router::new()
        .route("/healthz", get(ok))
        .route("/readyz", get(ok))
        .route("/cluster/healthz", get(ok))
        .route("/cluster/status", get(cluster_status))
        .merge(guarded(&state))
        .fallback(redirect)
        .with_state(state)
}

/// Routes for those whom the white list names.
fn guarded(state: &Arc<State>) -> Router<Arc<State>> {
    Router::new()
        .route("/dir/assign", get(assign).post(assign))
        .route("/dir/lookup", get(lookup))
        .route("/dir/status", get(dir_status))
        .route("/vol/status", get(vol_status))
        .route("/vol/grow", get(vol_grow).post(vol_grow))
        .route("/col/delete", get(col_delete).post(col_delete))
        .route("/collection/info", get(collection_info))
        .route("/", get(page))
        .route("/ui/index.html", get(page))
        .route_layer(from_fn_with_state(Arc::clone(state), admit))
}

async fn admit(Shared(state): Shared<Arc<State>>, request: Request, next: Next) -> Response {
    let peer = request.extensions().get::<ConnectInfo<SocketAddr>>();
    let white_list = state.options.transport.white_list();
    if white_list.admits_peer(peer.map(|peer| peer.0)) {
        return next.run(request).await;
    }
    StatusCode::UNAUTHORIZED.into_response()
}

/// JSON, spread over lines when `pretty` asks for it; as upstream.
fn body(status: StatusCode, value: &Value, q: &HashMap<String, String>) -> Response {
    let is_pretty = q.get("pretty").is_some_and(|v| !v.is_empty());
    let text = match is_pretty {
        true => serde_json::to_vec_pretty(value),
        false => serde_json::to_vec(value),
    };
    let kind = [(header::CONTENT_TYPE, "application/json")];
    // A value of strings and numbers always has a text.
    (status, kind, text.unwrap_or_default()).into_response()
}

fn refusal(status: StatusCode, error: &str) -> Response {
    (status, Json(json!({ "error": error }))).into_response()
}

async fn cluster_status(Shared(state): Shared<Arc<State>>, Query(q): Parameters) -> Response {
    let max = state.stored.lock().max_volume_id();
    let leader = state.options.address.to_string();
    let mut value = json!({ "IsLeader": true, "Leader": leader });
    if max > 0 {
        value["MaxVolumeId"] = max.into();
    }
    body(StatusCode::OK, &value, &q)
}

async fn dir_status(Shared(state): Shared<Arc<State>>, Query(q): Parameters) -> Response {
    body(StatusCode::OK, &tree::dir_status(&state), &q)
}

async fn vol_status(Shared(state): Shared<Arc<State>>, Query(q): Parameters) -> Response {
    body(StatusCode::OK, &tree::vol_status(&state), &q)
}

async fn page(Shared(state): Shared<Arc<State>>) -> Response {
    Html(page::render(&state)).into_response()
}

/// Sends a reader of a file id to a server that has its volume, over HTTPS where
/// `[https.client]` says that volume servers speak it.
async fn redirect(Shared(state): Shared<Arc<State>>, uri: Uri) -> Response {
    let path = uri.path().trim_start_matches('/');
    let volume_id = path.split([',', '/']).next().unwrap_or_default();
    let Ok(volume_id) = volume_id.parse::<u32>() else {
        return refusal(StatusCode::NOT_FOUND, "expected /volume,keycookie");
    };
    let topology = state.topology.lock();
    let Some(node) = topology.locate(volume_id).into_iter().next() else {
        let error = format!("volume id {volume_id} not found");
        return refusal(StatusCode::NOT_FOUND, &error);
    };
    let query = uri.query().map(|q| format!("?{q}")).unwrap_or_default();
    let scheme = state.options.transport.http_scheme();
    let to = format!("{scheme}://{}/{path}{query}", node.public_url);
    (StatusCode::PERMANENT_REDIRECT, [(header::LOCATION, to)]).into_response()
}

/// What a query asks of a volume.
fn asked(q: &HashMap<String, String>) -> pb::AssignRequest {
    let text = |key: &str| q.get(key).cloned().unwrap_or_default();
    let number = |key: &str| text(key).parse().unwrap_or(0);
    pb::AssignRequest {
        count: text("count").parse().unwrap_or(1),
        replication: text("replication"),
        collection: text("collection"),
        ttl: text("ttl"),
        data_center: text("dataCenter"),
        rack: text("rack"),
        data_node: text("dataNode"),
        disk_type: text("disk"),
        writable_volume_count: u32::try_from(number("writableVolumeCount")).unwrap_or(u32::MAX),
        expected_data_size: number("dataSize"),
        ..pb::AssignRequest::default()
    }
}

async fn vol_grow(Shared(state): Shared<Arc<State>>, Query(q): Parameters) -> Response {
    let count = match q.get("count").map(|text| text.parse::<usize>()) {
        None | Some(Ok(0)) => None,
        Some(Ok(count)) => Some(count),
        Some(Err(_)) => {
            return refusal(
                StatusCode::NOT_ACCEPTABLE,
                "count: expected a number of volumes",
            );
        }
    };
    let wish = match state.wish(&asked(&q)) {
        Ok(wish) => wish,
        Err(status) => return refusal(StatusCode::NOT_ACCEPTABLE, status.message()),
    };
    match grow_by(&state, &wish, count).await {
        Ok(made) => body(StatusCode::OK, &json!({ "count": made }), &q),
        Err(error) => refusal(StatusCode::NOT_ACCEPTABLE, &error.to_string()),
    }
}

async fn col_delete(Shared(state): Shared<Arc<State>>, Query(q): Parameters) -> Response {
    let name = q.get("collection").cloned().unwrap_or_default();
    let is_there = state.topology.lock().has_collection(&name);
    if name.is_empty() || !is_there {
        let error = format!("collection {name} does not exist");
        return refusal(StatusCode::BAD_REQUEST, &error);
    }
    match state.delete_collection(&name).await {
        Ok(()) => StatusCode::NO_CONTENT.into_response(),
        Err(status) => refusal(StatusCode::INTERNAL_SERVER_ERROR, status.message()),
    }
}

async fn collection_info(Shared(state): Shared<Arc<State>>, Query(q): Parameters) -> Response {
    let Some(name) = q.get("collection").filter(|name| !name.is_empty()) else {
        return refusal(StatusCode::BAD_REQUEST, "collection is required");
    };
    body(StatusCode::OK, &tree::collection_info(&state, name), &q)
}

async fn assign(Shared(state): Shared<Arc<State>>, Query(q): Parameters) -> Response {
    let request = asked(&q);
    let center = &request.data_center;
    if !state.topology.lock().has_data_center(center) {
        let error = format!("data center {center} not found in topology");
        return refusal(StatusCode::BAD_REQUEST, &error);
    }
    match state.assign(request).await {
        Ok(assigned) => {
            let first = assigned.locations.first().cloned().unwrap_or_default();
            let body = Json(json!({
                "fid": assigned.fid,
                "url": first.url,
                "publicUrl": first.public_url,
                "count": assigned.count,
            }));
            if assigned.auth.is_empty() {
                return body.into_response();
            }
            let bearer = format!("Bearer {}", assigned.auth);
            ([(header::AUTHORIZATION, bearer)], body).into_response()
        }
        Err(status) => {
            let answer = match status.code() {
                Code::Unavailable | Code::ResourceExhausted => {
                    refusal(StatusCode::SERVICE_UNAVAILABLE, status.message())
                }
                _ => return refusal(StatusCode::NOT_ACCEPTABLE, status.message()),
            };
            ([(header::RETRY_AFTER, "1")], answer).into_response()
        }
    }
}

/// Where a volume is. `read=yes` and tokens are upstream's.
async fn lookup(Shared(state): Shared<Arc<State>>, Query(q): Parameters) -> Response {
    let id = q
        .get("volumeId")
        .or_else(|| q.get("fileId"))
        .cloned()
        .unwrap_or_default();
    let volume_id = id.split(',').next().unwrap_or(&id).to_owned();
    let topology = state.topology.lock();
    let nodes = volume_id
        .parse()
        .map(|v| topology.locate(v))
        .unwrap_or_default();
    if nodes.is_empty() {
        let error = format!("volume id {volume_id} not found");
        let body = Json(json!({ "volumeOrFileId": id, "error": error }));
        return (StatusCode::NOT_FOUND, body).into_response();
    }
    let locations: Vec<Value> = nodes
        .into_iter()
        .map(|n| {
            json!({
                "url": n.url,
                "publicUrl": n.public_url,
                "dataCenter": n.data_center,
                "grpcPort": n.grpc_port,
            })
        })
        .collect();
    let body = Json(json!({ "volumeOrFileId": id, "locations": locations }));
    let is_read = q.get("read").is_some_and(|v| v == "yes");
    let guarded = if is_read {
        Guarded::VolumeRead
    } else {
        Guarded::VolumeWrite
    };
    let token = state.options.transport.tokens().sign_file(guarded, &id);
    if token.is_empty() || !id.contains(',') {
        return body.into_response();
    }
    ([(header::AUTHORIZATION, format!("Bearer {token}"))], body).into_response()
}

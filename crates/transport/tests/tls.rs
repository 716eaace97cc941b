// SPDX-License-Identifier: Apache-2.0
//! Who is let in over TLS, on both sides, and certificates that change meanwhile.

#[path = "../../../tests/src/authority.rs"]
#[expect(unreachable_pub, reason = "it is a module of a library, too")]
mod authority;

use std::net::SocketAddr;
use std::path::Path;
use std::time::{Duration, Instant};

use authority::Authority;
use axum::Router;
use axum::body::{Body, Bytes};
use axum::routing::get;
use dulse_config::Security;
use dulse_transport::{Dial, Service, Transport, Wire};
use http::Request;
use http_body_util::{BodyExt, Full};
use tempfile::TempDir;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;

const HERE: &str = "127.0.0.1:0";

fn dial() -> Dial {
    Dial::within(Duration::from_secs(5)).calls_within(Duration::from_secs(5))
}

/// A directory with a CA and certificates for a filer and a client.
fn certified() -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    certify(dir.path());
    dir
}

fn certify(dir: &Path) {
    let authority = Authority::new(dir).unwrap();
    for name in ["filer", "client"] {
        authority.sign(name, &["elsewhere.example.com"]).unwrap();
    }
}

fn security(dir: &Path, more: &str) -> Security {
    let dir = dir.display();
    let text = format!(
        "[grpc]\nca = \"{dir}/ca.crt\"\n\
         [grpc.client]\ncert = \"{dir}/client.crt\"\nkey = \"{dir}/client.key\"\n\
         [grpc.filer]\ncert = \"{dir}/filer.crt\"\nkey = \"{dir}/filer.key\"\n{more}"
    );
    Security::parse(Path::new("security.toml"), &text, &|_| None).unwrap()
}

fn transport(service: Service, security: &Security) -> Transport {
    Transport::new(service, security, Wire::USUAL).unwrap()
}

async fn serve_grpc(transport: &Transport) -> SocketAddr {
    let listener = transport.listen_grpc(HERE.parse().unwrap()).await.unwrap();
    let address = listener.address().unwrap();
    let (_reporter, health) = tonic_health::server::health_reporter();
    let router = listener.server().add_service(health);
    tokio::spawn(router.serve_with_incoming(listener.incoming()));
    address
}

async fn call(transport: &Transport, address: SocketAddr) -> Result<(), String> {
    let channel = transport.connect(&address.to_string(), dial()).await;
    let channel = channel.map_err(|e| e.to_string())?;
    let request = HealthCheckRequest::default();
    let checked = HealthClient::new(channel).check(request).await;
    checked.map(drop).map_err(|status| status.to_string())
}

#[tokio::test]
async fn those_whom_the_ca_signed_talk_whatever_host_they_are_on() {
    let dir = certified();
    let security = security(dir.path(), "");
    let address = serve_grpc(&transport(Service::Filer, &security)).await;
    call(&transport(Service::Client, &security), address)
        .await
        .unwrap();
    call(&transport(Service::Filer, &security), address)
        .await
        .unwrap();
}

#[tokio::test]
async fn plain_text_and_strangers_are_refused_on_both_sides() {
    let (dir, strangers) = (certified(), certified());
    let ours = security(dir.path(), "");
    let theirs = security(strangers.path(), "");
    let address = serve_grpc(&transport(Service::Filer, &ours)).await;
    assert!(call(&Transport::plain(), address).await.is_err());
    let stranger = call(&transport(Service::Client, &theirs), address).await;
    assert!(stranger.unwrap_err().contains("invalid peer certificate"));
    // A stranger who believes our server is refused by it.
    let mut mixed = security(dir.path(), "");
    mixed.grpc.client = theirs.grpc.client.clone();
    assert!(
        call(&transport(Service::Client, &mixed), address)
            .await
            .is_err()
    );
    // Our server without a certificate of its own CA.
    let mut posing = security(strangers.path(), "");
    posing.grpc.ca = ours.grpc.ca.clone();
    let address = serve_grpc(&transport(Service::Filer, &posing)).await;
    let refused = call(&transport(Service::Client, &ours), address).await;
    assert!(refused.unwrap_err().contains("invalid peer certificate"));
}

#[tokio::test]
async fn common_names_narrow_who_may_call() {
    let dir = certified();
    let client = transport(Service::Client, &security(dir.path(), ""));
    for (allowed, expect) in [
        ("allowed_commonNames = \"client,other\"", true),
        ("allowed_commonNames = \"filer\"", false),
    ] {
        let server = transport(Service::Filer, &security(dir.path(), allowed));
        let address = serve_grpc(&server).await;
        assert_eq!(call(&client, address).await.is_ok(), expect, "{allowed}");
    }
}

#[tokio::test]
async fn changed_certificates_are_taken_without_a_restart() {
    let (dir, before) = (certified(), tempfile::tempdir().unwrap());
    for file in ["ca.crt", "client.crt", "client.key"] {
        std::fs::copy(dir.path().join(file), before.path().join(file)).unwrap();
    }
    let server = transport(Service::Filer, &security(dir.path(), ""));
    let client = transport(Service::Client, &security(dir.path(), ""));
    let old = transport(Service::Client, &{
        let mut security = security(dir.path(), "");
        let at = |file: &str| before.path().join(file).display().to_string();
        security.grpc.ca = at("ca.crt");
        security.grpc.client.cert = at("client.crt");
        security.grpc.client.key = at("client.key");
        security
    });
    let address = serve_grpc(&server).await;
    call(&client, address).await.unwrap();
    call(&old, address).await.unwrap();
    certify(dir.path());
    let deadline = Instant::now() + Duration::from_secs(30);
    // Both look at their files at most once a second, each in its own.
    while call(&old, address).await.is_ok() || call(&client, address).await.is_err() {
        assert!(
            Instant::now() < deadline,
            "the new certificates are not taken"
        );
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    // A rotation that goes wrong stops nobody.
    std::fs::write(dir.path().join("filer.crt"), "no certificate").unwrap();
    tokio::time::sleep(Duration::from_millis(1_100)).await;
    call(&client, address).await.unwrap();
}

#[test]
fn files_that_cannot_be_used_are_named() {
    let dir = certified();
    let make = |security: &Security| {
        let made = Transport::new(Service::Filer, security, Wire::USUAL);
        made.map(drop).map_err(|e| e.to_string())
    };
    let mut s = security(dir.path(), "");
    s.grpc.filer.key = String::new();
    assert!(
        make(&s)
            .unwrap_err()
            .contains("[grpc.filer] names only one of `cert` and `key`")
    );
    let mut s = security(dir.path(), "");
    s.grpc.filer.cert = dir.path().join("gone.crt").display().to_string();
    assert!(make(&s).unwrap_err().contains("gone.crt"));
    let mut s = security(dir.path(), "");
    s.grpc.filer.key = dir.path().join("client.key").display().to_string();
    assert!(make(&s).unwrap_err().contains("filer.crt"));
    let mut s = security(dir.path(), "");
    s.white_list = vec!["x".to_owned()];
    assert!(make(&s).unwrap_err().contains("guard.white_list"));
}

async fn fetch(transport: &Transport, host: &str, port: u16) -> Result<Bytes, String> {
    let client = transport.http_client::<Full<Bytes>>();
    let uri = format!("{}://{host}:{port}/", transport.http_scheme());
    let request = Request::get(uri).body(Full::default()).unwrap();
    let answer = client
        .request(request)
        .await
        .map_err(|e| format!("{e:?}"))?;
    let body = answer
        .into_body()
        .collect()
        .await
        .map_err(|e| e.to_string())?;
    Ok(body.to_bytes())
}

#[tokio::test]
async fn https_checks_the_name_and_asks_for_certificates_where_told() {
    let dir = tempfile::tempdir().unwrap();
    let authority = Authority::new(dir.path()).unwrap();
    authority.sign("filer", &["localhost"]).unwrap();
    authority.sign("client", &["client"]).unwrap();
    let at = dir.path().display();
    let https = |of_server: &str, of_client: &str| {
        let text = format!(
            "[https.filer]\ncert = \"{at}/filer.crt\"\nkey = \"{at}/filer.key\"\n{of_server}\n\
             [https.client]\nenabled = true\n{of_client}\n"
        );
        Security::parse(Path::new("security.toml"), &text, &|_| None).unwrap()
    };
    let ca = format!("ca = \"{at}/ca.crt\"");
    let own = format!("{ca}\ncert = \"{at}/client.crt\"\nkey = \"{at}/client.key\"");
    let off = format!("{ca}\ndisable_tls_verify_client_cert = true");
    let any = "insecure_skip_verify = true";
    for (of_server, of_client, host, expect) in [
        ("", ca.as_str(), "localhost", true),
        ("", ca.as_str(), "127.0.0.1", false),
        ("", any, "127.0.0.1", true),
        (ca.as_str(), ca.as_str(), "localhost", false),
        (ca.as_str(), own.as_str(), "localhost", true),
        (off.as_str(), ca.as_str(), "localhost", true),
    ] {
        let security = https(of_server, of_client);
        let transport = transport(Service::Filer, &security);
        let listener = transport.listen_http(HERE.parse().unwrap()).await.unwrap();
        let port = listener.address().unwrap().port();
        let router = Router::new().route("/", get(|| async { "hello" }));
        tokio::spawn(listener.serve(router, std::future::pending()));
        let got = fetch(&transport, host, port).await;
        assert_eq!(
            got.is_ok(),
            expect,
            "{of_server} {of_client} {host} {got:?}"
        );
    }
}

#[tokio::test]
async fn a_stop_lets_requests_in_flight_end() {
    let transport = Transport::plain();
    let listener = transport.listen_http(HERE.parse().unwrap()).await.unwrap();
    let address = listener.address().unwrap();
    let (reached, mut at_handler) = tokio::sync::mpsc::channel::<()>(1);
    let (go, wait) = tokio::sync::watch::channel(false);
    let slow = move || async move {
        reached.send(()).await.unwrap();
        let _ = wait.clone().wait_for(|go| *go).await;
        Body::from("ended well")
    };
    let router = Router::new().route("/", get(slow));
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let serving = tokio::spawn(listener.serve(router, async { drop(stopped.await) }));
    let client = transport.clone();
    let asked = tokio::spawn(async move { fetch(&client, "127.0.0.1", address.port()).await });
    at_handler.recv().await.unwrap();
    stop.send(()).unwrap();
    // New connections are refused once the listener is gone.
    let deadline = Instant::now() + Duration::from_secs(5);
    while tokio::net::TcpStream::connect(address).await.is_ok() {
        assert!(Instant::now() < deadline, "still listening");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert!(!serving.is_finished());
    go.send_replace(true);
    assert_eq!(asked.await.unwrap().unwrap(), "ended well");
    serving.await.unwrap();
}

#[tokio::test]
async fn headers_without_end_are_refused() {
    let transport = Transport::plain();
    let listener = transport.listen_http(HERE.parse().unwrap()).await.unwrap();
    let address = listener.address().unwrap();
    tokio::spawn(listener.serve(Router::new(), std::future::pending()));
    let client = transport.http_client::<Full<Bytes>>();
    let mut request = Request::get(format!("http://{address}/"));
    for n in 0..200 {
        request = request.header(format!("x-{n}"), "v");
    }
    let answer = client.request(request.body(Full::default()).unwrap()).await;
    assert_eq!(answer.unwrap().status(), 431);
}

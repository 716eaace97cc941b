// SPDX-License-Identifier: Apache-2.0
//! HTTP semantics, over a replica in memory and a volume server made of a map.

#[path = "http_side/cluster.rs"]
mod cluster;

use std::sync::atomic::Ordering;
use std::time::Duration;

use cluster::{start, start_late, start_ruled};
use futures::StreamExt;
use reqwest::multipart::{Form, Part};
use reqwest::{Client, Method, Response};
use serde_json::Value;
use tokio::io::AsyncWriteExt;

async fn send(method: Method, url: String, headers: &[(&str, &str)], body: &[u8]) -> Response {
    let mut request = Client::new().request(method, url).body(body.to_vec());
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    request.send().await.unwrap()
}

async fn put(url: String, body: &[u8]) -> Response {
    send(Method::PUT, url, &[], body).await
}

async fn get(url: String) -> Response {
    send(Method::GET, url, &[], b"").await
}

fn header<'a>(response: &'a Response, name: &str) -> &'a str {
    response
        .headers()
        .get(name)
        .map_or("", |v| v.to_str().unwrap())
}

fn pattern(len: usize) -> Vec<u8> {
    (0..len).map(|i| (i * 7 + i / 251) as u8).collect()
}

#[tokio::test]
async fn a_small_file_is_stored_and_read_with_upstreams_headers() {
    let (base, needles) = start(|_| {}).await;
    let headers = [("content-type", "text/plain"), ("seaweed-color", "red")];
    let url = format!("{base}/d/a.txt");
    let done = send(Method::PUT, url.clone(), &headers, b"hello world\n").await;
    assert_eq!(done.status(), 201);
    assert_eq!(header(&done, "content-md5"), "b1kCrCNwJL3QwXbLkwY9xA==");
    assert_ne!(header(&done, "dulse-token"), "");
    assert_eq!(done.text().await.unwrap(), r#"{"name":"a.txt","size":12}"#);
    assert_eq!(needles.lock().len(), 1);
    let id = *needles.lock().keys().next().unwrap();
    let proxied = get(format!("{base}/?proxyChunkId={id}")).await;
    assert_eq!(proxied.text().await.unwrap(), "hello world\n");
    assert_eq!(get(format!("{base}/?proxyChunkId=x")).await.status(), 400);
    let got = get(url.clone()).await;
    assert_eq!(got.status(), 200);
    for (name, value) in [
        ("accept-ranges", "bytes"),
        ("content-type", "text/plain"),
        ("content-length", "12"),
        ("content-disposition", "inline; filename=a.txt"),
        ("etag", "\"6f5902ac237024bdd0c176cb93063dc4\""),
        ("seaweed-color", "red"),
        (
            "access-control-expose-headers",
            "Seaweed-Color,Content-Disposition",
        ),
    ] {
        assert_eq!(header(&got, name), value);
    }
    assert_eq!(got.text().await.unwrap(), "hello world\n");
    let head = send(Method::HEAD, url.clone(), &[], b"").await;
    assert_eq!(header(&head, "content-length"), "12");
    let etag = ("if-none-match", "\"6f5902ac237024bdd0c176cb93063dc4\"");
    assert_eq!(
        send(Method::GET, url.clone(), &[etag], b"").await.status(),
        304
    );
    let other = ("if-match", "\"x\"");
    assert_eq!(send(Method::GET, url, &[other], b"").await.status(), 412);
}

#[tokio::test]
async fn a_large_file_is_chunked_and_read_in_ranges() {
    let (base, needles) = start(|_| {}).await;
    let data = pattern((3 << 20) + 777);
    let url = format!("{base}/big");
    assert_eq!(put(url.clone(), &data).await.status(), 201);
    assert_eq!(needles.lock().len(), 4);
    assert_eq!(get(url.clone()).await.bytes().await.unwrap(), data);
    for (range, expect) in [
        ("bytes=1048570-1048580", 1_048_570..1_048_581),
        ("bytes=-5", data.len() - 5..data.len()),
        ("bytes=3145000-", 3_145_000..data.len()),
    ] {
        let got = send(Method::GET, url.clone(), &[("range", range)], b"").await;
        assert_eq!(got.status(), 206);
        assert_eq!(got.bytes().await.unwrap(), data[expect]);
    }
    let beyond = [("range", "bytes=99999999-")];
    let got = send(Method::GET, url.clone(), &beyond, b"").await;
    assert_eq!(got.status(), 416);
    assert_eq!(
        header(&got, "content-range"),
        format!("bytes */{}", data.len())
    );
    let two = [("range", "bytes=0-1,4-5")];
    let got = send(Method::GET, url.clone(), &two, b"").await;
    assert_eq!(got.status(), 206);
    assert!(header(&got, "content-type").starts_with("multipart/byteranges; boundary="));
    let length: usize = header(&got, "content-length").parse().unwrap();
    let body = got.bytes().await.unwrap();
    assert_eq!(body.len(), length);
    assert_eq!(body.windows(2).filter(|w| *w == &data[4..6]).count(), 1);
    needles.lock().clear();
    assert_eq!(get(url).await.status(), 500);
}

/// Bug: a client that went away while its upload was being committed had the chunks of the
/// new file deleted: the server dropped the request, and with it what looked like chunks
/// that no entry names. Fix: writes run to their end, whoever is there to hear of it.
#[tokio::test]
async fn a_client_that_leaves_during_the_commit_does_not_take_the_chunks_with_it() {
    let delay = Duration::from_millis(500);
    let (base, needles, n_commits) = start_late(delay, |_| {}).await;
    let address = base.trim_start_matches("http://");
    let mut socket = tokio::net::TcpStream::connect(address).await.unwrap();
    let request = "PUT /kept HTTP/1.1\r\nhost: x\r\ncontent-length: 7\r\n\r\ncontent";
    socket.write_all(request.as_bytes()).await.unwrap();
    while n_commits.load(Ordering::SeqCst) == 0 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    drop(socket);
    // Longer than the sweep of chunks that nobody names waits.
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert_eq!(needles.lock().len(), 1);
    let got = get(format!("{base}/kept")).await;
    assert_eq!(got.text().await.unwrap(), "content");
}

#[tokio::test]
async fn appends_and_offsets_change_what_is_there() {
    let (base, _) = start(|_| {}).await;
    let url = format!("{base}/d/log");
    for text in ["one ", "two ", "three"] {
        let done = put(format!("{url}?op=append"), text.as_bytes()).await;
        assert_eq!(done.status(), 201);
    }
    assert_eq!(
        get(url.clone()).await.text().await.unwrap(),
        "one two three"
    );
    assert_eq!(put(format!("{url}?offset=4"), b"TWO").await.status(), 201);
    assert_eq!(put(format!("{url}?offset=16"), b"end").await.status(), 201);
    let got = get(url.clone()).await;
    assert!(header(&got, "etag").ends_with("-5\""));
    assert_eq!(got.text().await.unwrap(), "one TWO three\0\0\0end");
    assert_eq!(put(format!("{url}?offset=-1"), b"x").await.status(), 400);
    assert_eq!(put(url.clone(), b"new").await.status(), 201);
    assert_eq!(get(url).await.text().await.unwrap(), "new");
}

#[tokio::test]
async fn small_files_are_kept_in_the_entry_when_asked() {
    let (base, needles) = start(|o| o.inline_below = 1024).await;
    let url = format!("{base}/tiny");
    put(url.clone(), b"hello world\n").await;
    assert!(needles.lock().is_empty());
    let got = get(url.clone()).await;
    assert_eq!(header(&got, "content-length"), "12");
    assert_eq!(header(&got, "etag"), "\"6f5902ac237024bdd0c176cb93063dc4\"");
    let range = [("range", "bytes=6-10")];
    let got = send(Method::GET, url.clone(), &range, b"").await;
    assert_eq!(got.text().await.unwrap(), "world");
    let done = put(format!("{url}?op=append"), b"more").await;
    assert_eq!(done.status(), 201);
    assert_eq!(get(url).await.text().await.unwrap(), "hello world\nmore");
    assert_eq!(put(format!("{base}/edge"), &[0; 1024]).await.status(), 201);
    assert_eq!(needles.lock().len(), 3);
}

#[tokio::test]
async fn forms_store_their_first_part() {
    let (base, _) = start(|_| {}).await;
    let part = Part::bytes(pattern(100)).file_name("../up.bin");
    let form = Form::new().part("file", part.mime_str("image/png").unwrap());
    let client = Client::new();
    let done = client
        .post(format!("{base}/d/"))
        .multipart(form)
        .send()
        .await
        .unwrap();
    assert_eq!(done.status(), 201);
    assert_eq!(
        done.text().await.unwrap(),
        r#"{"name":"up.bin","size":100}"#
    );
    let got = get(format!("{base}/d/up.bin")).await;
    assert_eq!(header(&got, "content-type"), "image/png");
    assert_eq!(got.bytes().await.unwrap(), pattern(100));
    let bad = [("content-type", "text/plain")];
    let bad = send(Method::POST, format!("{base}/d/x"), &bad, b"x").await;
    assert_eq!(bad.status(), 415);
}

#[tokio::test]
async fn directories_are_made_listed_and_deleted() {
    let (base, _) = start(|_| {}).await;
    let made = send(Method::POST, format!("{base}/n/"), &[], b"").await;
    assert_eq!(made.status(), 201);
    let again = send(Method::POST, format!("{base}/n/"), &[], b"").await;
    assert_eq!(again.status(), 409);
    assert!(
        again
            .text()
            .await
            .unwrap()
            .contains("dir /n already exists")
    );
    let accept = [("accept", "application/json")];
    let list = |query: &str| {
        let url = format!("{base}/n/?{query}");
        async move {
            let got = send(Method::GET, url, &accept, b"").await;
            serde_json::from_slice::<Value>(&got.bytes().await.unwrap()).unwrap()
        }
    };
    let empty = list("").await;
    assert_eq!(empty["Entries"], Value::Null);
    assert_eq!(empty["EmptyFolder"], true);
    for name in ["a.txt", "b.log", "c.txt", "<script>"] {
        put(format!("{base}/n/{name}"), b"x").await;
    }
    let page = list("limit=2").await;
    assert_eq!(page["LastFileName"], "a.txt");
    assert_eq!(page["ShouldDisplayLoadMore"], true);
    let rest = list("limit=2&lastFileName=a.txt").await;
    assert_eq!(rest["ShouldDisplayLoadMore"], false);
    assert_eq!(rest["Entries"][1]["FullPath"], "/n/c.txt");
    let texts = list("namePattern=*.txt&namePatternExclude=a*").await;
    assert_eq!(texts["Entries"].as_array().unwrap().len(), 1);
    let page = get(format!("{base}/n/")).await;
    assert!(header(&page, "content-security-policy").contains("default-src 'none'"));
    let page = page.text().await.unwrap();
    assert!(page.contains("href=\"/n/%3Cscript%3E\""), "{page}");
    assert!(!page.contains("<script>\""));
    let meta = get(format!("{base}/n/a.txt?metadata=true")).await;
    let meta: Value = serde_json::from_slice(&meta.bytes().await.unwrap()).unwrap();
    assert_eq!(meta["FileSize"], 1);
    let delete = |query: &str| send(Method::DELETE, format!("{base}/n{query}"), &[], b"");
    let refused = delete("").await;
    assert_eq!(refused.status(), 500);
    let text = refused.text().await.unwrap();
    assert_eq!(text, r#"{"error":"fail to delete non-empty folder: /n"}"#);
    assert_eq!(delete("?recursive=true").await.status(), 204);
    assert_eq!(delete("?recursive=true").await.status(), 204);
    assert_eq!(get(format!("{base}/n/a.txt")).await.status(), 404);
}

#[tokio::test]
async fn files_are_moved_copied_and_tagged() {
    let (base, needles) = start(|_| {}).await;
    let data = pattern((1 << 20) + 5);
    put(format!("{base}/a"), &data).await;
    assert_eq!(
        put(format!("{base}/d/b?cp.from=/a"), b"").await.status(),
        204
    );
    assert_eq!(needles.lock().len(), 4);
    assert_eq!(
        put(format!("{base}/d/b?cp.from=/a"), b"").await.status(),
        409
    );
    assert_eq!(needles_settle(&needles, 4).await, 4);
    assert_eq!(
        put(format!("{base}/d/?mv.from=/a"), b"").await.status(),
        204
    );
    assert_eq!(
        get(format!("{base}/d/a")).await.bytes().await.unwrap(),
        data
    );
    assert_eq!(
        put(format!("{base}/x?mv.from=/none"), b"").await.status(),
        400
    );
    let tags = [("seaweed-owner", "me"), ("seaweed-color", "red")];
    let url = format!("{base}/d/a?tagging");
    assert_eq!(
        send(Method::PUT, url.clone(), &tags, b"").await.status(),
        202
    );
    assert_eq!(
        header(&get(format!("{base}/d/a")).await, "seaweed-owner"),
        "me"
    );
    let some = format!("{url}=Owner");
    assert_eq!(send(Method::DELETE, some, &[], b"").await.status(), 202);
    let got = get(format!("{base}/d/a")).await;
    assert_eq!(
        (header(&got, "seaweed-owner"), header(&got, "seaweed-color")),
        ("", "red")
    );
}

#[tokio::test]
async fn rules_of_filer_conf_hold_for_bodies() {
    let rules = r#"{"locations":[
        {"locationPrefix":"/r/","collection":"kept","replication":"001","ttl":"2h","rack":"r1"},
        {"locationPrefix":"/r/long/","maxFileNameLength":300},
        {"locationPrefix":"/ro/","readOnly":true}]}"#;
    let (base, needles, placements) =
        start_ruled(|o| o.collection = "usual".to_owned(), rules).await;
    for (path, expect) in [
        ("/r/a", ("kept", "001", "2h", "r1")),
        ("/r/b?collection=asked&ttl=3d", ("asked", "001", "3d", "r1")),
        ("/else", ("usual", "", "", "")),
    ] {
        placements.lock().clear();
        assert_eq!(put(format!("{base}{path}"), b"x").await.status(), 201);
        let p = placements.lock().first().cloned().unwrap();
        let got = (&*p.collection, &*p.replication, &*p.ttl, &*p.rack);
        assert_eq!(got, expect, "{path}");
    }
    let meta = get(format!("{base}/r/a?metadata=true")).await;
    let meta: Value = serde_json::from_slice(&meta.bytes().await.unwrap()).unwrap();
    assert_eq!(meta["TtlSec"], 7_200);
    // Of another path's rule.
    placements.lock().clear();
    let other = [("SeaweedStorageDestination", "/r/x")];
    let url = format!("{base}/elsewhere?dataNode=n1");
    send(Method::PUT, url, &other, b"x").await;
    assert_eq!(placements.lock()[0].collection, "kept");

    let name = "n".repeat(290);
    assert_eq!(put(format!("{base}/r/{name}"), b"x").await.status(), 414);
    assert_eq!(
        put(format!("{base}/r/long/{name}"), b"x").await.status(),
        201
    );
    // Nothing is stored first; what is there is not appended to, either.
    let n_needles = needles.lock().len();
    put(format!("{base}/moved"), b"x").await;
    send(
        Method::POST,
        format!("{base}/ro/a?mv.from=/moved"),
        &[],
        b"",
    )
    .await;
    placements.lock().clear();
    for query in ["", "?op=append", "?offset=1", "?cp.from=/else"] {
        let refused = put(format!("{base}/ro/a{query}"), b"more").await;
        assert_eq!(refused.status(), 507, "{query}");
        let text = refused.text().await.unwrap();
        assert_eq!(text, r#"{"error":"read only: /ro/"}"#);
    }
    assert!(placements.lock().is_empty(), "a refused body was stored");
    assert_eq!(needles.lock().len(), n_needles + 1);
}

#[tokio::test]
async fn a_copy_of_data_alone_keeps_the_destinations_attributes() {
    let (base, _) = start(|_| {}).await;
    let data = pattern((1 << 20) + 5);
    let tags = [("seaweed-owner", "me")];
    put(format!("{base}/from"), &data).await;
    send(Method::PUT, format!("{base}/to?mode=600"), &tags, b"").await;
    let meta = |name: &str| {
        let url = format!("{base}/{name}?metadata=true");
        async move {
            let got = get(url).await.bytes().await.unwrap();
            serde_json::from_slice::<Value>(&got).unwrap()
        }
    };
    let (from, to) = (meta("from").await, meta("to").await);
    let copy = |inode: &Value, size: u64| {
        let url = format!(
            "{base}/to?cp.from=/from&overwrite=true&dataOnly=true&copy.requestId=7\
             &copy.srcInode={}&copy.srcSize={}&copy.dstInode={inode}&copy.dstSize={size}",
            from["Inode"], from["FileSize"]
        );
        async move { send(Method::POST, url, &[], b"").await }
    };
    assert_eq!(copy(&to["Inode"], 1).await.status(), 412);
    assert_eq!(copy(&from["Inode"], 0).await.status(), 412);
    assert_eq!(meta("to").await, to, "a refused copy changed something");
    let done = copy(&to["Inode"], 0).await;
    assert_eq!(done.status(), 204);
    assert_eq!(header(&done, "x-seaweedfs-copy-committed"), "true");
    assert_eq!(header(&done, "x-seaweedfs-copy-request-id"), "7");
    let got = get(format!("{base}/to")).await;
    assert_eq!(header(&got, "seaweed-owner"), "me");
    assert_eq!(got.bytes().await.unwrap(), data);
    let now = meta("to").await;
    for kept in ["Mode", "Inode", "Crtime", "Extended"] {
        assert_eq!(now[kept], to[kept], "{kept}");
    }
    assert_eq!(now["Md5"], from["Md5"]);
    assert_ne!(now["chunks"][0]["file_id"], from["chunks"][0]["file_id"]);
    // Sent again, it is not applied twice.
    assert_eq!(copy(&to["Inode"], 0).await.status(), 412);
}

/// Waits until the needles of a refused write are gone.
async fn needles_settle(needles: &cluster::Needles, n: usize) -> usize {
    for _ in 0..100 {
        if needles.lock().len() == n {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    needles.lock().len()
}

#[tokio::test]
async fn a_body_with_a_wrong_md5_leaves_nothing() {
    let (base, needles) = start(|_| {}).await;
    let wrong = [("content-md5", "AAAAAAAAAAAAAAAAAAAAAA==")];
    let url = format!("{base}/a");
    let refused = send(Method::PUT, url.clone(), &wrong, b"x").await;
    assert_eq!(refused.status(), 400);
    assert_eq!(get(url).await.status(), 404);
    assert_eq!(needles_settle(&needles, 0).await, 0);
}

#[tokio::test]
async fn a_read_with_a_token_waits_for_its_write() {
    let (base, _) = start(|_| {}).await;
    let url = format!("{base}/a");
    let done = put(url.clone(), b"x").await;
    let token = header(&done, "dulse-token").to_owned();
    let got = send(Method::GET, url.clone(), &[("dulse-token", &token)], b"").await;
    assert_eq!(got.status(), 200);
    let bad = send(Method::GET, url, &[("dulse-token", "bad")], b"").await;
    assert_eq!(bad.status(), 400);
}

#[tokio::test]
async fn bad_requests_get_their_statuses() {
    let (base, _) = start(|_| {}).await;
    put(format!("{base}/f"), b"x").await;
    for (method, path, status) in [
        ("GET", "/none", 404),
        ("PATCH", "/f", 405),
        ("OPTIONS", "/f", 200),
        ("PUT", "/f/x", 409),
        ("GET", "/healthz", 200),
        ("GET", "/readyz", 200),
        ("DELETE", "/", 204),
        ("PUT", "/", 201),
    ] {
        let method = Method::from_bytes(method.as_bytes()).unwrap();
        let got = send(method.clone(), format!("{base}{path}"), &[], b"").await;
        assert_eq!(got.status(), status, "{method} {path}");
        assert_ne!(header(&got, "x-amz-request-id"), "");
    }
    let long = format!("{base}/{}", "x".repeat(256));
    assert_eq!(put(long, b"x").await.status(), 414);
    let origin = [("origin", "http://x")];
    let got = send(Method::OPTIONS, format!("{base}/f"), &origin, b"").await;
    assert_eq!(header(&got, "access-control-allow-origin"), "*");
}

#[tokio::test]
async fn a_long_listing_comes_whole_and_in_pages_alike() {
    let (base, _) = start(|o| o.inline_below = 10).await;
    let mut expect: Vec<String> = (0..1203).map(|i| format!("f{i}")).collect();
    expect.sort_unstable();
    let client = Client::new();
    let puts = expect.iter().map(|name| {
        let put = client.put(format!("{base}/many/{name}")).body("x");
        put.send()
    });
    let mut puts = futures::stream::iter(puts).buffer_unordered(16);
    while let Some(done) = puts.next().await {
        assert_eq!(done.unwrap().status(), 201);
    }

    let accept = [("accept", "application/json")];
    for limit in [99, 499, 500, 501, 1000, 1202, 1203, 1204, 9999] {
        let (mut names, mut after) = (Vec::new(), String::new());
        loop {
            let url = format!("{base}/many/?limit={limit}&lastFileName={after}");
            let got = send(Method::GET, url, &accept, b"").await;
            assert_eq!(header(&got, "content-type"), "application/json");
            let page: Value = serde_json::from_slice(&got.bytes().await.unwrap()).unwrap();
            assert_eq!(page["Limit"], limit);
            let rows = page["Entries"].as_array().unwrap();
            assert!(rows.len() <= limit && !rows.is_empty());
            let name = |row: &Value| row["FullPath"].as_str().unwrap()[6..].to_owned();
            names.extend(rows.iter().map(name));
            after = page["LastFileName"].as_str().unwrap().to_owned();
            assert_eq!(Some(&after), names.last());
            if page["ShouldDisplayLoadMore"] == false {
                break;
            }
        }
        assert_eq!(names, expect, "{limit}");
    }
    let url = format!("{base}/many/?namePattern=f*7&limit=2000");
    let got = send(Method::GET, url, &accept, b"").await;
    let page: Value = serde_json::from_slice(&got.bytes().await.unwrap()).unwrap();
    assert_eq!(page["Entries"].as_array().unwrap().len(), 120);
}

// SPDX-License-Identifier: Apache-2.0
//! The requests, in the order in which they are asked.

/// One request.
pub(crate) struct Ask {
    /// What the table of differences calls it.
    pub(crate) label: String,
    pub(crate) method: &'static str,
    pub(crate) path: String,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl Ask {
    fn new(method: &'static str, path: &str) -> Self {
        Self {
            label: format!("{method} {path}"),
            method,
            path: path.to_owned(),
            headers: Vec::new(),
            body: Vec::new(),
        }
    }

    fn with(mut self, name: &str, value: &str) -> Self {
        self.label.push_str(&format!(" [{name}: {value}]"));
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    fn body(mut self, body: impl Into<Vec<u8>>) -> Self {
        self.body = body.into();
        self
    }

    /// Tells two requests of the same text apart.
    fn named(mut self, name: &str) -> Self {
        self.label.push_str(&format!(" ({name})"));
        self
    }

    /// A form with one file.
    fn form(self, file: &str, mime: &str, text: &str) -> Self {
        let mut part = format!(
            "--xyz\r\nContent-Disposition: form-data; name=\"file\"; filename=\"{file}\"\r\n"
        );
        if !mime.is_empty() {
            part.push_str(&format!("Content-Type: {mime}\r\n"));
        }
        part.push_str(&format!("\r\n{text}\r\n--xyz--\r\n"));
        let mut ask = self.body(part);
        let kind = "multipart/form-data; boundary=xyz".to_owned();
        ask.headers.push(("Content-Type".to_owned(), kind));
        ask
    }
}

fn get(path: &str) -> Ask {
    Ask::new("GET", path)
}

fn put(path: &str, body: impl Into<Vec<u8>>) -> Ask {
    Ask::new("PUT", path).body(body)
}

fn post(path: &str) -> Ask {
    Ask::new("POST", path)
}

fn delete(path: &str) -> Ask {
    Ask::new("DELETE", path)
}

fn list(path: &str) -> Ask {
    Ask::new("GET", path).with("Accept", "application/json")
}

fn pattern(len: usize) -> Vec<u8> {
    (0..len).map(|i| (i * 7 + i / 251) as u8).collect()
}

/// All of them.
pub(crate) fn requests() -> Vec<Ask> {
    let mut all = Vec::new();
    all.extend(files());
    all.extend(ranges());
    all.extend(conditions());
    all.extend(places());
    all.extend(forms());
    all.extend(appends());
    all.extend(directories());
    all.extend(tags());
    all.extend(moves());
    all.extend(names());
    all.extend(others());
    all
}

fn files() -> Vec<Ask> {
    let text = "hello world\n";
    vec![
        put("/d/a.txt", text)
            .with("Content-Type", "text/plain")
            .with("Seaweed-Color", "red")
            .with("Cache-Control", "max-age=5"),
        get("/d/a.txt"),
        Ask::new("HEAD", "/d/a.txt"),
        get("/d/a.txt?dl=true"),
        get("/d/a.txt?response-content-type=text/html&response-cache-control=no-store"),
        get("/d/a.txt?response-content-disposition=x&response-content-language=de"),
        get("/d/a.txt?response-expires=never&response-content-encoding=identity"),
        get("/d/a.txt?metadata=true"),
        get("/d/a.txt?metadata=true&pretty=y"),
        get("/d/a.txt?metadata=true&resolveManifest=true"),
        get("/d?metadata=true"),
        get("/?metadata=true"),
        put("/d/kept", "x")
            .with("Expires", "Thu, 01 Dec 2094 16:00:00 GMT")
            .with("Content-Disposition", "attachment; filename=other")
            .with("Content-Language", "de")
            .with("X-Amz-Meta-A", "b"),
        get("/d/kept"),
        put("/d/shown", "x").with("Response-Content-Disposition", "inline; filename=q"),
        get("/d/shown"),
        put("/d/a.txt", "replaced").with("Content-Type", "application/octet-stream"),
        get("/d/a.txt").named("replaced"),
        put("/d/none.bin", ""),
        get("/d/none.bin"),
        get("/d/none.bin?metadata=true"),
        put("/d/page.html", "<p>"),
        get("/d/page.html"),
        put("/d/noext", "some text without a name that tells"),
        get("/d/noext"),
        put("/d/mode?mode=0644", "x"),
        get("/d/mode?metadata=true"),
        put("/d/badmode?mode=9z", "x"),
        get("/d/badmode?metadata=true"),
        put("/d/ttl?ttl=3m", "x"),
        get("/d/ttl?metadata=true"),
        put("/d/ttl5?ttl=5", "x"),
        get("/d/ttl5?metadata=true"),
        put("/d/badttl?ttl=zz", "x"),
        get("/d/badttl?metadata=true"),
        put("/d/md5", "x").with("Content-MD5", "AAAAAAAAAAAAAAAAAAAAAA=="),
        get("/d/md5"),
        put("/d/md5", text).with("Content-MD5", "b1kCrCNwJL3QwXbLkwY9xA=="),
        put("/d/hex", text).with("Content-MD5", "6f5902ac237024bdd0c176cb93063dc4"),
        put("/d/repl?replication=0x0", "x"),
        put("/d/dc?dataCenter=nowhere", "x"),
        get("/d/dc"),
        put("/d/sync?fsync=true", "x"),
        put("/d/pretty?pretty=1", "x"),
        put("/col/x?collection=c1", "x"),
        get("/missing"),
        Ask::new("HEAD", "/missing"),
        get("/missing?metadata=true"),
        put("/big?maxMB=1", pattern((2 << 20) + 5)),
        get("/big"),
        get("/big?metadata=true"),
        put("/even?maxMB=1", pattern(2 << 20)),
        get("/even?metadata=true"),
    ]
}

fn ranges() -> Vec<Ask> {
    let mut all = vec![put("/r.txt", "hello world\n")];
    for range in [
        "bytes=0-4",
        "bytes=-5",
        "bytes=3-",
        "bytes=3-99",
        "bytes=-99",
        "bytes=0-0",
        "bytes=11-11",
        "bytes=12-",
        "bytes=12-20",
        "bytes=abc",
        "bytes=-0",
        "bytes=5-3",
        "bytes=0-1,4-5",
        "bytes=0-1, 50-60",
        "bytes=0-11,0-11",
        "bytes=",
        "items=0-1",
    ] {
        all.push(get("/r.txt").with("Range", range));
    }
    all.push(Ask::new("HEAD", "/r.txt").with("Range", "bytes=0-4"));
    all.push(get("/d/none.bin").with("Range", "bytes=0-"));
    for range in [
        "bytes=1048570-1048580",
        "bytes=1048575-1048576",
        "bytes=1048576-1048576",
        "bytes=2097151-",
        "bytes=-6",
        "bytes=1048575-2097152",
    ] {
        all.push(get("/big").with("Range", range));
    }
    all
}

fn conditions() -> Vec<Ask> {
    let tag = "\"6f5902ac237024bdd0c176cb93063dc4\"";
    let (past, future) = (
        "Thu, 01 Jan 2015 00:00:00 GMT",
        "Fri, 01 Jan 2094 00:00:00 GMT",
    );
    vec![
        get("/r.txt").with("If-None-Match", tag),
        get("/r.txt").with("If-None-Match", "\"other\""),
        get("/r.txt").with("If-None-Match", "*"),
        get("/r.txt").with("If-None-Match", &format!("\"a\", {tag}")),
        get("/r.txt").with("If-None-Match", &format!("W/{tag}")),
        get("/r.txt").with("If-Match", tag),
        get("/r.txt").with("If-Match", "\"other\""),
        get("/r.txt").with("If-Match", "*"),
        get("/r.txt").with("If-Modified-Since", past),
        get("/r.txt").with("If-Modified-Since", future),
        get("/r.txt").with("If-Unmodified-Since", past),
        get("/r.txt").with("If-Unmodified-Since", future),
        Ask::new("HEAD", "/r.txt").with("If-None-Match", tag),
    ]
}

fn places() -> Vec<Ask> {
    vec![
        put("/", "x"),
        put("/p/x/", "x"),
        get("/p/x/x"),
        get("/p/x/x/"),
        put("/p", "x"),
        get("/p/p"),
        put("//p//y", "x"),
        get("/p/./y"),
        get("/p/z/../y"),
        put("/p/a%2Fb", "x"),
        get("/p/a/b"),
        put("/p/%ff", "x"),
        get("/p/_"),
        put("/p/%ff%fe", "x"),
        get("/p/_").named("run"),
        put("/p/a%20b%0a%5c%3f", "x"),
        get("/p/a%20b%0a%5c%3f"),
        put("/p/caf%C3%A9", "x"),
        get("/p/caf%C3%A9"),
        put("/p/qu%22ote", "x"),
        get("/p/qu%22ote"),
        put("/p/nul%00", "x"),
        put(&format!("/p/{}", "n".repeat(255)), "x"),
        put(&format!("/p/{}", "n".repeat(256)), "x"),
        put("/buckets/bad_bucket!/x", "x"),
        put("/buckets/good-bucket/x", "x"),
        put("/p/orphan/dir/x?skipCheckParentDir=true", "x"),
        get("/p/orphan/dir/x"),
        put("/p/y/below", "x"),
    ]
}

fn forms() -> Vec<Ask> {
    vec![
        post("/f/a").form("up.png", "image/png", "hello"),
        get("/f/a"),
        post("/f/").form("b.txt", "text/plain", "hello"),
        get("/f/b.txt"),
        post("/f").form("c.bin", "application/octet-stream", "hello"),
        get("/f/c.bin"),
        post("/f/").form("../d.x", "", "hello"),
        get("/f/d.x"),
        post("/f/inside?saveInside=true").form("x", "", "hello"),
        get("/f/inside"),
        post("/etc/some").form("x", "", "hello"),
        get("/etc/some"),
        get("/etc/some?metadata=true"),
        post("/f/plain")
            .with("Content-Type", "text/plain")
            .body("x"),
        post("/f/nothing"),
        post("/newdir/?pretty=1"),
        post("/newdir/"),
        get("/newdir?metadata=true"),
        post("/f/a/"),
    ]
}

fn appends() -> Vec<Ask> {
    vec![
        put("/log?op=append", "one "),
        put("/log?op=append", "two").named("second"),
        get("/log"),
        get("/log?metadata=true"),
        put("/log?offset=2", "E"),
        get("/log").named("overlaid"),
        put("/log?offset=10", "end"),
        get("/log").named("with a hole"),
        put("/log?offset=0", "new"),
        get("/log").named("replaced"),
        put("/log?offset=-1", "x"),
        put("/log?offset=abc", "x"),
        put("/log?offset=1&op=append", "x"),
        put("/fresh?offset=3", "abc"),
        get("/fresh"),
        put("/d?op=append", "x"),
        put("/newdir?offset=2", "x"),
    ]
}

fn directories() -> Vec<Ask> {
    let mut all = Vec::new();
    for name in ["a.txt", "b.log", "c.txt", "d%20e", "%3Cscript%3E", "Z"] {
        all.push(put(&format!("/l/{name}"), "x"));
    }
    all.push(post("/l/sub/"));
    all.push(post("/empty/"));
    for query in [
        "",
        "?limit=2",
        "?limit=2&lastFileName=a.txt",
        "?limit=0",
        "?limit=x",
        "?lastFileName=zzz",
        "?namePattern=*.txt",
        "?namePattern=a.txt",
        "?namePattern=%3F.txt",
        "?namePatternExclude=*.txt",
        "?namePattern=*.txt&namePatternExclude=a*",
        "?namePattern=*&limit=2",
        "?pretty=y&limit=1",
    ] {
        all.push(list(&format!("/l/{query}")));
    }
    all.extend([
        list("/l"),
        list("/empty"),
        list("/missing/"),
        list("/?limit=3"),
        get("/l/"),
        Ask::new("HEAD", "/l/"),
        get("/l").with("Accept", "text/html, application/json"),
        delete("/l"),
        delete("/l?recursive=false"),
        delete("/l/a.txt"),
        get("/l/a.txt"),
        delete("/l/a.txt").named("again"),
        delete("/empty"),
        list("/empty").named("gone"),
        delete("/l?recursive=true"),
        list("/l").named("gone"),
        delete("/l?recursive=true").named("again"),
        delete("/"),
    ]);
    all
}

fn tags() -> Vec<Ask> {
    vec![
        put("/t/x", "x").with("Seaweed-Old", "1"),
        put("/t/x?tagging", "")
            .with("Seaweed-Owner", "me")
            .with("seaweed-color", "red"),
        get("/t/x"),
        Ask::new("HEAD", "/t/x"),
        delete("/t/x?tagging=Owner"),
        get("/t/x").named("without owner"),
        delete("/t/x?tagging=Nothing"),
        delete("/t/x?tagging"),
        get("/t/x").named("without tags"),
        put("/t/missing?tagging", "").with("Seaweed-Owner", "me"),
        delete("/t/missing?tagging"),
        put("/t/x", "y"),
        get("/t/x").named("overwritten"),
    ]
}

fn moves() -> Vec<Ask> {
    vec![
        put("/m/a", "hello"),
        post("/m/b?mv.from=/m/a"),
        get("/m/a"),
        get("/m/b"),
        put("/m/sub/?mv.from=/m/b", ""),
        get("/m/sub/b"),
        post("/m/x?mv.from=/nope"),
        post("/m/x?mv.from=/"),
        put("/m/file", "x"),
        post("/m/file?mv.from=/m/sub"),
        post("/m/moved?mv.from=/m/sub"),
        get("/m/moved/b"),
        post("/m/moved/b?mv.from=/m/file").named("onto a file"),
        get("/m/moved/b").named("replaced"),
        post("/m/copy?cp.from=/m/moved/b"),
        get("/m/copy"),
        post("/m/copy?cp.from=/m/moved/b").named("exists"),
        post("/m/copy?cp.from=/m/moved/b&overwrite=true"),
        post("/m/copy?cp.from=/m/copy"),
        post("/m/x?cp.from=/nope"),
        post("/m/x?cp.from=/m"),
        post("/m/?cp.from=/d/kept"),
        get("/m/kept"),
        post("/m/big?cp.from=/big"),
        get("/m/big"),
        post("/m/into/itself?mv.from=/m"),
        post("/m/same?mv.from=/m/same"),
    ]
}

/// Types by extension; more of them upstream takes from the machine it runs on.
fn names() -> Vec<Ask> {
    let mut all = Vec::new();
    for name in [
        "a.HTML",
        "a.jpeg",
        "a.svg",
        "a.json",
        "a.css",
        "a.pdf",
        "a.wasm",
        "a.unknown",
        ".hidden",
        "a.",
        "a.htm",
        "a.png",
        "a.gif",
        "a.webp",
        "a.avif",
    ] {
        all.push(put(&format!("/n/{name}"), "x"));
        all.push(Ask::new("HEAD", &format!("/n/{name}")));
    }
    all
}

fn others() -> Vec<Ask> {
    vec![
        get("/healthz"),
        get("/readyz"),
        Ask::new("OPTIONS", "/d/a.txt"),
        Ask::new("OPTIONS", "/d/a.txt").with("Origin", "http://x"),
        get("/d/a.txt").with("Origin", "http://x"),
        get("/d/a.txt").with("X-Amz-Request-Id", "ABC"),
        Ask::new("PATCH", "/d/a.txt"),
        get("/?proxyChunkId=x"),
        get("/?proxyChunkId=999999,0100000001"),
        put("/inode", "x").with("Content-Type", "a/b; c=d"),
        get("/inode"),
    ]
}

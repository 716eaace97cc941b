// SPDX-License-Identifier: Apache-2.0
//! The volume server's page: which volumes it has and how full they are.

use std::fmt::Write;

use crate::store::Store;

const HEAD: &str = "<!doctype html><html lang=en><meta charset=utf-8>\
<meta name=viewport content=\"width=device-width\"><title>Dulse volume server</title><style>\
body{font:15px/1.5 system-ui,sans-serif;margin:2rem auto;max-width:60rem;padding:0 1rem;\
color:#222}table{border-collapse:collapse;width:100%;margin:.5rem 0 1.5rem}\
th,td{text-align:left;padding:.3rem .6rem;border-bottom:1px solid #ddd}\
th{color:#666;font-weight:600}td.n,th.n{text-align:right}h1{font-size:1.4rem}</style>";

/// Renders the page.
pub(crate) fn render(store: &Store) -> String {
    let mut out = String::from(HEAD);
    // Writing to a string cannot fail.
    let _ = write!(
        out,
        "<h1>Dulse volume server</h1><p>Volumes in {}. <a href=/status>as JSON</a>, \
         <a href=/metrics>metrics</a></p><table><tr><th>volume<th>collection<th class=n>MiB\
         <th class=n>files<th class=n>deleted<th>writes",
        escape(&store.dir().display().to_string())
    );
    let volumes = store.all();
    for volume in &volumes {
        let figures = volume.figures();
        let writes = if figures.is_read_only {
            "refused"
        } else {
            "taken"
        };
        let _ = write!(
            out,
            "<tr><td>{}<td>{}<td class=n>{}<td class=n>{}<td class=n>{}<td>{writes}",
            volume.kind.id,
            escape(&volume.kind.collection),
            figures.size >> 20,
            figures.n_files,
            figures.n_deleted,
        );
    }
    if volumes.is_empty() {
        out.push_str("<tr><td colspan=6>none yet: the master asks for them");
    }
    out.push_str("</table>");
    out
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
}

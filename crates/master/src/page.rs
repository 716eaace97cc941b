// SPDX-License-Identifier: Apache-2.0
//! The master's page: who is there and how much room is left.

use std::fmt::Write;

use crate::service::State;

const HEAD: &str = "<!doctype html><html lang=en><meta charset=utf-8>\
<meta name=viewport content=\"width=device-width\"><title>Dulse master</title><style>\
body{font:15px/1.5 system-ui,sans-serif;margin:2rem auto;max-width:60rem;padding:0 1rem;\
color:#222}table{border-collapse:collapse;width:100%;margin:.5rem 0 1.5rem}\
th,td{text-align:left;padding:.3rem .6rem;border-bottom:1px solid #ddd}\
th{color:#666;font-weight:600}td.n,th.n{text-align:right}h1{font-size:1.4rem}\
h2{font-size:1.1rem}</style>";

/// Renders the page.
pub(crate) fn render(state: &State) -> String {
    let mut out = String::from(HEAD);
    let address = escape(&state.options.address.to_string());
    let max = state.stored.lock().max_volume_id();
    // Writing to a string cannot fail.
    let _ = write!(
        out,
        "<h1>Dulse master {address}</h1><p>Greatest volume id: {max}. \
         <a href=/dir/status?pretty=y>topology</a>, <a href=/vol/status?pretty=y>volumes</a>, \
         <a href=/cluster/status?pretty=y>cluster</a>, <a href=/metrics>metrics</a></p>"
    );
    servers(state, &mut out);
    clients(state, &mut out);
    out
}

fn servers(state: &State, out: &mut String) {
    out.push_str(
        "<h2>Volume servers</h2><table><tr><th>server<th>data center<th>rack\
         <th class=n>volumes<th class=n>most<th class=n>MiB<th class=n>files",
    );
    let scheme = state.options.transport.http_scheme();
    let topology = state.topology.lock();
    for node in topology.nodes.values() {
        let bytes: u64 = node.volumes.values().map(|v| v.size).sum();
        let files: u64 = node.volumes.values().map(|v| v.file_count).sum();
        let url = escape(&node.public_url);
        let _ = write!(
            out,
            "<tr><td><a href=\"{scheme}://{url}/\">{url}</a><td>{}<td>{}<td class=n>{}\
             <td class=n>{}<td class=n>{}<td class=n>{files}",
            escape(&node.data_center),
            escape(&node.rack),
            node.volumes.len(),
            node.max_volumes.values().sum::<u32>(),
            bytes >> 20,
        );
    }
    if topology.nodes.is_empty() {
        out.push_str("<tr><td colspan=7>none has reported");
    }
    out.push_str("</table>");
}

fn clients(state: &State, out: &mut String) {
    out.push_str("<h2>Clients</h2><table><tr><th>kind<th>group<th>address<th>version");
    let members = state.members.lock();
    let mut n_clients = 0;
    for ((group, kind, address), member) in members.all() {
        n_clients += 1;
        let cells = [kind, group, address, &member.version].map(|text| escape(text));
        let _ = write!(out, "<tr><td>{}", cells.join("<td>"));
    }
    if n_clients == 0 {
        out.push_str("<tr><td colspan=4>none is connected");
    }
    out.push_str("</table>");
}

fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    #[test]
    fn names_from_outside_are_text() {
        assert_eq!(
            super::escape("<a href='x'>&"),
            "&lt;a href=&#39;x&#39;&gt;&amp;"
        );
    }
}

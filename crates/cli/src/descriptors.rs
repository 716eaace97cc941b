// SPDX-License-Identifier: Apache-2.0
//! How many files and sockets a role may have open.
//!
//! Systems start services with a soft limit of 1,024, from the days of `select`, and a far
//! higher hard one; a filer has a socket for each client. So the soft limit is raised to the
//! hard one, as upstream's runtime does; whoever wants fewer sets the hard one.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Descriptors below which a thousand clients at once are not served.
const FEW: u64 = 4_096;

/// Raises the limit as far as it may be.
pub(crate) fn raise() {
    let before = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: before.maximum,
        maximum: before.maximum,
    };
    let is_raised = setrlimit(Resource::Nofile, raised);
    if let Err(error) = is_raised {
        tracing::warn!(%error, "the limit of open files stays as it was");
    }
    let now = getrlimit(Resource::Nofile).current;
    if let Some(files) = now.filter(|files| *files < FEW) {
        tracing::warn!(
            files,
            "few files and sockets may be open at once: each client needs one; raise the hard \
             limit (`ulimit -Hn`, `LimitNOFILE=`)"
        );
    }
}

// SPDX-License-Identifier: Apache-2.0
//! The store of a directory, on the server of the tests.

use std::path::Path;

use dulse_shared::{SharedOptions, SharedStore, Stepwise};
use dulse_store::Error;
use dulse_store_cassandra::Cassandra;

/// Opens it: a keyspace that is its own meanwhile, its journal inside the directory.
pub(crate) fn open(dir: &Path) -> Result<SharedStore<Stepwise<Cassandra>>, Error> {
    let options = SharedOptions {
        journal: dir.join("journal"),
        random: 0x1234_5678_9abc_def1,
    };
    let config = crate::server::keyspace_of(dir);
    dulse_store_cassandra::open(config.expect("the server makes or empties it"), &options)
}

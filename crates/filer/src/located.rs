// SPDX-License-Identifier: Apache-2.0
//! Directories in shared stores of their own beside a default store: when all can be served, and
//! that the directories are there.

use std::sync::Arc;
use std::time::Duration;

use dulse_namespace::{Caller, ErrorKind, Namespace};
use dulse_shared::Beside;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::shared::OnShared;
use crate::state::{FilerState, Kept};

/// Told why namespace calls are not served yet.
pub(crate) type Becoming = watch::Sender<Option<String>>;

/// Pause before a location that could not be made is made again.
const RETRY_DELAY: Duration = Duration::from_millis(500);

/// Mode of a location that nobody made.
const MODE: u32 = 0o755;

/// Starts what is done on the stores of directories, and says why the namespace is not served:
/// first the filers on every store must have been met and the locations be there; from then on,
/// what the default store says. A database that is away takes its directory with it and nothing
/// else.
pub(crate) async fn become_ready(state: Arc<FilerState>, becoming: Becoming) {
    let mut default = match &state.kept {
        Kept::Embedded(own) => own.replicator.ready(),
        Kept::Shared(on) => on.ready(),
    };
    // Order: first. A copy of a store finds out that it is one, and begins anew under another origin
    // and with other journals. Announcements of both would be taken for one filer's.
    if !has_come(&mut default, &becoming).await {
        return;
    }
    let tasks = state
        .located
        .iter()
        .flat_map(|on| crate::shared::start(&state, on));
    let _tasks = Tasks(tasks.collect());
    // Of each once: it may be away again before all are.
    for on in &state.located {
        if !has_come(&mut on.ready(), &becoming).await {
            return;
        }
    }
    while let Err(why) = make(&state).await {
        tracing::warn!(
            why,
            "a directory with a store of its own cannot be made yet"
        );
        becoming.send_replace(Some(why));
        tokio::time::sleep(RETRY_DELAY).await;
    }
    loop {
        let why = default.borrow_and_update().clone();
        becoming.send_replace(why);
        if default.changed().await.is_err() {
            return;
        }
    }
}

/// Tasks that end with the one that holds them.
struct Tasks(Vec<JoinHandle<()>>);

impl Drop for Tasks {
    fn drop(&mut self) {
        self.0.iter().for_each(JoinHandle::abort);
    }
}

/// Waits until nothing is said against serving, and passes on what is; false when the filer
/// stops.
async fn has_come(of: &mut watch::Receiver<Option<String>>, becoming: &Becoming) -> bool {
    loop {
        let why = of.borrow_and_update().clone();
        if why.is_none() {
            return true;
        }
        becoming.send_replace(why);
        if of.changed().await.is_err() {
            return false;
        }
    }
}

/// The tree of a default store and these.
pub(crate) fn tree(kept: &Kept, located: &[Arc<OnShared>]) -> Beside {
    let stores = located.iter().map(|on| Arc::clone(&on.store));
    match kept {
        Kept::Embedded(own) => Beside::new(own.store.clone(), stores.collect()),
        Kept::Shared(on) => Beside::new(on.store.clone(), stores.collect()),
    }
}

/// Makes the locations that are missing, those that others lie in first.
async fn make(state: &FilerState) -> Result<(), String> {
    let tree = tree(&state.kept, &state.located).as_it_is();
    let options = state.namespace.options().clone();
    let namespace = Namespace::new(Arc::new(tree), options);
    let located = state.located.iter();
    let mut paths: Vec<_> = located.flat_map(|on| on.store.locations()).collect();
    paths.sort_by(|a, b| a.path.cmp(&b.path));
    for path in paths.into_iter().map(|location| &location.path) {
        match namespace.mkdir(path, MODE, Caller::default()).await {
            Ok(_) => tracing::info!(%path, "made a directory that has a store of its own"),
            Err(error) if error.kind() == ErrorKind::Exists => {
                if !namespace.find(path).map_err(|e| e.to_string())?.is_dir() {
                    return Err(format!(
                        "`{path}` is a file, and filer.toml has a store of its own for the \
                         directory there"
                    ));
                }
            }
            Err(error) => return Err(format!("cannot make `{path}`: {error}")),
        }
    }
    Ok(())
}

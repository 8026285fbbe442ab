//! Process groups: WSGIDaemonProcess.
//!
//! - `parent`: httpd's parent starts the worker processes of each configuration, starts them again when
//!   they die, and lets those of an earlier configuration go.
//! - `place`, `listener`, `start`: where a process has its place, its socket, and how it is started.
//! - this file: what a child of httpd knows of them.

mod listener;
pub(crate) mod parent;
mod place;
mod start;

use crate::{boundary, child};
use manifold::daemon::Workers;
use manifold::{GroupName, Store, allow_descriptors};
use std::collections::HashMap;
use std::sync::{Arc, OnceLock};

/// The process groups of this child; set once, by `child_init`.
static GROUPS: OnceLock<HashMap<GroupName, Arc<Workers>>> = OnceLock::new();

/// Whether there are process groups at all.
pub(crate) fn any() -> bool {
    GROUPS.get().is_some_and(|groups| !groups.is_empty())
}

/// How many descriptors a connection to a worker process takes: its socket, twice.
const DESCRIPTORS: usize = 2;

/// How many descriptors of a child of httpd are for all else: clients, files, logs.
const OTHER_DESCRIPTORS: usize = 512;

/// Takes over what the parent knows. Responses keep what slow clients are behind with in `store`.
pub(crate) fn init_child(store: &Arc<Store>) {
    boundary::quiet(|| {
        let groups = GROUPS.get_or_init(|| parent::leave_to_child(store));
        let workers = groups.values().map(|workers| workers.count()).sum();
        if workers > 0 {
            // Where there are not enough, the parent has said so.
            let _ = allow_descriptors(descriptors(workers));
        }
    });
}

/// How many descriptors a child of httpd may need: each thread may have had a connection to each worker
/// process, and connections are kept.
fn descriptors(workers: usize) -> usize {
    child::request_threads() * workers * DESCRIPTORS + OTHER_DESCRIPTORS
}

/// The worker processes of a group, if it is one.
pub(crate) fn workers(name: &GroupName) -> Option<&'static Arc<Workers>> {
    GROUPS.get()?.get(name)
}

/// The child stops at once: whoever waits for a worker process is woken.
pub(crate) fn interrupt() {
    for workers in GROUPS.get().into_iter().flat_map(HashMap::values) {
        workers.interrupt();
    }
}

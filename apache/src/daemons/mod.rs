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

use crate::boundary;
use manifold::daemon::Workers;
use manifold::{GroupName, Store};
use std::collections::HashMap;
use std::sync::{Arc, OnceLock};

/// The process groups of this child; set once, by `child_init`.
static GROUPS: OnceLock<HashMap<GroupName, Arc<Workers>>> = OnceLock::new();

/// Whether there are process groups at all.
pub(crate) fn any() -> bool {
    GROUPS.get().is_some_and(|groups| !groups.is_empty())
}

/// Takes over what the parent knows. Responses keep what slow clients are behind with in `store`.
pub(crate) fn init_child(store: &Arc<Store>) {
    boundary::quiet(|| {
        GROUPS.get_or_init(|| parent::leave_to_child(store));
    });
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

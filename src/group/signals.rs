//! Signals that the applications of a group have asked to be told of.

use super::Group;
use crate::queue::ReplicaId;
use crate::spawn::spawn_for_interpreter;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

/// How many threads may be in an interpreter to tell of signals: where callbacks take longer than signals
/// come, those beyond are not told of.
const MOST: usize = 8;

impl Group {
    /// Has applications told of a signal, by a thread of its own in each interpreter that is there.
    pub(crate) fn tell_signal(self: &Arc<Self>, signal: (&'static str, i32)) {
        let mut visited = Vec::new();
        for slot in &mut self.pool().replicas {
            if slot.guests >= MOST {
                tracing::warn!(
                    group = %self.name,
                    "nobody is told of {}: callbacks are still busy with the {MOST} signals before it",
                    signal.0
                );
            } else if let Some(replica) = &slot.replica {
                slot.guests += 1;
                visited.push((slot.id, Arc::clone(replica)));
            }
        }
        for (id, replica) in visited {
            let group = Arc::clone(self);
            let tell = move || {
                // A panic is printed where it happens; the interpreter has to learn that this is over.
                let told = catch_unwind(AssertUnwindSafe(|| {
                    if let Some(mut state) = replica.interpreter.thread_state() {
                        state.attach(|py| replica.residents.tell_signal(py, signal));
                    }
                }));
                drop((replica, told));
                group.guest_leaves(id);
            };
            let name = format!("mnf-signal-{}", self.name);
            if let Err(error) = spawn_for_interpreter(self.shared.settings(), name, tell) {
                tracing::warn!(group = %self.name, "no thread to tell of {}: {error}", signal.0);
                self.guest_leaves(id);
            }
        }
    }

    /// A thread that does not serve a replica has left it.
    pub(crate) fn guest_leaves(&self, id: ReplicaId) {
        if let Some(slot) = self.pool().slot(id) {
            slot.guests -= 1;
        }
        self.tell_pool_changed();
    }
}

//! What the server's settings become in the worker processes of a process group.
#![forbid(unsafe_code)]

use super::ProcessGroup;
use crate::Settings;
use std::num::NonZeroU64;

/// The settings of a process of this group, made from those of the server's own processes.
///
/// What the group says about threads, GILs and `sys.path` takes the place of what the server says
/// for its own processes, also where it says nothing. What blocks about some interpreters say is
/// looked up in the process itself, by the name of the group.
pub fn settings(base: &Settings, group: &ProcessGroup) -> Settings {
    let python = &group.python;
    // With none, the main interpreter still has the thread that runs the preloaded script.
    let threads = group.threads.max(1);
    let mut options = base.options.clone();
    options.base.python_path = python.path.clone();
    options.base.switch_interval = python.switch_interval;
    options.base.replicas = group.replicas.or(options.base.replicas);
    if group.threads == 0 {
        // The script is the process: its signals are for it.
        options.base.restrict_signal = Some(false);
    }
    Settings {
        process_group: group.name.clone(),
        python_home: python.home.clone().or_else(|| base.python_home.clone()),
        first_on_path: group.identity.home.clone(),
        worker: group.worker.clone().or_else(|| base.worker.clone()),
        options,
        request_timeout: [base.request_timeout, group.timeouts.request].into_iter().flatten().min(),
        request_threads: threads,
        interpreter_threads: threads,
        stack_size: python.stack_size,
        queue_limit: Settings::queue_limit_for(threads),
        processes: i32::try_from(group.processes.get()).unwrap_or(i32::MAX),
        multithread: threads > 1,
        multiprocess: group.multiprocess,
        server_metrics: group.server_metrics,
        run_once: threads == 1 && group.renewal.maximum_requests == Some(NonZeroU64::MIN),
        frees_signals: true,
        ..base.clone()
    }
}

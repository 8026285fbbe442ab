//! The memory that httpd's processes and worker processes count in: one segment for each process group,
//! and one for httpd's own processes, made by httpd's parent. It stays when httpd reads its configuration
//! again, so that nothing begins at zero then.

use crate::config::ServerConfig;
use crate::log;
use manifold::status::{Segment, count_death, take_part};
use manifold::{Code, GroupName, Level};
use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// By process group. A child of httpd has what there was when it was forked.
static SEGMENTS: Mutex<BTreeMap<GroupName, Arc<Segment>>> = Mutex::new(BTreeMap::new());

fn segments() -> MutexGuard<'static, BTreeMap<GroupName, Arc<Segment>>> {
    SEGMENTS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What a worker process is handed down of it.
#[derive(Default)]
pub(crate) struct Inheritance {
    /// That of its own process group, to count in.
    pub(crate) own: Option<OwnedFd>,
    /// Those of others, to look at.
    pub(crate) others: Vec<(GroupName, OwnedFd)>,
}

/// Makes what a configuration needs and is not there; groups that are no more are forgotten.
pub(crate) fn prepare(config: &ServerConfig) {
    let mut segments = segments();
    let configured = config.daemons.iter().map(|daemon| daemon.group.name.clone());
    let wanted: Vec<_> = configured.chain([GroupName::default()]).collect();
    segments.retain(|name, _| wanted.contains(name));
    for name in wanted {
        if segments.contains_key(&name) {
            continue;
        }
        match Segment::new() {
            Ok(segment) => drop(segments.insert(name, Arc::new(segment))),
            Err(error) => {
                let text = format!(
                    "{}: processes of process group '{name}' cannot share what they count, so wsgi-status shows \
                     nothing of it, or of httpd's own only the one that answers: {error}. Requests are \
                     served; raise httpd's limit of files or of memory.",
                    Code::CountersNotMade
                );
                log::server(Level::Warning, &text);
            }
        }
    }
}

/// This process is a child of httpd from now on.
pub(crate) fn init_child() {
    let all =
        segments().iter().map(|(name, segment)| (name.clone(), Arc::clone(segment))).collect();
    take_part(&GroupName::default(), all);
}

/// What a process of a group inherits; all others' only where it `may_look`.
pub(crate) fn inheritance(group: &GroupName, may_look: bool) -> Inheritance {
    let mut inheritance = Inheritance::default();
    for (name, segment) in segments().iter() {
        let Ok((writer, reader)) = segment.descriptors() else { continue };
        if name == group {
            inheritance.own = writer.try_clone_to_owned().ok();
        } else if may_look {
            inheritance.others.push((name.clone(), reader));
        }
    }
    inheritance
}

/// A process of a group has died and should not have.
pub(crate) fn worker_died(group: &GroupName) {
    if let Some(segment) = segments().get(group) {
        count_death(segment);
    }
}

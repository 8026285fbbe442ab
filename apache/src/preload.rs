//! Scripts that are loaded when a child starts, before it takes requests: WSGIImportScript, and
//! script aliases with both groups given.

use crate::config::{self, Preload, ServerConfig};
use crate::log;
use crate::selectors::GroupRule;
use crate::signals::{self, LOOK_UP};
use httpd_sys::server_rec;
use manifold::{
    Answer, Conversation, Event, GroupName, Level, LogEntry, Peer, Reply, Runtime, Script, Task,
    daemon,
};
use std::collections::HashSet;
use std::os::unix::ffi::OsStrExt;
use std::sync::Arc;

/// Loads the scripts that the main server and its virtual hosts name, into all replicas of all groups
/// at once, and waits until each is loaded or has failed. A failure is logged; the first request then tries again.
pub(crate) fn load_all(runtime: &Runtime, main: *mut server_rec) {
    let mut seen = HashSet::new();
    let mut loading = Vec::new();
    let mut next = main;
    // SAFETY: httpd's list of servers does not change while a child runs.
    while let Some(server) = unsafe { next.as_ref() } {
        // SAFETY: the server is live, and children change no configuration.
        let config = unsafe { config::server(next) };
        for preload in config.preloads.iter().filter(|preload| preload.process_group.is_main()) {
            let group = group_of(preload, server);
            if !seen.insert((group.clone(), preload.script.path_bytes())) {
                continue;
            }
            let started = runtime.dispatch_to_each(&group, |job| {
                job.task = Task::Load;
                job.script = Some(script_of(preload, config, &daemon::Identity::default()));
            });
            loading.push((next, started));
        }
        next = server.next;
    }
    for (server, started) in loading {
        match started {
            Ok(conversations) => conversations.iter().for_each(|it| wait(server, it)),
            Err(refusal) => {
                log::of_server(server, LogEntry::new(Level::Error, refusal.to_string()))
            }
        }
    }
}

/// The scripts that processes of a process group load when they start.
pub(crate) fn of_group(
    main: *mut server_rec,
    process_group: &daemon::ProcessGroup,
) -> Vec<daemon::Preload> {
    let name = &process_group.name;
    let mut seen = HashSet::new();
    let mut preloads = Vec::new();
    let mut next = main;
    // SAFETY: httpd passes its list of servers, and changes none meanwhile.
    while let Some(server) = unsafe { next.as_ref() } {
        // SAFETY: the server is live, and nothing else looks at its record meanwhile.
        let config = unsafe { config::server(next) };
        for preload in config.preloads.iter().filter(|preload| preload.process_group == *name) {
            let group = group_of(preload, server);
            let script = script_of(preload, config, &process_group.identity);
            if seen.insert((group.clone(), script.path_bytes().to_vec())) {
                preloads.push(daemon::Preload::new(group, &script));
            }
        }
        next = server.next;
    }
    preloads
}

/// The script, as processes of this kind see it. One that an alias stands for and that they do not see
/// stays as it is: their line about it names it.
fn script_of(preload: &Preload, config: &ServerConfig, identity: &daemon::Identity) -> Arc<Script> {
    let script = &preload.script;
    let inside = identity.path_inside(script.path()).filter(|_| preload.of_alias);
    let moved = inside.filter(|path| path != script.path()).and_then(|path| {
        Script::new(path.as_os_str().as_bytes(), script.callable().to_bytes()).ok()
    });
    let script = moved.map_or_else(|| Arc::clone(script), Arc::new);
    match config.case_sensitivity {
        Some(false) => Arc::new(script.case_insensitive()),
        _ => script,
    }
}

/// Waits until the script is loaded or has failed.
fn wait(server: *mut server_rec, conversation: &Conversation) {
    // httpd blocks the signal to stop while a child starts.
    while !signals::is_pending() {
        let refusal = match conversation.next_within(LOOK_UP) {
            None => continue,
            Some(Event::Failed(refusal)) => refusal,
            Some(Event::Reply(Reply::Log(entry))) => {
                log::of_server(server, entry);
                continue;
            }
            Some(Event::Reply(Reply::Response(_) | Reply::Returned(_))) => return,
            // A script that is being loaded has no request to ask about.
            Some(Event::Reply(Reply::AskVariable(_))) => {
                conversation.answer(Answer::Variable(None));
                continue;
            }
            Some(Event::Reply(Reply::Ask { .. })) => {
                conversation.answer(Answer::Failed);
                continue;
            }
        };
        return log::of_server(server, LogEntry::new(Level::Error, refusal.to_string()));
    }
}

/// Forms that need a request are none here.
fn group_of(preload: &Preload, server: &server_rec) -> GroupName {
    match &preload.application_group {
        GroupRule::Fixed(name) => name.clone(),
        GroupRule::Server => {
            // SAFETY: a server's name is a C string that lives as long as the configuration.
            let host = unsafe { std::ffi::CStr::from_ptr(server.server_hostname) }.to_bytes();
            match server.port {
                0 | 80 | 443 => GroupName::new(host),
                port => GroupName::new(&[host, b":", port.to_string().as_bytes()].concat()),
            }
        }
        GroupRule::Host => GroupName::new(b"%{HOST}"),
        GroupRule::Resource => GroupName::new(b"%{RESOURCE}"),
        GroupRule::Environment(name) => GroupName::new(&[b"%{ENV:", &name[..], b"}"].concat()),
    }
}

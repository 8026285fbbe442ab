//! What a worker process is told at its start, over a descriptor that it inherits.
//!
//! The first bytes are the length and number of the protocol, then one serialised value. Programs are
//! upgraded under a running server, so a worker of another protocol has to say so and not to guess.
#![forbid(unsafe_code)]

use super::ProcessGroup;
use super::wire::{PROTOCOL, Secret};
use crate::{GroupName, Script, Settings};
use serde::{Deserialize, Serialize};
use std::io::Read;
use std::sync::Arc;
use std::time::Duration;

/// The longest orders.
const LONGEST: u64 = 16 << 20;

/// Everything a worker process is told.
#[derive(Clone, Serialize, Deserialize)]
pub struct Orders {
    /// The process group that it belongs to.
    pub group: ProcessGroup,
    /// What its runtime is to do.
    pub settings: Settings,
    /// What only the server and this process know.
    pub secret: Secret,
    /// How many connections the server may have to it.
    pub connections: usize,
    /// The user that the server's own processes run as.
    pub server_user: Option<u32>,
    /// The process that has started it, with which it goes.
    pub parent: u32,
    /// How long it waits before it does anything, since others have died at their start.
    pub pause: Duration,
    /// Scripts that are loaded before the first request.
    pub preloads: Vec<Preload>,
    /// The process groups whose counters it may look at, in the order of their descriptors.
    pub seen: Vec<GroupName>,
}

/// A script that is loaded at the start of a process.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Preload {
    /// The group whose interpreters load it.
    pub group: GroupName,
    path: Vec<u8>,
    callable: Vec<u8>,
    module: Vec<u8>,
}

impl Preload {
    /// Has the interpreters of a group load a script.
    pub fn new(group: GroupName, script: &Script) -> Self {
        Self {
            group,
            path: script.path_bytes().to_vec(),
            callable: script.callable().to_bytes().to_vec(),
            module: script.module().to_bytes().to_vec(),
        }
    }

    /// The script.
    ///
    /// # Errors
    ///
    /// A part of it holds a NUL byte.
    pub(crate) fn script(&self) -> Result<Arc<Script>, std::ffi::NulError> {
        Script::from_parts(&self.path, &self.callable, &self.module).map(Arc::new)
    }
}

impl Orders {
    /// The orders as bytes.
    pub fn encode(&self) -> Vec<u8> {
        let mut text = PROTOCOL.to_le_bytes().to_vec();
        text.extend(postcard::to_stdvec(self).expect("every part of it can be serialised"));
        text
    }

    /// Reads orders to their end.
    ///
    /// # Errors
    ///
    /// What is wrong, and what to do.
    pub(crate) fn read(from: impl Read) -> Result<Self, String> {
        let mut text = Vec::new();
        let read = from.take(LONGEST).read_to_end(&mut text);
        read.map_err(|error| format!("the orders cannot be read: {error}"))?;
        let (protocol, value) =
            text.split_first_chunk().ok_or_else(|| "there are no orders".to_owned())?;
        let protocol = u32::from_le_bytes(*protocol);
        if protocol != PROTOCOL {
            return Err(format!(
                "httpd's module speaks protocol {protocol}, and this manifold-worker ({}) protocol \
                 {PROTOCOL}; install both of one version and restart httpd",
                env!("CARGO_PKG_VERSION")
            ));
        }
        postcard::from_bytes(value).map_err(|error| {
            format!("the orders are of another version of mod_manifold ({error}); restart httpd")
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt;
    use std::path::PathBuf;

    fn orders() -> Orders {
        Orders {
            group: ProcessGroup::new(GroupName::new(b"shop")),
            settings: Settings::default(),
            secret: [7; 32],
            connections: 25,
            server_user: None,
            parent: 1,
            pause: Duration::ZERO,
            preloads: vec![Preload::new(
                GroupName::default(),
                &Script::new(b"/srv/shop.wsgi", b"application").unwrap(),
            )],
            seen: vec![GroupName::default()],
        }
    }

    #[test]
    fn orders_arrive_as_they_were_given() {
        let text = orders().encode();
        let back = Orders::read(&text[..]).unwrap();
        assert_eq!(back.encode(), text);
        assert_eq!(back.preloads[0].script().unwrap().path(), "/srv/shop.wsgi");
    }

    #[test]
    fn paths_need_not_be_utf_8() {
        let path = PathBuf::from(OsStr::from_bytes(b"/srv/caf\xe9"));
        let mut orders = orders();
        let ProcessGroup { worker, identity, python, .. } = &mut orders.group;
        for place in [worker, &mut identity.home, &mut identity.chroot, &mut python.home] {
            *place = Some(path.clone());
        }
        (python.eggs, python.path) = (Some(path.clone()), vec![path.clone()]);
        let script = Script::new(path.as_os_str().as_bytes(), b"application").unwrap();
        orders.preloads = vec![Preload::new(GroupName::default(), &script)];
        let back = Orders::read(&orders.encode()[..]).unwrap();
        assert_eq!(back.group, orders.group);
        assert_eq!(*back.preloads[0].script().unwrap(), script);
    }

    #[test]
    fn orders_that_are_cut_off_or_of_another_version_are_refused_in_words() {
        let text = orders().encode();
        for end in 0..text.len() {
            assert!(Orders::read(&text[..end]).is_err(), "cut at {end}");
        }
        let mut other = text;
        other[0] += 1;
        let said = Orders::read(&other[..]).err().unwrap();
        assert!(said.contains("restart httpd"), "{said}");
    }
}

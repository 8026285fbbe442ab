//! What comes over the connection between a process of the web server and a worker process. The first byte
//! says who reads it, and how many descriptors come along; the rest comes as it stands.
#![no_main]

macro_rules! sources {
    ($($path:literal $name:ident)*) => {
        $(
            #[path = $path]
            #[allow(dead_code, reason = "this is about what frames are made of")]
            mod $name;
        )*
    };
}

sources! {
    "../../src/answer.rs" answer
    "../../src/daemon/channel.rs" channel
    "../../src/daemon/mark.rs" mark
    "../../src/daemon/wire.rs" wire
    "../../src/error.rs" error
    "../../src/fields.rs" fields
    "../../src/group/name.rs" name
    "../../src/job.rs" job
    "../../src/lending.rs" lending
    "../../src/reply.rs" reply
    "../../src/spool.rs" spool
    "../../src/store.rs" store
}

mod daemon {
    pub(crate) use crate::mark::Started;
}

use answer::Answer;
use channel::{Channel, Frame, Lost};
use error::{Code, Refusal};
use fields::Fields;
use job::{Ahead, Job, Reload, Script, Task, Timeout};
use libfuzzer_sys::fuzz_target;
use name::GroupName;
use reply::{FilePart, Head, Level, LogEntry, Outcome, Part, Reply, Source, Verbosity};
use rustix::fs::MemfdFlags;
use spool::Spool;
use store::{Store, Stored};
use std::collections::VecDeque;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::OnceLock;
use wire::{FromServer, FromWorker, HEADER};

/// How much may come at once, so that the socket takes it without a reader.
const MOST: usize = 64 * 1024;

fuzz_target!(|input: &[u8]| {
    let Some((how, bytes)) = input.split_first() else { return };
    if bytes.len() > MOST {
        return;
    }
    let (here, there) = UnixStream::pair().expect("two sockets");
    let (mut here, there) = (Channel::new(here), Channel::new(there));
    // One with each of the first bytes.
    let (first, rest) = bytes.split_at(bytes.len().min(usize::from(how >> 1) % 8));
    for byte in first {
        there.send_with(std::slice::from_ref(byte), Some(file().as_fd())).expect("it is taken");
    }
    there.send(rest).expect("it is taken");
    drop(there);
    let mut taken = 0;
    loop {
        match here.receive() {
            Ok(frame) => {
                let end = taken + HEADER + frame.content.len();
                assert_eq!(&bytes[taken + HEADER..end], frame.content);
                taken = end;
                let is_one = if how & 1 == 0 { server_says(frame) } else { worker_says(frame) };
                if !is_one {
                    return;
                }
            }
            Err(Lost::Closed) => return is_cut_off(&bytes[taken..]),
            Err(Lost::Malformed(_)) => return,
            Err(other) => panic!("{other:?}"),
        }
    }
});

/// What is left when nothing more comes is no whole frame.
fn is_cut_off(left: &[u8]) {
    if let Some(start) = left.first_chunk() {
        let (length, _) = wire::header(*start, wire::LONGEST).expect("or it was refused");
        assert!(left.len() < HEADER + length);
    }
}

/// A regular file.
fn file() -> &'static OwnedFd {
    static FILE: OnceLock<OwnedFd> = OnceLock::new();
    FILE.get_or_init(|| rustix::fs::memfd_create(c"file", MemfdFlags::CLOEXEC).expect("a file"))
}

/// What the server says is the same when it is said again.
fn server_says(frame: Frame<'_>) -> bool {
    let mut job = Job::default();
    let Ok(said) = wire::from_server(frame.kind, frame.content, &mut job) else { return false };
    let mut again = Vec::new();
    match &said {
        FromServer::Hello(secret) => wire::hello(&mut again, secret),
        FromServer::OtherProtocol(number) => {
            assert_ne!(*number, wire::PROTOCOL);
            return true;
        }
        FromServer::Request(group) => wire::request(&mut again, group, &job).expect("it was one"),
        FromServer::Answer(answer) => wire::answer(&mut again, answer).expect("it was one"),
    }
    assert_eq!(&again[HEADER..], frame.content, "{said:?} {job:?}");
    true
}

/// What a worker process says is the same when it is said and heard again.
fn worker_says(frame: Frame<'_>) -> bool {
    let Frame { kind, content, descriptors } = frame;
    let had = descriptors.len();
    let Ok(said) = wire::from_worker(kind, content, descriptors) else { return false };
    let again = say(&said);
    let mut files = VecDeque::new();
    if let FromWorker::Reply(Reply::Response(Part { file: Some(part), .. })) = &said {
        assert_eq!(descriptors.len(), had - 1, "the file is one that came");
        assert!(part.start.checked_add(part.length).is_some());
        files.push_back(part.file.as_fd().try_clone_to_owned().expect("a descriptor"));
    }
    if let FromWorker::Reply(Reply::Response(Part { head: Some(head), .. })) = &said {
        assert!((200..1000).contains(&head.status));
        let lines = head.headers.iter().flat_map(|(name, value)| [name, value]);
        for line in lines.chain([&head.status_line[..]]) {
            assert!(!line.iter().any(|byte| matches!(byte, 0 | b'\r' | b'\n')), "{head:?}");
        }
    }
    let heard = wire::from_worker(kind, &again[HEADER..], &mut files).expect("it is one");
    assert_eq!(say(&heard), again);
    true
}

fn say(said: &FromWorker) -> Vec<u8> {
    let mut to = Vec::new();
    match said {
        FromWorker::Welcome => wire::welcome(&mut to),
        FromWorker::Refused(why) => wire::refused(&mut to, why),
        FromWorker::Goaway => wire::goaway(&mut to),
        FromWorker::Failed(refusal) => wire::failed(&mut to, refusal),
        FromWorker::Reply(Reply::Ask { at_least, at_most }) => {
            wire::ask(&mut to, *at_least, *at_most);
        }
        FromWorker::Reply(Reply::Log(entry)) => wire::log(&mut to, entry),
        FromWorker::Reply(Reply::Response(Part { head, body, file, spool, end })) => {
            assert!(spool.is_none());
            let place = file.as_ref().map(|FilePart { start, length, .. }| (*start, *length));
            wire::part(&mut to, head.as_ref(), [&body[..]], place, *end).expect("it was one");
        }
        FromWorker::Reply(other) => panic!("a worker process does not say {other:?}"),
    }
    to
}

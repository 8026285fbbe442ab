//! Connections to a worker process whose other end has not yet said who it is.
//!
//! Any program of the user who owns the socket can connect to it. Until one has proved to be the web server
//! it has no thread, no place among the server's connections, and no more memory than a greeting takes:
//! the thread that accepts connections looks after all of them. There is room for [`ROOM`] of them.
//! Beyond that whoever has been silent for longest has to go, so that programs which connect and say
//! nothing keep nobody out: the server says who it is at once, and where it has to go before that was
//! heard, it comes again.
#![forbid(unsafe_code)]

use super::Mark;
use super::channel::{Channel, Lost};
use super::wire::{self, FromServer, Secret};
use crate::{Code, GroupName, Job};
use rustix::event::{PollFd, PollFlags, Timespec};
use std::collections::VecDeque;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

/// How many there may be.
const ROOM: usize = 64;

/// How long each of them has.
const GREETING: Duration = Duration::from_secs(10);

/// The longest content of a frame that says who somebody is. Another version's may be longer than ours.
const LONGEST: usize = 1024;

pub(super) struct Strangers {
    group: GroupName,
    secret: Secret,
    /// Who came first is first.
    waiting: VecDeque<Stranger>,
    /// Some had to go, which was said.
    crowded: bool,
}

struct Stranger {
    /// It does not block.
    channel: Channel,
    until: Instant,
}

/// Who a stranger is.
enum Judged {
    /// The web server, with the page for its marks.
    Known(Mark),
    /// That has not been said yet.
    Unknown,
    /// Somebody who has nothing to do here.
    Foreign(String),
    /// Somebody who has gone.
    Gone,
}

impl Strangers {
    pub(super) fn new(group: GroupName, secret: Secret) -> Self {
        Self { group, secret, waiting: VecDeque::new(), crowded: false }
    }

    /// Waits until a stranger or one of `others` has something to say, or a stranger has been silent for
    /// too long. Returns which of the others it is.
    pub(super) fn wait<const N: usize>(&self, others: [BorrowedFd<'_>; N]) -> [bool; N] {
        let strangers = self.waiting.iter().map(|stranger| stranger.channel.socket().as_fd());
        let all = others.into_iter().chain(strangers);
        let mut wanted: Vec<_> =
            all.map(|descriptor| PollFd::from_borrowed_fd(descriptor, PollFlags::IN)).collect();
        let limit =
            self.waiting.front().map(|first| first.until.saturating_duration_since(Instant::now()));
        let limit = limit.and_then(|limit| Timespec::try_from(limit).ok());
        // Interrupted: whoever asks will ask again.
        let _ = rustix::event::poll(&mut wanted, limit.as_ref());
        std::array::from_fn(|index| !wanted[index].revents().is_empty())
    }

    /// Somebody has connected.
    pub(super) fn add(&mut self, socket: UnixStream) {
        if socket.set_nonblocking(true).is_err() {
            return;
        }
        if self.waiting.len() >= ROOM {
            self.waiting.pop_front();
            if !std::mem::replace(&mut self.crowded, true) {
                tracing::error!(
                    "{}: {ROOM} connections to process group '{}' have said nothing, and more come: \
                     from now on the oldest is closed for each; see which program connects to its socket",
                    Code::WorkerForeign,
                    self.group
                );
            }
        }
        let until = Instant::now() + GREETING;
        self.waiting.push_back(Stranger { channel: Channel::new(socket), until });
    }

    /// Hears what they have said. Returns those who are known now; others are told why they are not.
    pub(super) fn hear(&mut self) -> Vec<(Channel, Mark)> {
        let (now, mut known) = (Instant::now(), Vec::new());
        for mut stranger in std::mem::take(&mut self.waiting) {
            match self.judge(&mut stranger.channel) {
                Judged::Known(mark) => known.push((stranger.channel, mark)),
                Judged::Unknown if now < stranger.until => self.waiting.push_back(stranger),
                Judged::Unknown => self.refuse(&stranger.channel, "it does not say who it is"),
                Judged::Foreign(why) => self.refuse(&stranger.channel, &why),
                Judged::Gone => {}
            }
        }
        self.crowded &= !self.waiting.is_empty();
        known
    }

    fn judge(&self, channel: &mut Channel) -> Judged {
        let foreign = |why: &str| Judged::Foreign(why.to_owned());
        let frame = match channel.receive_up_to(LONGEST) {
            Ok(frame) => frame,
            Err(Lost::TimedOut) => return Judged::Unknown,
            Err(Lost::Closed) => return Judged::Gone,
            Err(Lost::Malformed(malformed)) => return foreign(malformed.0),
            Err(Lost::Failed(error)) => return Judged::Foreign(error.to_string()),
        };
        match wire::from_server(frame.kind, frame.content, &mut Job::default()) {
            Ok(FromServer::Hello(secret)) if is_same(&secret, &self.secret) => {}
            Ok(FromServer::Hello(_)) => return foreign("its secret is another"),
            Ok(FromServer::OtherProtocol(theirs)) => {
                return Judged::Foreign(format!(
                    "it speaks protocol {theirs}, and manifold-worker {} protocol {}; restart httpd so \
                     that both are of one version",
                    env!("CARGO_PKG_VERSION"),
                    wire::PROTOCOL
                ));
            }
            Ok(_) => return foreign("it does not say who it is"),
            Err(malformed) => return foreign(malformed.0),
        }
        // Only now: what others send along is not looked at.
        let page = frame.descriptors.pop_front();
        match page.and_then(|page| Mark::of(&page).ok()) {
            Some(mark) => Judged::Known(mark),
            None => foreign("it brings no page"),
        }
    }

    fn refuse(&self, channel: &Channel, why: &str) {
        tracing::error!(
            "{}: a connection to process group '{}' was refused: {why}",
            Code::WorkerForeign,
            self.group
        );
        let mut frames = Vec::new();
        wire::refused(&mut frames, why);
        // A socket to which nothing was written has room for it.
        let _ = channel.send(&frames);
    }
}

/// Compares without telling by its time where two secrets differ.
fn is_same(one: &Secret, other: &Secret) -> bool {
    one.iter().zip(other).fold(0, |differ, (one, other)| differ | (one ^ other)) == 0
}

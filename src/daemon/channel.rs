//! A connection between a process of the web server and a worker process, frame by frame.
#![forbid(unsafe_code)]

use super::wire::{self, HEADER, LONGEST, Malformed};
use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags,
};
use std::collections::VecDeque;
use std::io::{self, ErrorKind, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

/// How much is read at once. Most frames are shorter.
const READ: usize = 16 * 1024;

/// How much is read at once where more than that was there.
const READ_MUCH: usize = 64 * 1024;

/// How many descriptors may wait for their frames. One comes with a frame at most.
const DESCRIPTORS: usize = 4;

/// A buffer that has grown beyond this for a long frame is not kept.
const KEPT: usize = 256 * 1024;

/// Why nothing can be sent or received any more.
#[derive(Debug)]
pub(crate) enum Lost {
    /// The other end has closed the connection, or is gone.
    Closed,
    /// It has sent or taken nothing for as long as it may.
    TimedOut,
    /// It has sent something that is no frame.
    Malformed(Malformed),
    /// Something else is wrong.
    Failed(io::Error),
}

impl From<io::Error> for Lost {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            ErrorKind::BrokenPipe | ErrorKind::ConnectionReset | ErrorKind::NotConnected => {
                Self::Closed
            }
            ErrorKind::WouldBlock | ErrorKind::TimedOut => Self::TimedOut,
            _ => Self::Failed(error),
        }
    }
}

impl From<Malformed> for Lost {
    fn from(malformed: Malformed) -> Self {
        Self::Malformed(malformed)
    }
}

/// A connection, and what was read from it and not yet taken.
#[derive(Debug)]
pub(crate) struct Channel {
    socket: UnixStream,
    input: Input,
}

/// What was read from a connection and not yet taken.
#[derive(Debug, Default)]
pub(crate) struct Input {
    /// What was read ends at `end`; there is room behind it.
    bytes: Vec<u8>,
    /// What of that was taken.
    taken: usize,
    end: usize,
    /// The last read has filled its room.
    much: bool,
    /// What came with it.
    descriptors: VecDeque<OwnedFd>,
}

/// A frame that was received.
#[derive(Debug)]
pub(crate) struct Frame<'a> {
    pub(crate) kind: u8,
    pub(crate) content: &'a [u8],
    /// Descriptors that have come with it or with frames behind it, in their order.
    pub(crate) descriptors: &'a mut VecDeque<OwnedFd>,
}

impl Channel {
    pub(crate) fn new(socket: UnixStream) -> Self {
        Self { socket, input: Input::default() }
    }

    pub(crate) fn socket(&self) -> &UnixStream {
        &self.socket
    }

    pub(crate) fn into_parts(self) -> (UnixStream, Input) {
        (self.socket, self.input)
    }

    /// Sends frames.
    pub(crate) fn send(&self, frames: &[u8]) -> Result<(), Lost> {
        self.send_with(frames, None)
    }

    /// Sends frames, with a descriptor.
    pub(crate) fn send_with(
        &self,
        mut frames: &[u8],
        mut descriptor: Option<BorrowedFd<'_>>,
    ) -> Result<(), Lost> {
        while !frames.is_empty() {
            let sent = send_some(&self.socket, frames, descriptor.take())?;
            frames = &frames[sent..];
        }
        Ok(())
    }

    /// The next frame.
    pub(crate) fn receive(&mut self) -> Result<Frame<'_>, Lost> {
        self.input.receive(&self.socket, LONGEST)
    }

    /// The next frame, where all of it was read already and it is `wanted`, by its kind and content.
    pub(crate) fn receive_if(
        &mut self,
        wanted: impl FnOnce(u8, &[u8]) -> bool,
    ) -> Option<Frame<'_>> {
        self.input.receive_if(wanted)
    }

    /// The next frame, if its content is no longer than that.
    pub(crate) fn receive_up_to(&mut self, longest: usize) -> Result<Frame<'_>, Lost> {
        self.input.receive(&self.socket, longest)
    }

    /// Whether something has come, or comes within this time, if it is only the end.
    pub(crate) fn is_ready(&self, limit: Duration) -> bool {
        if !self.input.is_empty() {
            return true;
        }
        let limit = Timespec::try_from(limit).ok();
        let mut wanted = [PollFd::new(&self.socket, PollFlags::IN)];
        // Interrupted: whoever asks will ask again.
        matches!(rustix::event::poll(&mut wanted, limit.as_ref()), Ok(ready) if ready > 0)
    }
}

impl Input {
    /// Whether nothing was read that was not taken.
    pub(crate) fn is_empty(&self) -> bool {
        self.taken == self.end
    }

    /// The next frame that comes from `socket`, if its content is no longer than that.
    pub(crate) fn receive(
        &mut self,
        socket: &UnixStream,
        longest: usize,
    ) -> Result<Frame<'_>, Lost> {
        loop {
            match self.start(longest)? {
                Some((length, kind)) if self.has(HEADER + length) => {
                    return Ok(self.take(length, kind));
                }
                Some((length, _)) => self.read(socket, HEADER + length)?,
                None => self.read(socket, HEADER)?,
            }
        }
    }

    /// The next frame, where all of it was read and it is `wanted`.
    fn receive_if(&mut self, wanted: impl FnOnce(u8, &[u8]) -> bool) -> Option<Frame<'_>> {
        let (length, kind) = self.start(LONGEST).ok()??;
        if !self.has(HEADER + length) {
            return None;
        }
        let start = self.taken + HEADER;
        wanted(kind, &self.bytes[start..start + length]).then(|| self.take(length, kind))
    }

    /// Length and kind of the next frame, where that much was read.
    fn start(&self, longest: usize) -> Result<Option<(usize, u8)>, Malformed> {
        let start = self.bytes[self.taken..self.end].first_chunk();
        start.map(|start| wire::header(*start, longest)).transpose()
    }

    fn has(&self, bytes: usize) -> bool {
        self.end - self.taken >= bytes
    }

    fn take(&mut self, length: usize, kind: u8) -> Frame<'_> {
        let start = self.taken + HEADER;
        self.taken = start + length;
        let content = &self.bytes[start..self.taken];
        Frame { kind, content, descriptors: &mut self.descriptors }
    }

    /// Reads more of a frame that has `wanted` bytes in all.
    fn read(&mut self, socket: &UnixStream, wanted: usize) -> Result<(), Lost> {
        self.bytes.copy_within(self.taken..self.end, 0);
        self.end -= self.taken;
        self.taken = 0;
        if self.is_empty() && self.bytes.len() > KEPT {
            self.bytes = Vec::new();
        }
        // What a length announces is not set aside before it comes.
        let least = if self.much { READ_MUCH } else { READ };
        let room = self.end + (wanted - self.end).clamp(least, KEPT);
        if self.bytes.len() < room {
            self.bytes.resize(room, 0);
        }
        let into = &mut self.bytes[self.end..room];
        let received = receive_some(socket, into, &mut self.descriptors)?;
        self.much = received == into.len();
        self.end += received;
        if received == 0 { Err(Lost::Closed) } else { Ok(()) }
    }
}

/// Frames that wait until a connection that does not block has room for them.
#[derive(Debug, Default)]
pub(crate) struct Output {
    frames: Vec<u8>,
    /// How much of that was sent.
    sent: usize,
    /// What goes along with what is sent next.
    descriptor: Option<OwnedFd>,
    /// Since when there has been no room for anything.
    stuck: Option<Instant>,
}

impl Output {
    /// Where frames are written.
    pub(crate) fn frames(&mut self) -> &mut Vec<u8> {
        &mut self.frames
    }

    /// Has a descriptor go along with the frames that were written last. There is one at a time.
    pub(crate) fn attach(&mut self, descriptor: OwnedFd) {
        debug_assert!(self.descriptor.is_none(), "the one before was not sent");
        self.descriptor = Some(descriptor);
    }

    /// Whether so much waits that it is better sent before there is more.
    pub(crate) fn is_full(&self) -> bool {
        self.descriptor.is_some() || self.frames.len() >= READ
    }

    /// Since when the other end has taken nothing, although something waits.
    pub(crate) fn stuck_since(&self) -> Option<Instant> {
        self.stuck
    }

    /// Sends what there is room for. Whether that was all.
    pub(crate) fn flush(&mut self, socket: &UnixStream) -> Result<bool, Lost> {
        while self.sent < self.frames.len() {
            let descriptor = self.descriptor.as_ref().map(AsFd::as_fd);
            match send_some(socket, &self.frames[self.sent..], descriptor) {
                Ok(sent) => {
                    self.sent += sent;
                    self.descriptor = None;
                    self.stuck = None;
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    self.stuck.get_or_insert_with(Instant::now);
                    return Ok(false);
                }
                Err(error) => return Err(error.into()),
            }
        }
        self.sent = 0;
        self.frames.clear();
        self.frames.shrink_to(KEPT);
        Ok(true)
    }
}

/// Sends some of these bytes, and a descriptor along with them.
fn send_some(
    socket: &UnixStream,
    bytes: &[u8],
    descriptor: Option<BorrowedFd<'_>>,
) -> io::Result<usize> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    loop {
        let sent = match descriptor {
            None => rustix::net::send(socket, bytes, SendFlags::NOSIGNAL),
            Some(descriptor) => {
                let mut ancillary = SendAncillaryBuffer::new(&mut space);
                let descriptors = [descriptor];
                let added = ancillary.push(SendAncillaryMessage::ScmRights(&descriptors));
                debug_assert!(added, "there is space for one");
                let bytes = [IoSlice::new(bytes)];
                rustix::net::sendmsg(socket, &bytes, &mut ancillary, SendFlags::NOSIGNAL)
            }
        };
        match sent {
            Err(rustix::io::Errno::INTR) => {}
            sent => return Ok(sent?),
        }
    }
}

/// Receives bytes, and the descriptors that come with them; too many are closed.
fn receive_some(
    socket: &UnixStream,
    into: &mut [u8],
    into_queue: &mut VecDeque<OwnedFd>,
) -> io::Result<usize> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(4))];
    loop {
        let mut ancillary = RecvAncillaryBuffer::new(&mut space);
        let mut bytes = [IoSliceMut::new(into)];
        let flags = RecvFlags::CMSG_CLOEXEC;
        match rustix::net::recvmsg(socket.as_fd(), &mut bytes, &mut ancillary, flags) {
            Ok(message) => {
                for message in ancillary.drain() {
                    if let RecvAncillaryMessage::ScmRights(descriptors) = message {
                        let room = DESCRIPTORS.saturating_sub(into_queue.len());
                        into_queue.extend(descriptors.take(room));
                    }
                }
                return Ok(message.bytes);
            }
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Answer;
    use std::io::Write;

    fn pair() -> (Channel, Channel) {
        let (one, other) = UnixStream::pair().unwrap();
        (Channel::new(one), Channel::new(other))
    }

    /// An answer of that many bytes, as a frame.
    fn frame(length: usize) -> Vec<u8> {
        let mut frame = Vec::new();
        wire::answer(&mut frame, &Answer::Body { bytes: vec![7; length], last: true }).unwrap();
        frame
    }

    #[test]
    fn frames_come_one_by_one_however_they_were_cut() {
        let (mut here, there) = pair();
        let lengths = [0, 3, 20_000, 1, 600_000];
        let bytes = lengths.map(frame).concat();
        let writer = std::thread::spawn(move || {
            // Every small cut, and then the rest.
            let (start, rest) = bytes.split_at(60);
            start.iter().for_each(|byte| there.send(std::slice::from_ref(byte)).unwrap());
            rest.chunks(9973).for_each(|piece| there.send(piece).unwrap());
        });
        for length in lengths {
            assert_eq!(here.receive().unwrap().content.len(), 1 + length);
        }
        writer.join().unwrap();
        assert!(matches!(here.receive(), Err(Lost::Closed)));
        assert!(here.input.bytes.capacity() <= 2 * KEPT, "nothing large is kept");
    }

    #[test]
    fn a_frame_that_ends_early_is_none() {
        let whole = frame(10);
        for end in 0..whole.len() {
            let (mut here, there) = pair();
            there.send(&whole[..end]).unwrap();
            drop(there);
            assert!(matches!(here.receive(), Err(Lost::Closed)), "cut at {end}");
        }
    }

    #[test]
    fn a_frame_that_has_come_is_there_for_who_wants_it_and_only_as_a_whole() {
        let (mut here, there) = pair();
        let bytes = [3, 4, 5, 6].map(frame).concat();
        there.send(&bytes[..bytes.len() - 1]).unwrap();
        assert!(here.receive_if(|_, _| true).is_none(), "nothing was read");
        assert_eq!(here.receive().unwrap().content.len(), 1 + 3);
        let of = |length: usize| move |_, content: &[u8]| content.len() == 1 + length;
        assert!(here.receive_if(of(5)).is_none(), "the next has another length");
        assert_eq!(here.receive_if(of(4)).unwrap().content.len(), 1 + 4);
        assert_eq!(here.receive().unwrap().content.len(), 1 + 5);
        assert!(here.receive_if(|_, _| true).is_none(), "a byte of it is not there");
        there.send(&bytes[bytes.len() - 1..]).unwrap();
        assert_eq!(here.receive().unwrap().content.len(), 1 + 6);
    }

    #[test]
    fn a_length_beyond_the_limit_is_refused_before_anything_is_set_aside() {
        let (mut here, there) = pair();
        (&there.socket).write_all(&[255, 255, 255, 255, 3]).unwrap();
        assert!(matches!(here.receive(), Err(Lost::Malformed(_))));
        assert!(here.input.bytes.capacity() <= READ * 2);
    }

    #[test]
    fn a_descriptor_comes_with_its_frame() {
        let (mut here, there) = pair();
        let (mark, page) = super::super::mark::Mark::new().unwrap();
        there.send_with(&frame(2), Some(page.as_fd())).unwrap();
        let frame = here.receive().unwrap();
        let descriptor = frame.descriptors.pop_front().expect("a descriptor");
        super::super::mark::Mark::of(&descriptor).unwrap().set(1);
        assert!(mark.is_set(1));
    }

    #[test]
    fn descriptors_that_nobody_takes_do_not_add_up() {
        let (mut here, there) = pair();
        for _ in 0..20 {
            there.send_with(&frame(2), Some(there.socket.as_fd())).unwrap();
            here.receive().unwrap();
        }
        assert_eq!(here.input.descriptors.len(), DESCRIPTORS);
    }

    #[test]
    fn silence_is_told_from_an_end() {
        let (mut here, there) = pair();
        assert!(!here.is_ready(Duration::ZERO));
        here.socket.set_read_timeout(Some(Duration::from_millis(1))).unwrap();
        assert!(matches!(here.receive(), Err(Lost::TimedOut)));
        // Not by dropping it: other tests fork, and their children have it open for a moment.
        there.socket.shutdown(std::net::Shutdown::Both).unwrap();
        assert!(here.is_ready(Duration::ZERO));
        assert!(matches!(here.receive(), Err(Lost::Closed)));
    }
}

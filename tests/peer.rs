//! A program that speaks to the socket of a worker process by itself. What it sends is put together here,
//! byte by byte, and not by the library: so these tests also hold what goes over the socket.

use rustix::fs::{MemfdFlags, SealFlags};
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags};
use std::io::{ErrorKind, IoSlice, Read, Write};
use std::mem::MaybeUninit;
use std::net::Shutdown;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

/// The protocol that is spoken today.
pub(crate) const PROTOCOL: u32 = 1;

// Kinds of frames.
pub(crate) const HELLO: u8 = 1;
pub(crate) const REQUEST: u8 = 2;
pub(crate) const ANSWER: u8 = 3;
pub(crate) const WELCOME: u8 = 16;
pub(crate) const REFUSED: u8 = 17;
pub(crate) const ASK: u8 = 19;
pub(crate) const PART: u8 = 21;
pub(crate) const FAILED: u8 = 22;

/// How long a worker may take to do what it should. A deadline, never a measurement.
const PATIENCE: Duration = Duration::from_secs(30);

/// A frame: the length of the content in four bytes, the least significant first, the kind, and the content.
pub(crate) fn frame(kind: u8, content: &[u8]) -> Vec<u8> {
    let length = u32::try_from(content.len()).expect("a short content").to_le_bytes();
    [&length[..], &[kind], content].concat()
}

/// The first frame: the number of the protocol, and the secret.
pub(crate) fn hello(protocol: u32, secret: [u8; 32]) -> Vec<u8> {
    frame(HELLO, &[&protocol.to_le_bytes()[..], &secret].concat())
}

/// A request for the callable `application` of a script, in the main interpreter, which may have a limit of
/// its time.
pub(crate) fn request(
    script: &Path,
    limit: Option<Duration>,
    variables: &[(&str, &str)],
) -> Vec<u8> {
    let number = |number: usize| u32::try_from(number).expect("a small number").to_le_bytes();
    let text = |text: &[u8]| [&number(text.len())[..], text].concat();
    let mut content = [
        vec![0; 8], // how often it was tried
        text(b""),  // the application group
        text(script.as_os_str().as_bytes()),
        text(b"application"),
        text(b"_mod_wsgi_of_a_test"),
    ]
    .concat();
    content.push(0); // not loaded again where it has changed
    content.push(0); // when that was is not known
    content.push(limit.is_some().into());
    // How long it may take, and how long its application may then take to end, in microseconds.
    for time in limit.iter().flat_map(|limit| [*limit, PATIENCE]) {
        content.extend(u64::try_from(time.as_micros()).expect("a short time").to_le_bytes());
    }
    content.push(0); // not by HTTPS
    content.extend([0; 8]); // when it was received
    content.extend([0; 8]); // when it was handed over
    content.push(0); // it counts as activity
    content.extend(i32::MAX.to_le_bytes()); // all log lines are wanted
    content.extend(number(variables.len()));
    for (name, value) in variables {
        content.extend([text(name.as_bytes()), text(value.as_bytes())].concat());
    }
    content.push(0); // its body does not end
    content.extend(text(b"")); // with what has come of it
    frame(REQUEST, &content)
}

/// The page in which a worker notes that a request has started: it comes with the first frame.
pub(crate) fn page() -> OwnedFd {
    let page = rustix::fs::memfd_create(c"a page", MemfdFlags::ALLOW_SEALING).expect("a page");
    rustix::fs::ftruncate(&page, 4096).expect("it has a size");
    rustix::fs::fcntl_add_seals(&page, SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL)
        .expect("it keeps it");
    page
}

/// A connection.
pub(crate) struct Peer(UnixStream);

impl Peer {
    pub(crate) fn connect(socket: &Path) -> Self {
        let stream = UnixStream::connect(socket).expect("a worker listens");
        stream.set_read_timeout(Some(PATIENCE)).expect("a socket has timeouts");
        stream.set_write_timeout(Some(PATIENCE)).expect("a socket has timeouts");
        Self(stream)
    }

    /// Sends bytes. That nobody listens any more shows when the answer is read.
    pub(crate) fn say(&mut self, bytes: &[u8]) {
        let _ = self.0.write_all(bytes);
    }

    /// Sends bytes, at least one, and a descriptor with the first of them.
    pub(crate) fn say_with(&mut self, bytes: &[u8], descriptor: BorrowedFd<'_>) {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut ancillary = SendAncillaryBuffer::new(&mut space);
        let descriptors = [descriptor];
        assert!(ancillary.push(SendAncillaryMessage::ScmRights(&descriptors)));
        let (first, rest) = bytes.split_at(1);
        let first = [IoSlice::new(first)];
        rustix::net::sendmsg(self.0.as_fd(), &first, &mut ancillary, SendFlags::NOSIGNAL)
            .expect("the first byte goes out");
        self.say(rest);
    }

    /// The next frame that comes, as kind and content; `None` at the end.
    pub(crate) fn hear(&mut self) -> Option<(u8, Vec<u8>)> {
        let mut start = [0; 5];
        match self.0.read_exact(&mut start) {
            Ok(()) => {}
            // Reset: it was closed with something of ours unread.
            Err(error)
                if matches!(
                    error.kind(),
                    ErrorKind::UnexpectedEof | ErrorKind::ConnectionReset
                ) =>
            {
                return None;
            }
            Err(error) => panic!("the worker neither answers nor closes: {error}"),
        }
        let [a, b, c, d, kind] = start;
        let mut content = vec![0; u32::from_le_bytes([a, b, c, d]) as usize];
        self.0.read_exact(&mut content).expect("a whole frame");
        Some((kind, content))
    }

    /// All frames up to the end of the connection.
    pub(crate) fn hear_all(&mut self) -> Vec<(u8, Vec<u8>)> {
        std::iter::from_fn(|| self.hear()).collect()
    }

    /// Says that nothing more will come.
    pub(crate) fn close(&self) {
        // The other end may be gone already.
        let _ = self.0.shutdown(Shutdown::Write);
    }

    /// Whether the other end has closed, without waiting for it.
    pub(crate) fn is_closed(&self) -> bool {
        self.0.set_nonblocking(true).expect("a socket can be non-blocking");
        let mut byte = [0];
        let seen = rustix::net::recv(&self.0, &mut byte, rustix::net::RecvFlags::PEEK);
        self.0.set_nonblocking(false).expect("and blocking again");
        !matches!(seen, Err(rustix::io::Errno::AGAIN))
    }
}

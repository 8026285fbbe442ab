//! A client over a plain socket: it shows truncation, half-closed connections, interim responses
//! and what follows on a kept connection, which finished clients hide.

use std::fmt::Write as _;
use std::io::{self, BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use super::{PATIENCE, eventually};

/// What to ask. `Host` is added when the headers have none.
#[derive(Clone)]
pub(crate) struct Request {
    method: String,
    target: String,
    version: &'static str,
    headers: String,
    body: Option<Vec<u8>>,
}

impl Request {
    /// Any method.
    pub(crate) fn new(method: &str, target: &str) -> Request {
        Request {
            method: method.to_owned(),
            target: target.to_owned(),
            version: "HTTP/1.1",
            headers: String::new(),
            body: None,
        }
    }

    /// A `GET`.
    pub(crate) fn get(target: &str) -> Request {
        Request::new("GET", target)
    }

    /// A `POST` with a body and its `Content-Length`.
    pub(crate) fn post(target: &str, body: &[u8]) -> Request {
        Request::new("POST", target).body(body)
    }

    /// One more header.
    pub(crate) fn header(mut self, name: &str, value: &str) -> Request {
        write!(self.headers, "{name}: {value}\r\n").expect("a String takes all");
        self
    }

    /// A body and its `Content-Length`.
    pub(crate) fn body(mut self, body: &[u8]) -> Request {
        self.body = Some(body.to_vec());
        self.header("Content-Length", &body.len().to_string())
    }

    /// Asked in HTTP/1.0.
    pub(crate) fn http_1_0(mut self) -> Request {
        self.version = "HTTP/1.0";
        self
    }

    /// The request up to its body.
    pub(crate) fn head(&self, host: &str) -> Vec<u8> {
        let Request { method, target, version, headers, .. } = self;
        let named = headers.lines().any(|line| line.to_ascii_lowercase().starts_with("host:"));
        let host = if named { String::new() } else { format!("Host: {host}\r\n") };
        format!("{method} {target} {version}\r\n{host}{headers}\r\n").into_bytes()
    }
}

/// What came back.
#[derive(Clone, Debug)]
pub(crate) struct Response {
    pub(crate) status: u16,
    pub(crate) reason: String,
    headers: Vec<(String, Vec<u8>)>,
    pub(crate) body: Vec<u8>,
    /// The body came to the end it announced.
    pub(crate) whole: bool,
}

impl Response {
    /// The values of a header, one for each line that had it, as latin-1.
    pub(crate) fn all(&self, name: &str) -> Vec<String> {
        let wanted = self.headers.iter().filter(|(header, _)| header.eq_ignore_ascii_case(name));
        wanted.map(|(_, value)| value.iter().copied().map(char::from).collect()).collect()
    }

    /// The value of a header that is there once.
    pub(crate) fn header(&self, name: &str) -> Option<String> {
        let mut all = self.all(name);
        assert!(all.len() < 2, "{name} came more than once: {all:?}");
        all.pop()
    }

    /// The body as text.
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// Checks status and body of a response that must have come whole.
    #[track_caller]
    pub(crate) fn expect(&self, status: u16, body: &str) {
        let seen = (self.status, self.text(), self.whole);
        assert_eq!(seen, (status, body.to_owned(), true), "(status, body, whole)");
    }

    /// Checks a 200 whose body must be exactly these bytes.
    #[track_caller]
    pub(crate) fn carries(&self, body: &[u8]) {
        let place = self.body.iter().zip(body).position(|(a, b)| a != b);
        let seen = (self.status, self.whole, self.body.len(), place);
        assert_eq!(
            seen,
            (200, true, body.len(), None),
            "(status, whole, length, first difference)"
        );
    }

    /// The value behind `key` in a body of `key<TAB>repr(value)` lines.
    #[track_caller]
    pub(crate) fn fact(&self, key: &str) -> String {
        self.maybe_fact(key)
            .unwrap_or_else(|| panic!("no {key} in {}: {}", self.status, self.text()))
    }

    /// The same, for a key that may be absent.
    pub(crate) fn maybe_fact(&self, key: &str) -> Option<String> {
        let text = self.text();
        let mut pairs = text.lines().filter_map(|line| line.split_once('\t'));
        pairs.find(|(name, _)| *name == key).map(|(_, value)| value.to_owned())
    }
}

/// One connection.
pub(crate) struct Client {
    stream: BufReader<TcpStream>,
    host: String,
}

impl Client {
    /// Connects; panics when nobody listens.
    pub(crate) fn connect(address: SocketAddr) -> Client {
        Client::try_connect(address).expect("httpd accepts a connection")
    }

    /// Connects, with as little room for what it does not read as a socket has at first: the rest
    /// stays with the server.
    pub(crate) fn connect_narrow(address: SocketAddr) -> Client {
        let client = Client::connect(address);
        let (room, size) = (65_536_i32, size_of::<i32>() as libc::socklen_t);
        let socket = client.stream.get_ref().as_raw_fd();
        // SAFETY: the socket is open, and the option is read from a number of that size.
        let set = unsafe {
            libc::setsockopt(
                socket,
                libc::SOL_SOCKET,
                libc::SO_RCVBUF,
                (&raw const room).cast(),
                size,
            )
        };
        assert_eq!(set, 0, "a socket takes the size of its buffer");
        client
    }

    fn try_connect(address: SocketAddr) -> io::Result<Client> {
        let stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        Ok(Client { stream: BufReader::new(stream), host: address.to_string() })
    }

    /// Sends a request and reads the whole answer.
    #[track_caller]
    pub(crate) fn send(&mut self, request: &Request) -> Response {
        self.try_send(request).unwrap_or_else(|error| {
            panic!("{} {}: no answer: {error}", request.method, request.target)
        })
    }

    /// Sends the request line and the headers only.
    pub(crate) fn send_head(&mut self, request: &Request) {
        let head = request.head(&self.host);
        self.write(&head);
    }

    /// Sends bytes as they are.
    pub(crate) fn write(&mut self, bytes: &[u8]) {
        self.stream.get_mut().write_all(bytes).expect("httpd takes what we send");
    }

    /// Says that nothing more will come, and goes on reading.
    pub(crate) fn half_close(&mut self) {
        self.stream.get_ref().shutdown(Shutdown::Write).expect("our side closes");
    }

    /// Reads one status line with its headers; the body stays to be read.
    #[track_caller]
    pub(crate) fn read_head(&mut self) -> Response {
        self.try_read_head().expect("a response's head")
    }

    /// Reads one whole response to a request with method `method`.
    #[track_caller]
    pub(crate) fn read(&mut self, method: &str) -> Response {
        self.try_read(method).expect("a response")
    }

    /// Reads exactly so many bytes of whatever comes next.
    #[track_caller]
    pub(crate) fn read_bytes(&mut self, count: usize) -> Vec<u8> {
        let mut bytes = vec![0; count];
        self.stream.read_exact(&mut bytes).expect("as many bytes as that");
        bytes
    }

    /// Reads what else comes until httpd closes the connection.
    #[track_caller]
    pub(crate) fn read_rest(&mut self) -> Vec<u8> {
        let mut bytes = Vec::new();
        self.stream.read_to_end(&mut bytes).expect("the end of the connection");
        bytes
    }

    fn try_send(&mut self, request: &Request) -> io::Result<Response> {
        let mut bytes = request.head(&self.host);
        bytes.extend_from_slice(request.body.as_deref().unwrap_or_default());
        match self.stream.get_mut().write_all(&bytes) {
            // httpd may answer and close before it has taken a body it does not want.
            Err(error) if is_hang_up(&error) && request.body.is_some() => {}
            other => other?,
        }
        self.try_read(&request.method)
    }

    fn try_read(&mut self, method: &str) -> io::Result<Response> {
        let mut response = self.try_read_head()?;
        while response.status < 200 {
            response = self.try_read_head()?;
        }
        if method == "HEAD" || matches!(response.status, 204 | 304) {
            return Ok(response);
        }
        let (body, whole) = self.try_read_body(&response)?;
        Ok(Response { body, whole, ..response })
    }

    fn try_read_head(&mut self) -> io::Result<Response> {
        let status_line = self.line()?;
        let status_line = String::from_utf8_lossy(&status_line).into_owned();
        let mut words = status_line.splitn(3, ' ');
        let version = words.next().unwrap_or_default();
        let status = words.next().and_then(|status| status.parse().ok());
        let (true, Some(status)) = (version.starts_with("HTTP/1."), status) else {
            return Err(io::Error::other(format!("not a status line: {status_line:?}")));
        };
        let reason = words.next().unwrap_or_default().to_owned();
        let mut headers = Vec::new();
        loop {
            // A head that ends early is worse than none: not the hang-up a restart may cause.
            let line =
                self.line().map_err(|error| io::Error::other(format!("in a head: {error}")))?;
            if line.is_empty() {
                break;
            }
            let colon = line.iter().position(|&byte| byte == b':');
            let colon = colon.ok_or_else(|| io::Error::other("a header without a colon"))?;
            let name = String::from_utf8_lossy(&line[..colon]).into_owned();
            headers.push((name, line[colon + 1..].trim_ascii().to_vec()));
        }
        Ok(Response { status, reason, headers, body: Vec::new(), whole: true })
    }

    /// The body, and whether its announced end was seen.
    fn try_read_body(&mut self, head: &Response) -> io::Result<(Vec<u8>, bool)> {
        let mut body = Vec::new();
        if head.all("Transfer-Encoding").iter().any(|coding| coding.ends_with("chunked")) {
            let whole = self.read_chunks(&mut body);
            return finished(body, whole);
        }
        let Some(length) = head.header("Content-Length") else {
            let end = self.stream.read_to_end(&mut body);
            return finished(body, end.map(|_| ()));
        };
        let length: u64 = length.parse().map_err(|_| io::Error::other("a bad Content-Length"))?;
        let read = self.stream.by_ref().take(length).read_to_end(&mut body);
        let whole = read.and_then(|read| match read as u64 == length {
            true => Ok(()),
            false => Err(ErrorKind::UnexpectedEof.into()),
        });
        finished(body, whole)
    }

    fn read_chunks(&mut self, body: &mut Vec<u8>) -> io::Result<()> {
        loop {
            let line = String::from_utf8_lossy(&self.line()?).into_owned();
            let size = line.split(';').next().unwrap_or_default().trim();
            let size = u64::from_str_radix(size, 16)
                .map_err(|_| io::Error::other(format!("not a chunk size: {line:?}")))?;
            if size == 0 {
                while !self.line()?.is_empty() {} // trailers
                return Ok(());
            }
            if self.stream.by_ref().take(size).read_to_end(body)? as u64 != size {
                return Err(ErrorKind::UnexpectedEof.into());
            }
            self.line()?;
        }
    }

    fn line(&mut self) -> io::Result<Vec<u8>> {
        let mut line = Vec::new();
        self.stream.read_until(b'\n', &mut line)?;
        match line.pop() {
            Some(b'\n') => {
                if line.last() == Some(&b'\r') {
                    line.pop();
                }
                Ok(line)
            }
            _ => Err(ErrorKind::UnexpectedEof.into()),
        }
    }

    /// The other side has closed, or sent something, while nothing was due.
    fn was_closed(&self) -> bool {
        if !self.stream.buffer().is_empty() {
            return true;
        }
        let socket = self.stream.get_ref();
        socket.set_nonblocking(true).expect("a socket can be non-blocking");
        let seen = socket.peek(&mut [0]);
        socket.set_nonblocking(false).expect("and blocking again");
        !matches!(seen, Err(error) if error.kind() == ErrorKind::WouldBlock)
    }
}

/// A connection that ends inside a body is something to see, not an error of ours.
fn finished(body: Vec<u8>, end: io::Result<()>) -> io::Result<(Vec<u8>, bool)> {
    match end {
        Ok(()) => Ok((body, true)),
        Err(error) if is_hang_up(&error) => Ok((body, false)),
        Err(error) => Err(error),
    }
}

fn is_hang_up(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::UnexpectedEof | ErrorKind::ConnectionReset | ErrorKind::BrokenPipe
    )
}

/// How a load's clients use their connections.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Mode {
    /// A connection for each request, with `Connection: close`.
    Close,
    /// Connections are kept until httpd ends them.
    KeepAlive,
}

/// Clients that ask again and again, until they are told to stop.
pub(crate) struct Load {
    stop: Arc<AtomicBool>,
    answered: Arc<AtomicU64>,
    clients: Vec<JoinHandle<Tally>>,
}

/// What the clients of one load saw.
#[derive(Default, Debug)]
pub(crate) struct Tally {
    /// Whole answers with status 200.
    pub(crate) answered: u64,
    /// Connections that ended after a request was sent and before any of its answer came.
    pub(crate) resets: u64,
    /// Everything else that should not be: refused connections, other statuses, short bodies.
    pub(crate) failures: Vec<String>,
}

impl Load {
    /// Starts so many clients on one target.
    pub(crate) fn start(address: SocketAddr, target: &str, clients: usize, mode: Mode) -> Load {
        let stop = Arc::new(AtomicBool::new(false));
        let answered = Arc::new(AtomicU64::new(0));
        let request = match mode {
            Mode::Close => Request::get(target).header("Connection", "close"),
            Mode::KeepAlive => Request::get(target),
        };
        let clients = (0..clients).map(|_| {
            let (stop, answered) = (stop.clone(), answered.clone());
            let request = request.clone();
            std::thread::spawn(move || keep_asking(address, &request, mode, &stop, &answered))
        });
        let clients = clients.collect();
        Load { stop, answered, clients }
    }

    /// Waits until so many more requests have been answered.
    pub(crate) fn goes_on(&self, more: u64) {
        let from = self.answered.load(Ordering::Relaxed);
        eventually("the load goes on", || {
            (self.answered.load(Ordering::Relaxed) >= from + more).then_some(())
        });
    }

    /// Stops the clients and adds up what they saw.
    pub(crate) fn finish(mut self) -> Tally {
        self.stop.store(true, Ordering::Relaxed);
        let mut all = Tally::default();
        for client in self.clients.drain(..) {
            let tally = client.join().expect("a client's thread panicked");
            all.answered += tally.answered;
            all.resets += tally.resets;
            all.failures.extend(tally.failures);
        }
        all
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

fn keep_asking(
    address: SocketAddr,
    request: &Request,
    mode: Mode,
    stop: &AtomicBool,
    answered: &AtomicU64,
) -> Tally {
    let mut tally = Tally::default();
    let mut kept: Option<Client> = None;
    while !stop.load(Ordering::Relaxed) {
        // The load is bounded: this is not a benchmark, and other tests run beside it.
        std::thread::sleep(Duration::from_millis(1));
        let client = match kept.take() {
            Some(client) if !client.was_closed() => Ok(client),
            _ => Client::try_connect(address),
        };
        let mut client = match client {
            Ok(client) => client,
            Err(error) => {
                tally.failures.push(format!("connecting: {error}"));
                continue;
            }
        };
        match client.try_send(request) {
            Ok(response) if response.status == 200 && response.whole => {
                tally.answered += 1;
                answered.fetch_add(1, Ordering::Relaxed);
                let closing = response.header("Connection").is_some_and(|value| value == "close");
                kept = (mode == Mode::KeepAlive && !closing).then_some(client);
            }
            Ok(response) => tally.failures.push(format!("answered with {response:?}")),
            Err(error) if is_hang_up(&error) => tally.resets += 1,
            Err(error) => tally.failures.push(format!("asking: {error}")),
        }
    }
    tally
}

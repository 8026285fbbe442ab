//! What the tests here stand on: a runtime, applications, and requests to them.

use manifold::{
    Answer, Code, Conversation, Event, GroupName, Head, Outcome, Part, Patience, Peer, Refusal,
    Reply, Runtime, Script, Settings, Stored,
};
use std::ffi::CString;
use std::fs::{self, File};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// How many threads an interpreter of the shared runtime may have.
pub(crate) const THREADS: usize = 8;

/// How many requests may wait for a group of the shared runtime.
pub(crate) const QUEUE: usize = 12;

/// After what time a process whose tests wait for something is stuck. A deadline, never a
/// measurement.
const STUCK: Duration = Duration::from_secs(120);

/// Names the test that a process was started for.
const OWN_PROCESS: &str = "MANIFOLD_TEST_IN_ITS_OWN_PROCESS";

/// What a test says at its end in a process of its own, so that one which was not run at all does
/// not count as passed.
const DONE: &str = "every step was taken";

/// Settings of the runtime that tests share.
pub(crate) fn settings() -> Settings {
    Settings {
        python_home: std::env::var_os("MANIFOLD_PYTHON_HOME").map(Into::into),
        interpreter_threads: THREADS,
        interpreter_limit: 100,
        queue_limit: QUEUE,
        ..Settings::default()
    }
}

/// The runtime that tests share. It is never finished.
pub(crate) fn runtime() -> &'static Runtime {
    static RUNTIME: OnceLock<Runtime> = OnceLock::new();
    RUNTIME.get_or_init(|| {
        std::thread::spawn(|| {
            std::thread::sleep(2 * STUCK);
            eprintln!("a test of the shared runtime waits for ever");
            std::process::abort();
        });
        Runtime::start(settings())
    })
}

/// Runs the body of a test in a process of its own, by running this test once more in there. The
/// process leaves at once when the body returns, whatever still runs in it.
pub(crate) fn in_its_own_process<F: FnOnce()>(body: F) {
    // The closure is called `crate::module::test::{{closure}}`.
    let name = std::any::type_name::<F>().trim_end_matches("::{{closure}}");
    let (_, test) = name.split_once("::").expect("a path");
    if std::env::var_os(OWN_PROCESS).is_some_and(|wanted| wanted == test) {
        body();
        println!("{DONE}");
        // SAFETY: it ends the process without a look at anything in it.
        unsafe { libc::_exit(0) };
    }
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("said");
    let said = File::create(&path).expect("a file");
    let also_said = said.try_clone().expect("a descriptor");
    let mut process = Command::new(std::env::current_exe().expect("this program"))
        .args([test, "--exact", "--nocapture", "--test-threads=1"])
        .env(OWN_PROCESS, test)
        .stdin(Stdio::null())
        .stdout(said)
        .stderr(also_said)
        .spawn()
        .expect("a process");
    let deadline = Instant::now() + STUCK;
    let status = loop {
        if let Some(status) = process.try_wait().expect("its status") {
            break Some(status);
        }
        if Instant::now() >= deadline {
            process.kill().and_then(|()| process.wait()).expect("it is killed");
            break None;
        }
        std::thread::sleep(Duration::from_millis(5));
    };
    let said = String::from_utf8_lossy(&fs::read(&path).expect("what it said")).into_owned();
    let Some(status) = status else { panic!("stuck for {STUCK:?}, having said:\n{said}") };
    assert!(status.success() && said.contains(DONE), "{status}:\n{said}");
}

/// An application of the shared runtime, in a group that no other test uses.
pub(crate) struct App {
    script: Arc<Script>,
    group: GroupName,
}

/// A folder for scripts and for what they write.
pub(crate) struct Folder(TempDir);

impl Folder {
    pub(crate) fn new() -> Self {
        Self(tempfile::tempdir().expect("a folder"))
    }

    pub(crate) fn path(&self) -> &Path {
        self.0.path()
    }

    /// Writes a script, in whose text `FOLDER` is the path of this folder.
    pub(crate) fn script(&self, name: &str, text: &str) -> Arc<Script> {
        let path = self.path().join(name);
        let folder = self.path().to_str().expect("an ordinary path");
        fs::write(&path, text.replace("FOLDER", folder)).expect("a script");
        script(&path)
    }

    /// A FIFO whose readers wait, once they have opened it, until what is returned is dropped.
    pub(crate) fn pipe(&self, name: &str) -> File {
        let path = self.path().join(name);
        let text = CString::new(path.as_os_str().as_bytes()).expect("no NUL");
        // SAFETY: a string that is ended by NUL, and permissions.
        assert_eq!(unsafe { libc::mkfifo(text.as_ptr(), 0o600) }, 0, "a FIFO");
        // Opened for both, it does not wait for a reader.
        File::options().read(true).write(true).open(path).expect("the FIFO")
    }

    /// The text of a file that a script has written, if it is there.
    pub(crate) fn text(&self, name: &str) -> Option<String> {
        fs::read_to_string(self.path().join(name)).ok()
    }
}

/// A script whose callable is `application`.
pub(crate) fn script(path: &Path) -> Arc<Script> {
    let path = path.as_os_str().as_encoded_bytes();
    Arc::new(Script::new(path, b"application").expect("no NUL"))
}

/// The script that most tests use, `app.wsgi`.
pub(crate) fn app_script() -> Arc<Script> {
    script(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/runtime/app.wsgi"))
}

impl App {
    /// `app.wsgi` in a group of this name.
    pub(crate) fn in_group(name: &str) -> Self {
        Self::of(app_script(), name)
    }

    pub(crate) fn of(script: Arc<Script>, group: &str) -> Self {
        Self { script, group: GroupName::new(group.as_bytes()) }
    }

    /// Hands a request over.
    pub(crate) fn request(&self, path: &str) -> Request {
        self.try_request(path).expect("it is taken")
    }

    pub(crate) fn try_request(&self, path: &str) -> Result<Request, Refusal> {
        request(runtime(), &self.group, &self.script, path, Patience::Endless)
    }

    /// Hands a request over that may wait for a thread no longer than `patience`.
    pub(crate) fn nested_request(&self, path: &str, patience: Duration) -> Request {
        request(runtime(), &self.group, &self.script, path, Patience::Nested(patience))
            .expect("it is taken")
    }

    /// The text that a request without a body is answered with.
    pub(crate) fn get(&self, path: &str) -> String {
        self.request(path).finish(b"").text()
    }

    /// Requests that hold as many threads of the group as there can be.
    pub(crate) fn hold_every_thread(&self) -> Vec<Request> {
        let held: Vec<_> = (0..THREADS).map(|_| self.request("/hold")).collect();
        held.iter().for_each(Request::wait_until_it_asks);
        held
    }

    /// Sends requests that end when so many are served at once.
    pub(crate) fn meet(&self, count: usize) {
        let path = format!("/meet/{count}");
        // A thread each: the group gets one more while somebody waits for a request that has none.
        std::thread::scope(|scope| {
            for _ in 0..count {
                scope.spawn(|| assert_eq!(self.get(&path), "meet"));
            }
        });
    }

    /// Returns when every thread of the group has ended what it was doing before.
    pub(crate) fn meet_every_thread(&self) {
        self.meet(THREADS);
    }
}

/// A request that a runtime has taken.
pub(crate) struct Request(Conversation);

/// Hands a request for `path` to a runtime.
pub(crate) fn request(
    runtime: &Runtime,
    group: &GroupName,
    script: &Arc<Script>,
    path: &str,
    patience: Patience,
) -> Result<Request, Refusal> {
    let conversation = runtime.dispatch(group, patience, |job| {
        job.variables.push(b"REQUEST_METHOD", b"GET");
        job.variables.push(b"SCRIPT_NAME", b"");
        job.variables.push(b"PATH_INFO", path.as_bytes());
        job.variables.push(b"LATIN", b"caf\xe9");
        job.script = Some(Arc::clone(script));
    })?;
    Ok(Request(conversation))
}

/// What is kept there.
fn content(stored: &Stored) -> Vec<u8> {
    let file = File::from(stored.file().try_clone_to_owned().expect("a descriptor"));
    let mut bytes = vec![0; usize::try_from(stored.length()).expect("it fits")];
    file.read_exact_at(&mut bytes, 0).expect("so many bytes");
    bytes
}

/// All that was heard in a conversation, in order.
#[derive(Debug, Default)]
pub(crate) struct Answered {
    pub(crate) head: Option<Head>,
    pub(crate) body: Vec<u8>,
    pub(crate) outcome: Option<Outcome>,
    pub(crate) log: Vec<String>,
    pub(crate) refusal: Option<Refusal>,
}

impl Request {
    /// Serves the conversation to its end, with this body.
    pub(crate) fn finish(self, body: &[u8]) -> Answered {
        self.finish_in_pieces(body, usize::MAX)
    }

    /// Serves the conversation to its end, with a body that comes in pieces of this size, or of
    /// more where more is needed.
    pub(crate) fn finish_in_pieces(self, mut body: &[u8], piece: usize) -> Answered {
        let mut answered = Answered::default();
        loop {
            match self.0.next() {
                Event::Reply(Reply::Ask { at_least, at_most }) => {
                    let length = piece.clamp(at_least, at_most).min(body.len());
                    let (bytes, rest) = body.split_at(length);
                    body = rest;
                    self.0.answer(Answer::Body { bytes: bytes.to_vec(), last: rest.is_empty() });
                }
                Event::Reply(Reply::Log(entry)) => answered.log.push(entry.text),
                Event::Reply(Reply::Response(Part { head, body, spool, end, .. })) => {
                    assert!(head.is_none() || answered.head.is_none(), "two heads");
                    answered.head = answered.head.or(head);
                    answered.body.extend(body);
                    // What came while this part waited.
                    let (tail, end_behind) = spool.map(|spool| spool.take()).unwrap_or_default();
                    answered.body.extend(tail.blocks.slices().flat_map(|slice| slice.bytes));
                    answered.body.extend(tail.stored.iter().flat_map(content));
                    answered.outcome = end.or(end_behind);
                    if answered.outcome.is_some() {
                        // Behind a part that had the response's end in it.
                        answered.log.extend(self.0.logged().into_iter().map(|entry| entry.text));
                        return answered;
                    }
                }
                Event::Reply(other @ (Reply::AskVariable(_) | Reply::Returned(_))) => {
                    panic!("a request has no use for {other:?}")
                }
                Event::Failed(refusal) => {
                    answered.refusal = Some(refusal);
                    return answered;
                }
            }
        }
    }

    /// Returns when the application waits for bytes of the body.
    pub(crate) fn wait_until_it_asks(&self) {
        assert!(self.asks(), "no thread was free in time");
    }

    /// Whether the application has come to wait for bytes of the body, and not failed because no
    /// thread was free for it.
    pub(crate) fn asks(&self) -> bool {
        loop {
            match self.0.next() {
                Event::Reply(Reply::Ask { .. }) => return true,
                Event::Reply(Reply::Log(_)) => {}
                Event::Failed(refusal) if refusal.code == Code::NestedTooLong => return false,
                other => panic!("{other:?}"),
            }
        }
    }

    /// Answers what [`Request::wait_until_it_asks`] waited for, and serves the rest.
    pub(crate) fn release(self) -> Answered {
        self.0.answer(Answer::Body { bytes: b"x".to_vec(), last: true });
        self.finish(b"")
    }

    /// The next block of the response.
    pub(crate) fn block(&self) -> Vec<u8> {
        match self.0.next() {
            Event::Reply(Reply::Response(part)) if part.end.is_none() => part.body,
            other => panic!("{other:?}"),
        }
    }
}

impl Answered {
    /// The body of a response that is whole.
    pub(crate) fn text(self) -> String {
        assert_eq!(self.outcome, Some(Outcome::Complete), "{self:?}");
        String::from_utf8(self.body).expect("text")
    }

    /// Why the request failed: what the application's thread says, or the runtime.
    pub(crate) fn code(&self) -> Code {
        match (&self.outcome, &self.refusal) {
            (Some(Outcome::Failed(code)), None) => *code,
            (None, Some(refusal)) => refusal.code,
            _ => panic!("it did not fail: {self:?}"),
        }
    }
}

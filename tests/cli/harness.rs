//! Runs `manifold`, and asks with curl what it serves.
//!
//! The environment is that of `scripts/test`: MANIFOLD_MODULE, MANIFOLD_HTTPD, MANIFOLD_PYTHON_HOME and, for
//! packages, MANIFOLD_TEST_VENV and MANIFOLD_EXTENSIONS_VENV.

use std::fs::{self, Permissions};
use std::io::{BufRead as _, BufReader, Read};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tempfile::TempDir;

/// How long anything here waits for something that should happen. A deadline, never a measurement.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// Asks again and again until there is an answer; panics with `what` at the deadline.
pub(crate) fn eventually<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < deadline, "{what}: not within {PATIENCE:?}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// The program, in an environment that names nothing of whoever runs the tests.
pub(crate) fn manifold() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_manifold"));
    command.env_remove("VIRTUAL_ENV").stdin(Stdio::null());
    command
}

/// Runs it to its end.
pub(crate) fn run(command: &mut Command) -> Said {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    Said::of(command, &output)
}

/// What a program has said, and how it ended.
pub(crate) struct Said {
    pub(crate) ok: bool,
    pub(crate) code: Option<i32>,
    pub(crate) out: String,
    pub(crate) err: String,
    command: String,
}

impl Said {
    fn of(command: &Command, output: &Output) -> Self {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Self {
            ok: output.status.success(),
            code: output.status.code(),
            out: text(&output.stdout),
            err: text(&output.stderr),
            command: format!("{command:?}"),
        }
    }

    /// Panics with all that was said unless the program was successful.
    pub(crate) fn expect_ok(self) -> Self {
        assert!(self.ok, "{}: {:?}\n{}\n{}", self.command, self.code, self.out, self.err);
        self
    }

    /// Panics unless it failed and said this.
    pub(crate) fn expect_failure(&self, text: &str) {
        let said = format!("{}\n{}", self.out, self.err);
        assert!(!self.ok, "{} should fail:\n{said}", self.command);
        assert!(said.contains(text), "{} should say {text:?}:\n{said}", self.command);
    }
}

/// A folder that httpd's children can read.
pub(crate) fn folder() -> TempDir {
    let folder = tempfile::Builder::new().prefix("manifold-cli-").tempdir().expect("a folder");
    open_to_all(folder.path(), 0o755);
    folder
}

/// Writes a file for everyone to read, with the folders on the way.
pub(crate) fn write(folder: &Path, inside: &str, text: &str) -> PathBuf {
    let path = folder.join(inside);
    for above in Path::new(inside).ancestors().skip(1).collect::<Vec<_>>().into_iter().rev() {
        let above = folder.join(above);
        if !above.is_dir() {
            fs::create_dir(&above).expect("a folder");
            open_to_all(&above, 0o755);
        }
    }
    fs::write(&path, text).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    open_to_all(&path, 0o644);
    path
}

pub(crate) fn open_to_all(path: &Path, mode: u32) {
    fs::set_permissions(path, Permissions::from_mode(mode)).expect("its mode is set");
}

/// A WSGI application whose answer is this expression, an f-string's inside say, as text.
pub(crate) fn answering(expression: &str) -> String {
    format!(
        "import os, sys\n\
         def application(environ, start_response):\n\
         \x20   start_response('200 OK', [('Content-Type', 'text/plain')])\n\
         \x20   return [str({expression}).encode()]\n"
    )
}

pub(crate) fn is_root() -> bool {
    // SAFETY: it takes nothing, and cannot fail.
    unsafe { libc::geteuid() == 0 }
}

/// A variable of scripts/test.
pub(crate) fn variable(name: &str) -> PathBuf {
    match std::env::var_os(name).filter(|value| !value.is_empty()) {
        Some(value) => PathBuf::from(value),
        None => panic!("this test needs {name}: run it by scripts/test"),
    }
}

/// `manifold serve`, running.
pub(crate) struct Serving {
    child: Child,
    pub(crate) url: String,
    out: Collected,
    log: Collected,
}

/// What comes from a pipe, as it comes.
struct Collected {
    text: Arc<Mutex<String>>,
    reader: Option<JoinHandle<()>>,
}

impl Collected {
    fn text(&self) -> String {
        self.text.lock().expect("no panic there").clone()
    }

    /// Waits until nobody can write any more.
    fn whole(&mut self) -> String {
        if let Some(reader) = self.reader.take() {
            reader.join().expect("no panic there");
        }
        self.text()
    }
}

impl Serving {
    /// On a port that was free; returns when it says where it is.
    pub(crate) fn start(app: &str, options: &[&str]) -> Self {
        let mut command = manifold();
        command.arg("serve").arg(app).args(["--port", "0"]).args(options);
        Self::spawn(command)
    }

    /// The same, of a whole command.
    pub(crate) fn spawn(mut command: Command) -> Self {
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}"));
        let out = collect(child.stdout.take().expect("its output"));
        let log = collect(child.stderr.take().expect("its log"));
        let mut serving = Self { child, url: String::new(), out, log };
        serving.url = eventually("it says where it serves", || {
            if serving.child.try_wait().expect("it is ours").is_some() {
                panic!("{command:?} has ended:\n{}", serving.log());
            }
            let out = serving.out();
            let (_, rest) = out.split_once("  URL")?;
            let (line, _) = rest.split_once('\n')?;
            Some(line.trim().trim_end_matches('/').to_owned())
        });
        serving
    }

    /// The body of what is at a path.
    pub(crate) fn get(&self, path: &str) -> String {
        self.curl(path, &[]).body
    }

    /// With more of curl's options.
    pub(crate) fn curl(&self, path: &str, options: &[&str]) -> Answer {
        curl(&format!("{}{path}", self.url), options)
    }

    /// The lines of httpd's logs so far.
    pub(crate) fn log(&self) -> String {
        self.log.text()
    }

    /// What is said of the server.
    pub(crate) fn out(&self) -> String {
        self.out.text()
    }

    /// Waits for a line that has this in it.
    pub(crate) fn wait_for_log(&self, text: &str) {
        eventually(&format!("{text:?} in the log"), || self.log().contains(text).then_some(()));
    }

    /// Sends SIGTERM to another process, and waits for the end of this one.
    pub(crate) fn end_of(mut self, other: libc::pid_t) -> (ExitStatus, String) {
        // SAFETY: numbers.
        unsafe { libc::kill(other, libc::SIGTERM) };
        let status = eventually("it ends", || self.child.try_wait().expect("it is ours"));
        (status, self.log.whole())
    }

    /// Sends a signal and waits for the end.
    pub(crate) fn end(mut self, signal: libc::c_int) -> (ExitStatus, String) {
        self.signal(signal);
        let status = eventually("it ends", || self.child.try_wait().expect("it is ours"));
        (status, self.log.whole())
    }

    fn signal(&self, signal: libc::c_int) {
        // SAFETY: numbers; the child is ours and not waited for.
        unsafe { libc::kill(self.child.id().cast_signed(), signal) };
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("--- it said\n{}\n--- its log\n{}", self.out(), self.log());
        }
        if !matches!(self.child.try_wait(), Ok(Some(_))) {
            self.signal(libc::SIGTERM);
            let deadline = Instant::now() + PATIENCE;
            while matches!(self.child.try_wait(), Ok(None)) && Instant::now() < deadline {
                std::thread::sleep(Duration::from_millis(10));
            }
            // httpd ends with it, whatever happens.
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

fn collect(from: impl Read + Send + 'static) -> Collected {
    let text = Arc::new(Mutex::new(String::new()));
    let ours = Arc::clone(&text);
    let reader = std::thread::spawn(move || {
        let mut from = BufReader::new(from);
        let mut line = Vec::new();
        while from.read_until(b'\n', &mut line).is_ok_and(|count| count > 0) {
            ours.lock().expect("no panic there").push_str(&String::from_utf8_lossy(&line));
            line.clear();
        }
    });
    Collected { text, reader: Some(reader) }
}

/// What curl got.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    /// Lower-case, a line each.
    pub(crate) head: String,
    pub(crate) body: String,
}

/// Asks for a URL.
pub(crate) fn curl(url: &str, options: &[&str]) -> Answer {
    let seconds = PATIENCE.as_secs().to_string();
    let mut command = Command::new("curl");
    command.args(["--silent", "--show-error", "--include", "--insecure", "--noproxy", "*"]);
    command.args(["--max-time", &seconds]).args(options).arg(url);
    let output = command.output().expect("curl runs");
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let (head, body) = text.split_once("\r\n\r\n").expect("a head and a body");
    let status = head.split(' ').nth(1).and_then(|text| text.trim().parse().ok());
    Answer { status: status.expect("a status"), head: head.to_lowercase(), body: body.to_owned() }
}

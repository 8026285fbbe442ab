//! `manifold serve`: httpd in the foreground, its log on the terminal, until Ctrl-C.

use crate::failure::{During as _, Outcome, fail};
use crate::options::Serve;
use crate::server_root::Site;
use crate::terminal::{self, BOLD};
use nix::libc;
use nix::sys::signal::{SigSet, Signal};
use std::io::{BufRead as _, BufReader, PipeReader};
use std::net::TcpStream;
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, ExitCode, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

/// How long the last lines of a log may take after httpd has ended.
const LAST_LINES: Duration = Duration::from_secs(5);

/// `manifold serve`
pub(crate) fn run(options: &Serve) -> Outcome<ExitCode> {
    let temporary = match &options.server_root {
        Some(_) => None,
        None => {
            let made = tempfile::Builder::new().prefix("manifold-serve-").tempdir();
            Some(made.during(|| "a temporary folder cannot be made".to_owned())?)
        }
    };
    let root = options.server_root.as_deref().or(temporary.as_ref().map(tempfile::TempDir::path));
    let Some(root) = root else { return fail("there is no folder to serve from") };
    let site = Site::prepare(&options.server, root, true)?;

    // Signals are waited for, by this thread alone.
    let mut signals = SigSet::empty();
    for signal in
        [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP, Signal::SIGUSR1, Signal::SIGCHLD]
    {
        signals.add(signal);
    }
    signals.thread_block().during(|| "signals".to_owned())?;

    let (log, written) = std::io::pipe().during(|| "a pipe for the log".to_owned())?;
    let mut httpd = start(&site, written)?;
    let last = show(log);
    announce(&site, options);
    let ended = wait(&mut httpd, &signals)?;
    // It ends when the last process that can write has ended.
    let _ = last.recv_timeout(LAST_LINES);
    match ended {
        None => {
            terminal::step("stopped");
            Ok(ExitCode::SUCCESS)
        }
        Some(status) => fail(format!("httpd ended by itself ({status})")),
    }
}

fn start(site: &Site, log: std::io::PipeWriter) -> Outcome<Child> {
    let mut command = Command::new(&site.httpd.program);
    command.arg("-d").arg(&site.root).arg("-f").arg(site.root.join("httpd.conf"));
    command.args(["-D", "FOREGROUND"]).stdin(Stdio::null());
    let output = log.try_clone().during(|| "a pipe for the log".to_owned())?;
    command.stdout(output).stderr(log);
    // In a process group of its own: Ctrl-C and a resized window, which httpd takes for an order to stop,
    // are for this program alone. And with no signal blocked, as they are here.
    command.process_group(0);
    let parent = std::process::id();
    // SAFETY: system calls only, which are allowed between fork and exec.
    unsafe {
        command.pre_exec(move || {
            SigSet::empty().thread_set_mask()?;
            libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGTERM);
            if libc::getppid().cast_unsigned() == parent {
                Ok(())
            } else {
                Err(nix::Error::ESRCH.into())
            }
        });
    }
    command.spawn().during(|| format!("{} cannot be run", site.httpd.program.display()))
}

/// Shows what is logged, from a thread of its own; what it returns tells when nobody can log any more.
fn show(log: PipeReader) -> mpsc::Receiver<()> {
    let (over, last) = mpsc::channel();
    thread::spawn(move || {
        let mut log = BufReader::new(log);
        let mut line = Vec::new();
        while log.read_until(b'\n', &mut line).is_ok_and(|count| count > 0) {
            terminal::log_line(String::from_utf8_lossy(&line).trim_end_matches('\n'));
            line.clear();
        }
        let _ = over.send(());
    });
    last
}

/// Says where it is, as soon as it is there.
fn announce(site: &Site, options: &Serve) {
    let server = &options.server;
    let host = match server.host.trim_matches(['[', ']']) {
        "0.0.0.0" => "127.0.0.1",
        "::" => "::1",
        host => host,
    };
    let (host, port) = (host.to_owned(), site.port.number());
    let text = describe(site, options);
    // It ends with this process at the latest.
    thread::spawn(move || {
        while TcpStream::connect((host.as_str(), port)).is_err() {
            thread::sleep(Duration::from_millis(50));
        }
        anstream::println!("{text}");
    });
}

fn describe(site: &Site, options: &Serve) -> String {
    let server = &options.server;
    let group = server.interpreter(&site.app);
    let interpreter = match (&*group, site.python.1) {
        ("%{GLOBAL}", _) => "the main interpreter".to_owned(),
        (group, 12) => format!("application group \"{group}\", which shares the GIL (Python 3.12)"),
        (group, _) => {
            format!("application group \"{group}\", with its own GIL where its modules allow it")
        }
    };
    let many =
        |count: u32, what: &str| format!("{count} {what}{}", if count == 1 { "" } else { "s" });
    let place = match server.embedded_mode {
        true => {
            format!("{} of httpd", many(server.processes, "child").replace("childs", "children"))
        }
        false => many(server.processes, "worker process").replace("processs", "processes"),
    };
    let user = site.user.as_ref().map_or(String::new(), |user| format!(", as {}", user.name));
    let threads = many(server.threads, "thread");
    let home =
        site.home.as_ref().map_or(String::new(), |home| format!(", {}", home.path.display()));
    let mut text = String::new();
    for (label, value) in [
        ("Serving", site.app.describe()),
        ("URL", site.url(server)),
        ("Interpreter", interpreter),
        ("Processes", format!("{place} with {threads} each{user}")),
        ("Python", format!("{}{home}", site.python)),
        ("httpd", format!("{}, configuration in {}", site.httpd.banner, site.root.display())),
    ] {
        text += &format!("\n  {BOLD}{label:<12}{BOLD:#} {value}");
    }
    if server.reload_on_changes {
        text += &format!(
            "\n  {BOLD}{:<12}{BOLD:#} when a file of the application changes",
            "Reloading"
        );
    }
    text + "\n\nCtrl-C stops it.\n"
}

/// Waits for the end of httpd. `None` where it was asked for, otherwise how it ended.
fn wait(httpd: &mut Child, signals: &SigSet) -> Outcome<Option<std::process::ExitStatus>> {
    let mut stopping = false;
    loop {
        match signals.wait().during(|| "signals".to_owned())? {
            Signal::SIGCHLD => {
                let ended = httpd.try_wait().during(|| "httpd".to_owned())?;
                if let Some(status) = ended {
                    return Ok(Some(status).filter(|_| !stopping));
                }
            }
            // Read the configuration again, and let requests finish: httpd's own meaning.
            Signal::SIGUSR1 => send(httpd, libc::SIGUSR1)?,
            _ => {
                stopping = true;
                send(httpd, libc::SIGTERM)?;
            }
        }
    }
}

fn send(httpd: &Child, signal: libc::c_int) -> Outcome<()> {
    let pid = httpd.id().cast_signed();
    // SAFETY: it takes numbers; the child is not waited for yet, so the number is its own.
    match unsafe { libc::kill(pid, signal) } {
        0 => Ok(()),
        _ => fail(format!("httpd takes no signal: {}", std::io::Error::last_os_error())),
    }
}

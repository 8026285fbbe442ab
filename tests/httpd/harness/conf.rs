//! The configuration of one server: the few lines a test is about, and everything httpd needs
//! around them.
//!
//! A test's lines may use `${ROOT}` (the server root), `${APPS}` (the copy of `tests/apps` in it),
//! `${DOCS}` (the document root), `${STATE}` (a folder the children may write to), `${PORT}`, and
//! `${GROUP}` (the process group that applications run in).
//!
//! Where they run in one of worker processes, what a line says about httpd's own processes only is an
//! option of that group as well: see [`OPTIONS`].

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// The process group of [`by_daemon`].
const GROUP: &str = "tested";

/// Directives for httpd's own processes, and the options that are their like for a process group. Inside
/// of `<WSGIInterpreterOptions>` they are for both.
const OPTIONS: [(&str, &str); 4] = [
    ("WSGIInterpreterThreads", "threads"),
    ("WSGIPythonPath", "python-path"),
    ("WSGISwitchInterval", "switch-interval"),
    ("WSGIPythonEggs", "python-eggs"),
];

/// One configuration, built up by the test that needs it.
#[derive(Clone)]
pub(crate) struct Conf {
    text: String,
    modules: Vec<&'static str>,
    mpm: &'static str,
    threads: u32,
    timeout: u32,
    keep_alive: u32,
    python_home: Option<String>,
    inside_httpd: bool,
    environment: Vec<(&'static str, String)>,
    before: Option<&'static str>,
}

impl Conf {
    /// `text` with the usual surroundings and eight worker threads in one child.
    pub(crate) fn new(text: &str) -> Conf {
        let python_home =
            std::env::var("MANIFOLD_PYTHON_HOME").ok().filter(|home| !home.is_empty());
        let conf = Conf {
            text: String::new(),
            modules: Vec::new(),
            mpm: "mpm_event",
            threads: 8,
            timeout: 60,
            keep_alive: 30,
            python_home,
            inside_httpd: false,
            environment: Vec::new(),
            before: None,
        };
        conf.and(text)
    }

    /// Every URL goes to the handler script `app` of `tests/apps`, in the application group `app`.
    pub(crate) fn serving(app: &str) -> Conf {
        Conf::new("").and(&format!(
            "WSGIApplicationGroup app\nWSGIHandlerScript app ${{APPS}}/{app}\n\
             <Location />\nSetHandler app\n</Location>"
        ))
    }

    /// More lines below those that are there.
    pub(crate) fn and(mut self, text: &str) -> Conf {
        self.text.push_str(text);
        self.text.push('\n');
        self
    }

    /// Loads `mod_<name>` too, unless httpd has it compiled in.
    pub(crate) fn with(mut self, module: &'static str) -> Conf {
        self.modules.push(module);
        self
    }

    /// The worker MPM instead of event.
    ///
    /// Told to stop at once between two requests of a kept connection, a thread of this MPM may wait
    /// for the next one on a descriptor that the main thread has just closed, so for all of
    /// `KeepAliveTimeout`, without any module: see README. With a short one such a stop takes a
    /// second more, and a child that has to be reminded hangs in something of ours.
    pub(crate) fn on_worker(mut self) -> Conf {
        self.mpm = "mpm_worker";
        self.keep_alive = 1;
        self
    }

    /// The worker threads of the one child.
    pub(crate) fn threads(mut self, threads: u32) -> Conf {
        self.threads = threads;
        self
    }

    /// httpd's `Timeout`.
    pub(crate) fn timeout(mut self, seconds: u32) -> Conf {
        self.timeout = seconds;
        self
    }

    /// Applications run inside httpd also where the tests run by daemon processes, for this reason.
    pub(crate) fn inside_httpd(mut self, _why: &str) -> Conf {
        self.inside_httpd = true;
        self
    }

    /// Whether applications run in the process group of the tests. A configuration that defines one of its
    /// own says itself what runs where.
    pub(super) fn by_daemon(&self) -> bool {
        by_daemon() && !self.inside_httpd && !self.text.contains("WSGIDaemonProcess")
    }

    /// A Python home of the test's own instead of the environment's.
    pub(crate) fn python_home(mut self, home: &str) -> Conf {
        self.python_home = Some(home.to_owned());
        self
    }

    /// A variable of httpd's own environment.
    pub(crate) fn environment(mut self, name: &'static str, value: &str) -> Conf {
        self.environment.push((name, value.to_owned()));
        self
    }

    /// What a shell does, which then becomes httpd.
    pub(crate) fn behind(mut self, before: &'static str) -> Conf {
        self.before = Some(before);
        self
    }

    /// The command that starts httpd, without its arguments, for `Server`.
    pub(super) fn command(&self) -> Command {
        let Some(before) = self.before else { return Command::new(httpd()) };
        let mut command = Command::new("sh");
        command.arg("-c").arg(format!("{before}\nexec \"$@\"")).arg("sh").arg(httpd());
        command
    }

    /// The variables, for `Server`. `${ROOT}` in a value is the server root.
    pub(super) fn variables(&self, root: &Path) -> Vec<(&'static str, String)> {
        let root = root.display().to_string();
        let resolve = |value: &String| value.replace("${ROOT}", &root);
        self.environment.iter().map(|(name, value)| (*name, resolve(value))).collect()
    }

    /// The whole text of `httpd.conf`.
    pub(crate) fn render(&self, root: &Path, port: u16) -> String {
        let mut conf = String::new();
        let mut line = |text: &str| {
            conf.push_str(text);
            conf.push('\n');
        };
        let at = root.display();
        line(&format!("Define ROOT \"{at}\"\nDefine PORT {port}"));
        let group = if self.by_daemon() { GROUP } else { "%{GLOBAL}" };
        line(&format!("Define GROUP \"{group}\""));
        for (name, folder) in [("APPS", "apps"), ("DOCS", "docs"), ("STATE", "state")] {
            line(&format!("Define {name} \"{at}/{folder}\""));
        }
        line("ServerRoot \"${ROOT}\"\nServerName manifold.test:${PORT}\nListen 127.0.0.1:${PORT}");
        line("PidFile logs/httpd.pid\nDefaultRuntimeDir run\nDocumentRoot \"${DOCS}\"");
        line("ErrorLog logs/error.log");
        for module in [self.mpm, "unixd", "authz_core"].iter().chain(&self.modules) {
            if let Some(load) = load_module(module) {
                line(&load);
            }
        }
        line(&format!("LoadModule wsgi_module \"{}\"", module_under_test().display()));
        let worker = std::env::var("MANIFOLD_WORKER").unwrap_or_default();
        if !worker.is_empty() && !self.text.contains("WSGIDaemonWorker") {
            line(&format!("WSGIDaemonWorker \"{worker}\""));
        }
        line("LogLevel notice wsgi:info");
        if let Some((user, group)) = unprivileged() {
            line(&format!("User {user}\nGroup {group}"));
        }
        if self.modules.contains(&"mime") {
            line("TypesConfig /dev/null");
        }
        // One child at a time; the other places are for children that still end after a restart.
        let threads = self.threads;
        line(&format!("ServerLimit 16\nThreadLimit {threads}\nThreadsPerChild {threads}"));
        line(&format!("StartServers 1\nMaxRequestWorkers {threads}\nMinSpareThreads 1"));
        line(&format!("MaxSpareThreads {}\nMaxKeepAliveRequests 0", threads + 1));
        line(&format!("Timeout {}\nKeepAliveTimeout {}", self.timeout, self.keep_alive));
        if let Some(home) = &self.python_home {
            line(&format!("WSGIPythonHome \"{home}\""));
        }
        if self.by_daemon() {
            line(&format!("WSGIDaemonProcess {GROUP} threads={} {}", self.threads, self.options()));
            line(&format!("WSGIProcessGroup {GROUP}"));
        }
        line(&self.text);
        conf
    }

    /// The options that stand for lines outside of sections, the last of which holds.
    fn options(&self) -> String {
        let mut options = String::new();
        let mut depth = 0;
        for line in self.text.lines().map(str::trim) {
            match line.as_bytes() {
                [b'<', b'/', ..] => depth -= 1,
                [b'<', ..] => depth += 1,
                _ => {}
            }
            let Some((name, value)) = line.split_once(' ').filter(|_| depth == 0) else { continue };
            if let Some((_, option)) = OPTIONS.iter().find(|(directive, _)| *directive == name) {
                options += &format!("{option}={value} ");
            }
        }
        options
    }
}

/// The process group that applications run in, unless a configuration says otherwise; empty for httpd's
/// own processes.
pub(crate) fn process_group() -> &'static str {
    if by_daemon() { GROUP } else { "" }
}

/// Whether the tests run their applications in a process group, unless they say otherwise.
pub(crate) fn by_daemon() -> bool {
    match std::env::var("MANIFOLD_TEST_MODE").as_deref() {
        Ok("daemon") => true,
        Err(_) | Ok("" | "embedded") => false,
        Ok(other) => panic!("MANIFOLD_TEST_MODE is embedded or daemon, not {other}"),
    }
}

/// Whether httpd accepts a configuration, and all it said.
pub(crate) struct ConfigTest {
    pub(crate) ok: bool,
    pub(crate) said: String,
}

/// Runs `httpd -t` over `text` in a server root of its own; no server is started.
pub(crate) fn config_test(text: &str) -> ConfigTest {
    let root = super::server::make_root();
    let conf = root.path().join("conf/httpd.conf");
    let text = Conf::new(text).inside_httpd("nothing runs").render(root.path(), 1);
    std::fs::write(&conf, text).expect("httpd.conf is written");
    let output = Command::new(httpd())
        .arg("-t")
        .arg("-d")
        .arg(root.path())
        .arg("-f")
        .arg(&conf)
        .output()
        .expect("httpd -t runs");
    let said = [output.stdout, output.stderr].concat();
    ConfigTest { ok: output.status.success(), said: String::from_utf8_lossy(&said).into_owned() }
}

/// The server's program.
pub(crate) fn httpd() -> &'static Path {
    static HTTPD: OnceLock<PathBuf> = OnceLock::new();
    HTTPD.get_or_init(|| program("MANIFOLD_HTTPD", &["apache2", "httpd"]))
}

/// The virtual environment with Flask.
pub(crate) fn test_venv() -> String {
    let venv = std::env::var("MANIFOLD_TEST_VENV").unwrap_or_default();
    assert!(
        Path::new(&venv).join("pyvenv.cfg").is_file(),
        "this test needs Flask: set MANIFOLD_TEST_VENV to a virtual environment that has it and \
         that httpd's user may read (it is {venv:?})"
    );
    venv
}

/// The virtual environment with packages that have extension modules.
pub(crate) fn extensions_venv() -> PathBuf {
    let venv = std::env::var_os("MANIFOLD_EXTENSIONS_VENV").map(PathBuf::from).unwrap_or_default();
    assert!(
        venv.join("unavailable").is_file(),
        "this test needs the packages of tests/apps/extensions.txt: run it by scripts/test, which sets \
         MANIFOLD_EXTENSIONS_VENV (it is {})",
        venv.display()
    );
    venv
}

/// The Python of that environment, for clients.
pub(crate) fn test_python() -> PathBuf {
    Path::new(&test_venv()).join("bin/python")
}

fn module_under_test() -> PathBuf {
    let path = match std::env::var_os("MANIFOLD_MODULE") {
        Some(path) => PathBuf::from(path),
        None => Path::new(env!("CARGO_MANIFEST_DIR")).join("target/release/libmod_manifold.so"),
    };
    assert!(
        path.is_file(),
        "no module at {}: build it (cargo build --release -p mod_manifold) or set MANIFOLD_MODULE",
        path.display()
    );
    path.canonicalize().expect("the module's path resolves")
}

/// The line that loads a module, or none when it is compiled in.
fn load_module(name: &str) -> Option<String> {
    static COMPILED_IN: OnceLock<String> = OnceLock::new();
    let compiled_in = COMPILED_IN.get_or_init(|| said_by(Command::new(httpd()).arg("-l")));
    let source = match name.strip_prefix("mpm_") {
        Some(mpm) => format!(" {mpm}.c"),
        None => format!(" mod_{name}.c"),
    };
    if compiled_in.contains(&source) {
        return None;
    }
    let file = modules_folder().join(format!("mod_{name}.so"));
    assert!(
        file.is_file(),
        "this test needs mod_{name}, and {} does not exist (MANIFOLD_APXS chooses the httpd)",
        file.display()
    );
    Some(format!("LoadModule {name}_module \"{}\"", file.display()))
}

fn modules_folder() -> &'static Path {
    static FOLDER: OnceLock<PathBuf> = OnceLock::new();
    FOLDER.get_or_init(|| {
        let apxs = program("MANIFOLD_APXS", &["apxs", "apxs2"]);
        PathBuf::from(said_by(Command::new(apxs).args(["-q", "LIBEXECDIR"])).trim())
    })
}

/// Started by root, httpd's children need a user and a group to become.
fn unprivileged() -> Option<(String, String)> {
    static USER: OnceLock<Option<(String, String)>> = OnceLock::new();
    USER.get_or_init(|| {
        if said_by(Command::new("id").arg("-u")).trim() != "0" {
            return None;
        }
        let known = |user: &&str| {
            Command::new("id").arg(user).output().is_ok_and(|output| output.status.success())
        };
        let user = ["www-data", "apache", "daemon", "nobody"].into_iter().find(known);
        let user = user.expect("one of the users www-data, apache, daemon or nobody exists");
        let group = said_by(Command::new("id").args(["-g", user]));
        Some((user.to_owned(), format!("#{}", group.trim())))
    })
    .clone()
}

fn program(variable: &str, names: &[&str]) -> PathBuf {
    if let Some(path) = std::env::var_os(variable) {
        let path = PathBuf::from(path);
        assert!(path.is_file(), "{variable} names {}, which is not a file", path.display());
        return path;
    }
    let search = std::env::var_os("PATH").unwrap_or_default();
    let usual = ["/usr/sbin", "/usr/local/sbin", "/usr/bin"].map(PathBuf::from);
    std::env::split_paths(&search)
        .chain(usual)
        .flat_map(|folder| names.iter().map(move |name| folder.join(name)))
        .find(|path| path.is_file())
        .unwrap_or_else(|| panic!("none of {names:?} is on PATH: install it or set {variable}"))
}

fn said_by(command: &mut Command) -> String {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

//! The folder of one server: `httpd.conf`, the handler script, `apachectl`, and what httpd writes.
#![forbid(unsafe_code)]

use crate::app::App;
use crate::conf::{self, Plan};
use crate::django;
use crate::failure::{During as _, Outcome, fail};
use crate::home::Home;
use crate::httpd::{Httpd, OLDEST};
use crate::installation::{Installation, Version};
use crate::options::{Server, Setup};
use crate::port::Port;
use crate::user::{self, User};
use std::fs::{self, OpenOptions, Permissions};
use std::io::Write as _;
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// The handler script, but for what the command line says.
const HANDLER: &str = include_str!("handler.py");

/// What the name of a socket may have (`sockaddr_un`), and what the module puts behind `WSGISocketPrefix`.
const LONGEST_SOCKET: usize = 107;
const BEHIND_PREFIX: &str = ".4194304.999.999.sock";

/// A server that is ready to be started.
pub(crate) struct Site {
    pub(crate) root: PathBuf,
    pub(crate) httpd: Httpd,
    pub(crate) app: App,
    pub(crate) user: Option<User>,
    pub(crate) home: Option<Home>,
    pub(crate) python: Version,
    /// Kept for httpd for as long as this lives.
    pub(crate) port: Port,
    pub(crate) https_port: Option<Port>,
}

/// `manifold setup`
pub(crate) fn set_up(options: &Setup) -> Outcome<ExitCode> {
    let site =
        Site::prepare(&options.server, &options.server_root, options.server.log_to_terminal)?;
    anstream::println!("{}", site.root.join("apachectl").display());
    crate::terminal::step(&format!(
        "written: {}/apachectl start serves {} on {}",
        site.root.display(),
        site.app.describe(),
        site.url(&options.server)
    ));
    Ok(ExitCode::SUCCESS)
}

impl Site {
    /// Finds everything, checks it, and writes the folder.
    pub(crate) fn prepare(options: &Server, root: &Path, to_terminal: bool) -> Outcome<Self> {
        let httpd = Httpd::find(&options.at)?;
        if httpd.version < OLDEST {
            return fail(format!(
                "{} is httpd {}, and 2.4.49 is the oldest that the module runs in",
                httpd.program.display(),
                httpd.version_text()
            ));
        }
        let installation = Installation::find(&options.at, &httpd)?;
        let python = installation.python()?;
        let home = Home::choose(&options.python.home, python)?;
        let app = App::find(
            &options.app,
            options.python.callable_object.as_deref(),
            options.python.working_directory.as_deref(),
        )?;
        let user =
            User::choose(options.identity.user.as_deref(), options.identity.group.as_deref())?;
        check_readable(user.as_ref(), &app, home.as_ref(), python, options)?;

        let static_files =
            django::static_files(&app, options, home.as_ref(), python, user.as_ref())?;
        let port = hold(&options.host, options.port)?;
        let https_port = options.https_port.map(|port| hold(&options.host, port)).transpose()?;
        let root = make(root)?;
        let plan = Plan {
            options,
            app: &app,
            httpd: &httpd,
            installation: &installation,
            home: home.as_ref(),
            user: user.as_ref(),
            root: &root,
            port: port.number(),
            https_port: https_port.as_ref().map(Port::number),
            static_files,
            to_terminal,
        };
        let configuration = conf::render(&plan)?;
        // Whoever starts httpd reads it, and --setenv may say what others are not to know.
        write(&root.join("httpd.conf"), &configuration, 0o600)?;
        write(
            &root.join("handler.wsgi"),
            &handler(&app, &options.mount_point, options.reload_on_changes)?,
            0o644,
        )?;
        write(&root.join("apachectl"), &apachectl(&httpd, &root), 0o755)?;
        if let Some(obstacle) =
            user::obstacle(user.as_ref(), &[&root.join("handler.wsgi"), &root.join("run")])?
        {
            return fail(format!(
                "{} cannot read {} because of {obstacle}: choose another folder (--server-root; TMPDIR for \
                 a temporary one)",
                user::called(user.as_ref()),
                root.display()
            ));
        }
        let site = Self { root, httpd, app, user, home, python, port, https_port };
        let (accepted, said) = site.test()?;
        if !accepted {
            return fail(format!(
                "httpd does not accept {}:\n{}",
                site.root.join("httpd.conf").display(),
                said.trim()
            ));
        }
        Ok(site)
    }

    /// Where clients find the application.
    pub(crate) fn url(&self, options: &Server) -> String {
        let host = match options.host.as_str() {
            "0.0.0.0" | "::" => options.server_name.clone(),
            host => conf::bracketed(host),
        };
        let mount = options.mount_point.trim_end_matches('/');
        match &self.https_port {
            Some(port) => format!("https://{}:{}{mount}/", options.server_name, port.number()),
            None => format!("http://{host}:{}{mount}/", self.port.number()),
        }
    }

    fn test(&self) -> Outcome<(bool, String)> {
        let conf = self.root.join("httpd.conf");
        self.httpd.test(&["-d".as_ref(), self.root.as_ref(), "-f".as_ref(), conf.as_ref()])
    }
}

fn check_readable(
    user: Option<&User>,
    app: &App,
    home: Option<&Home>,
    python: Version,
    options: &Server,
) -> Outcome<()> {
    let whom = match user {
        Some(user) => format!("httpd's children run as {}, who", user.name),
        None => "you".to_owned(),
    };
    if let Some(home) = home {
        let folders = home.folders(python);
        let folders: Vec<_> = folders.iter().map(PathBuf::as_path).collect();
        if let Some(obstacle) = user::obstacle(user, &folders)? {
            return fail(format!(
                "{whom} cannot read the Python home {} because of {obstacle}. Make one that everyone can \
                 read, outside of private folders, say: python{python} -m venv /srv/venv",
                home.path.display()
            ));
        }
    }
    let files = app.files();
    let files: Vec<_> = files.iter().map(PathBuf::as_path).collect();
    if let Some(obstacle) = user::obstacle(user, &files)? {
        return fail(format!(
            "{whom} cannot read {} because of {obstacle}. Put it where everyone can read it, for example \
             below /srv, or serve it as an ordinary user",
            app.describe()
        ));
    }
    let documents = options.document_root.iter().map(|folder| ("--document-root", folder));
    let packages = options.python.python_path.iter().map(|folder| ("--python-path", folder));
    for (option, folder) in documents.chain(packages) {
        if !folder.is_dir() {
            return fail(format!("{option} {}: there is no such folder", folder.display()));
        }
        if let Some(obstacle) = user::obstacle(user, &[&user::absolute(folder)?])? {
            return fail(format!("{option}: {whom} cannot read it because of {obstacle}"));
        }
    }
    Ok(())
}

/// Why sockets cannot be named by this prefix, if they cannot.
pub(crate) fn too_long(prefix: &Path) -> Option<String> {
    let length = prefix.as_os_str().len() + BEHIND_PREFIX.len();
    (length > LONGEST_SOCKET).then(|| {
        format!(
            "names of sockets at {} have {length} bytes, and {LONGEST_SOCKET} fit",
            prefix.display()
        )
    })
}

/// The folder, with those in it that httpd needs; refuses one that holds something else.
fn make(root: &Path) -> Outcome<PathBuf> {
    let root = user::absolute(root)?;
    if let Some(problem) = too_long(&root.join("run/wsgi")) {
        return fail(format!("{problem}: choose a shorter --server-root"));
    }
    if root.is_dir() {
        let written = fs::read_to_string(root.join("httpd.conf")).unwrap_or_default();
        let empty = root.read_dir().is_ok_and(|mut entries| entries.next().is_none());
        if !empty && !written.starts_with(conf::MARK) {
            return fail(format!(
                "{} holds files that are not manifold's: name an empty or a new folder by --server-root",
                root.display()
            ));
        }
    }
    for folder in [root.clone(), root.join("htdocs"), root.join("logs"), root.join("run")] {
        fs::create_dir_all(&folder).during(|| format!("{} cannot be made", folder.display()))?;
        set_mode(&folder, 0o755)?;
    }
    Ok(root)
}

/// The text of the handler script.
pub(crate) fn handler(app: &App, mount_point: &str, reload: bool) -> Outcome<String> {
    let Some(folder) = app.folder.to_str() else {
        return fail(format!("{}: its name is no UTF-8", app.folder.display()));
    };
    // A string of JSON is one of Python.
    let literal = |text: &str| serde_json::Value::from(text).to_string();
    let callables: Vec<_> = app.callables.iter().map(|name| literal(name)).collect();
    let reload = if reload { "True" } else { "False" };
    Ok(HANDLER
        .replace("\"@KIND@\"", &literal(app.kind.name()))
        .replace("\"@CALLABLES@\"", &callables.join(", "))
        .replace("\"@MOUNT_POINT@\"", &literal(&conf::mount_point(mount_point)?))
        .replace("RELOAD_ON_CHANGES = False", &format!("RELOAD_ON_CHANGES = {reload}"))
        // The last: what they bring along is not looked at.
        .replace("\"@FOLDER@\"", &literal(folder))
        .replace("\"@TARGET@\"", &literal(&app.target)))
}

fn apachectl(httpd: &Httpd, root: &Path) -> String {
    let quote = |path: &Path| format!("'{}'", path.display().to_string().replace('\'', "'\\''"));
    format!(
        "#!/bin/sh\n\
         # apachectl start|stop|restart|graceful|graceful-stop|configtest|foreground\n\
         # The server of this folder, and no other.\n\
         httpd() {{ exec {} -d {root} -f {root}/httpd.conf \"$@\"; }}\n\
         case ${{1-}} in\n\
         start | stop | restart | graceful | graceful-stop) httpd -k \"$1\" ;;\n\
         configtest) httpd -t ;;\n\
         foreground) httpd -D FOREGROUND ;;\n\
         *)\n    sed -n '2s/^# //p' \"$0\" >&2\n    exit 2\n    ;;\n\
         esac\n",
        quote(&httpd.program),
        root = quote(root)
    )
}

fn write(path: &Path, text: &str, mode: u32) -> Outcome<()> {
    let cannot = || format!("{} cannot be written", path.display());
    let mut file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(mode)
        .open(path)
        .during(cannot)?;
    // An older file keeps its mode, and the mask counts.
    set_mode(path, mode)?;
    file.write_all(text.as_bytes()).during(cannot)
}

fn set_mode(path: &Path, mode: u32) -> Outcome<()> {
    fs::set_permissions(path, Permissions::from_mode(mode))
        .during(|| format!("the mode of {}", path.display()))
}

/// The port, or any free one for 0; an error where nobody can listen there.
fn hold(host: &str, port: u16) -> Outcome<Port> {
    let host = host.trim_matches(['[', ']']);
    Port::hold((host, port)).during(|| {
        format!("cannot listen on {host}, port {port} (--port chooses another one, 0 any free one)")
    })
}

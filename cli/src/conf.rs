//! The text of `httpd.conf`: everything that httpd needs for one application, with a reason for whatever is
//! not plain.
#![forbid(unsafe_code)]

use crate::app::App;
use crate::failure::{Outcome, fail};
use crate::home::Home;
use crate::httpd::{Httpd, Module};
use crate::installation::Installation;
use crate::options::Server;
use crate::user::User;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

/// The first line, by which a folder is known as written by this.
pub(crate) const MARK: &str = "# Written by manifold:";

/// httpd's threads in each of its children.
const THREADS: u32 = 25;

/// What has no type by its name otherwise, where the system has no mime.types.
const TYPES: [(&str, &str); 15] = [
    ("text/html", "html htm"),
    ("text/css", "css"),
    ("text/javascript", "js mjs"),
    ("text/plain", "txt"),
    ("application/json", "json map"),
    ("application/xml", "xml"),
    ("application/pdf", "pdf"),
    ("application/wasm", "wasm"),
    ("image/svg+xml", "svg"),
    ("image/png", "png"),
    ("image/jpeg", "jpg jpeg"),
    ("image/gif", "gif"),
    ("image/webp", "webp"),
    ("image/x-icon", "ico"),
    ("font/woff2", "woff2"),
];

/// All that the text depends on.
pub(crate) struct Plan<'a> {
    pub(crate) options: &'a Server,
    pub(crate) app: &'a App,
    pub(crate) httpd: &'a Httpd,
    pub(crate) installation: &'a Installation,
    pub(crate) home: Option<&'a Home>,
    pub(crate) user: Option<&'a User>,
    pub(crate) root: &'a Path,
    pub(crate) port: u16,
    pub(crate) https_port: Option<u16>,
    /// The URL path and the folder of static files that the project has.
    pub(crate) static_files: Option<(String, PathBuf)>,
    /// httpd's logs go to its standard error, and not to files.
    pub(crate) to_terminal: bool,
}

/// The whole file.
pub(crate) fn render(plan: &Plan<'_>) -> Outcome<String> {
    let mut text = Text { plan, text: String::new() };
    text.head()?;
    text.processes()?;
    text.logs()?;
    text.addresses()?;
    text.python()?;
    text.files()?;
    text.application()?;
    text.extras()?;
    Ok(text.text)
}

struct Text<'a> {
    plan: &'a Plan<'a>,
    text: String,
}

impl Text<'_> {
    fn line(&mut self, line: &str) {
        self.text.push_str(line);
        self.text.push('\n');
    }

    fn load(&mut self, name: &str) -> Outcome<()> {
        let line = match self.plan.httpd.module(name) {
            Module::CompiledIn => return Ok(()),
            Module::File(file) => format!("LoadModule {name}_module {}", quoted(&file)?),
            Module::Missing(file) => {
                return fail(format!(
                    "this needs httpd's mod_{name}, and there is no {}: install the package of your \
                     distribution that has it",
                    file.display()
                ));
            }
        };
        // Loaded once, whatever else needs it.
        if !self.text.contains(&line) {
            self.line(&line);
        }
        Ok(())
    }

    fn head(&mut self) -> Outcome<()> {
        let Plan { app, httpd, root, .. } = self.plan;
        self.line(&format!("{MARK} {}", one_line(&app.describe())?));
        self.line("# It is written anew by the next setup; what is to stay belongs in a file for --include-file.\n");
        self.line(&format!("ServerRoot {}", quoted(root)?));
        self.line("# Sockets and the like: below this folder, which no other server uses.");
        self.line("DefaultRuntimeDir run\nPidFile run/httpd.pid\n");
        let mpm = httpd.mpm(self.plan.options.server_mpm.map(crate::options::Mpm::name))?;
        self.load(&format!("mpm_{mpm}"))?;
        for name in ["unixd", "authz_core", "log_config"] {
            self.load(name)?;
        }
        if let Some(user) = self.plan.user {
            self.line(
                "\n# Root opens ports and logs; whatever touches a request runs as this user.",
            );
            self.line(&format!("User {}\nGroup {}", word(&user.name)?, word(&user.group)?));
        }
        Ok(())
    }

    fn processes(&mut self) -> Outcome<()> {
        let options = self.plan.options;
        let replicas = match options.replicas.as_str() {
            "auto" => std::thread::available_parallelism().map_or(1, |count| count.get() as u32),
            number => number.parse().unwrap_or(1),
        };
        let mpm = self.plan.httpd.mpm(options.server_mpm.map(crate::options::Mpm::name))?;
        self.line("");
        let (children, threads) = if options.embedded_mode {
            self.line(
                "# The application runs in these children, so there are as many as was asked for.",
            );
            (options.processes, THREADS.max(options.threads * replicas))
        } else {
            self.line("# Each request of the application holds one of httpd's threads; some more are for files.");
            let requests = options.processes * options.threads * replicas + 10;
            (requests.div_ceil(THREADS), THREADS)
        };
        self.line("# All children are there from the start: none is made or ended by load.");
        if mpm == "prefork" {
            let children = if options.embedded_mode { children } else { children * threads };
            self.line(&format!("ServerLimit {children}\nStartServers {children}"));
            self.line(&format!("MaxRequestWorkers {children}\nMinSpareServers 1"));
            self.line(&format!("MaxSpareServers {}", children + 1));
        } else {
            let all = children * threads;
            self.line(&format!("ServerLimit {children}\nStartServers {children}"));
            self.line(&format!("ThreadLimit {threads}\nThreadsPerChild {threads}"));
            self.line(&format!(
                "MaxRequestWorkers {all}\nMinSpareThreads 1\nMaxSpareThreads {all}"
            ));
        }
        if options.times.socket_timeout > 0 {
            self.line(&format!("Timeout {}", options.times.socket_timeout));
        }
        Ok(())
    }

    fn logs(&mut self) -> Outcome<()> {
        let options = self.plan.options;
        self.line(&format!("\nLogLevel {}", one_line(&options.log_level)?));
        // By this name, a pipe or a terminal can be opened whoever has made it.
        let (errors, requests) = match self.plan.to_terminal {
            true => ("/proc/self/fd/2", "/proc/self/fd/2"),
            false => ("logs/error_log", "logs/access_log"),
        };
        self.line(&format!("ErrorLog {errors}"));
        if self.plan.to_terminal || options.access_log {
            self.line("LogFormat \"%h \\\"%r\\\" %>s %B bytes %D us\" manifold");
            self.line(&format!("CustomLog {requests} manifold"));
        }
        Ok(())
    }

    fn addresses(&mut self) -> Outcome<()> {
        let Plan { options, port, https_port, .. } = *self.plan;
        let host = word(&bracketed(&options.host))?.to_owned();
        let name = word(&options.server_name)?;
        self.line(&format!("\nServerName {name}:{port}\nListen {host}:{port}"));
        if options.http2 {
            self.load("http2")?;
            self.line("Protocols h2 h2c http/1.1");
        }
        let Some(https) = https_port else { return Ok(()) };
        self.load("socache_shmcb")?;
        self.load("ssl")?;
        self.line(&format!("Listen {host}:{https} https"));
        self.line("SSLSessionCache shmcb:run/ssl_sessions(512000)");
        self.line("# What follows outside of virtual hosts holds in each of them.");
        self.line(&format!(
            "<VirtualHost *:{https}>\n    ServerName {name}:{https}\n    SSLEngine On"
        ));
        for (directive, file) in [
            ("SSLCertificateFile", &options.ssl_certificate_file),
            ("SSLCertificateKeyFile", &options.ssl_certificate_key_file),
        ] {
            if let Some(file) = file {
                if !file.is_file() {
                    return fail(format!("{directive}: there is no file {}", file.display()));
                }
                let file = crate::user::absolute(file)?;
                self.line(&format!("    {directive} {}", quoted(&file)?));
            }
        }
        self.line("</VirtualHost>");
        if options.https_only {
            self.load("alias")?;
            self.line(&format!("<VirtualHost *:{port}>\n    ServerName {name}:{port}"));
            self.line(&format!("    Redirect permanent / https://{name}:{https}/\n</VirtualHost>"));
        }
        Ok(())
    }

    fn python(&mut self) -> Outcome<()> {
        let Plan { installation, home, options, app, .. } = self.plan;
        self.line(&format!("\nLoadModule wsgi_module {}", quoted(&installation.module)?));
        if !installation.worker_is_beside() {
            self.line(&format!("WSGIDaemonWorker {}", quoted(&installation.worker)?));
        }
        if let Some(home) = home {
            self.line(&format!("WSGIPythonHome {}", quoted(&home.path)?));
        }
        let mut path = String::new();
        for folder in &options.python.python_path {
            let folder = crate::user::absolute(folder)?;
            let separator = if path.is_empty() { "" } else { ":" };
            let _ = write!(path, "{separator}{}", plain(&folder)?);
        }
        if options.embedded_mode {
            self.embedded(&path);
        } else {
            self.process_group(&path, &app.folder)?;
        }
        Ok(())
    }

    fn embedded(&mut self, path: &str) {
        let options = self.plan.options;
        if !path.is_empty() {
            self.line(&format!("WSGIPythonPath \"{path}\""));
        }
        self.line(&format!("WSGIInterpreterThreads {}", options.threads));
        self.line(&format!("WSGIReplicas {}", options.replicas));
        if options.times.request_timeout > 0 {
            self.line(&format!("WSGIRequestTimeout {}", options.times.request_timeout));
        }
        if options.times.maximum_requests > 0 {
            self.line(&format!(
                "WSGIInterpreterMaximumRequests {}",
                options.times.maximum_requests
            ));
        }
    }

    fn process_group(&mut self, path: &str, folder: &Path) -> Outcome<()> {
        let options = self.plan.options;
        let times = &options.times;
        self.line(
            "# The application has processes of its own: what ends one of them does not end httpd.",
        );
        self.line("WSGIRestrictEmbedded On");
        let mut line =
            format!("WSGIDaemonProcess {} display-name=%{{GROUP}}", self.plan.app.name());
        let mut option = |name: &str, value: &str| {
            let _ = write!(line, " \\\n    {name}={value}");
        };
        option("home", &quoted(folder)?);
        if options.processes > 1 {
            // That it is said at all makes wsgi.multiprocess true.
            option("processes", &options.processes.to_string());
        }
        option("threads", &options.threads.to_string());
        if options.replicas != "1" {
            option("replicas", &options.replicas);
        }
        if !path.is_empty() {
            option("python-path", &format!("\"{path}\""));
        }
        for (name, value) in [("lang", &options.lang), ("locale", &options.locale)] {
            if let Some(value) = value {
                option(name, word(value)?);
            }
        }
        for (name, seconds) in [
            ("request-timeout", times.request_timeout),
            ("queue-timeout", times.queue_timeout),
            ("socket-timeout", times.socket_timeout),
            ("connect-timeout", times.connect_timeout),
            ("startup-timeout", times.startup_timeout),
            ("deadlock-timeout", times.deadlock_timeout),
            ("graceful-timeout", times.graceful_timeout),
            ("eviction-timeout", times.eviction_timeout),
            ("shutdown-timeout", times.shutdown_timeout),
            ("inactivity-timeout", times.inactivity_timeout),
            ("restart-interval", times.restart_interval),
            ("maximum-requests", times.maximum_requests),
        ] {
            option(name, &seconds.to_string());
        }
        self.line(&line);
        Ok(())
    }

    fn files(&mut self) -> Outcome<()> {
        let options = self.plan.options;
        self.line("\n# Files, and what they are by their names.");
        self.load("mime")?;
        let usual = [self.plan.httpd.root.join("conf/mime.types"), "/etc/mime.types".into()];
        match usual.iter().find(|file| file.is_file()) {
            Some(file) => self.line(&format!("TypesConfig {}", quoted(file)?)),
            None => self.line("TypesConfig /dev/null"),
        }
        for (kind, endings) in TYPES {
            self.line(&format!("AddType {kind} {endings}"));
        }
        self.line("<Directory />\n    AllowOverride None\n    Require all denied\n</Directory>");
        let documents = self.documents()?;
        self.line(&format!("DocumentRoot {}", quoted(&documents)?));
        self.line(&format!(
            "<Directory {}>\n    Require all granted\n</Directory>",
            quoted(&documents)?
        ));
        let pairs = options.url_alias.chunks(2).filter_map(|pair| match pair {
            [url, path] => Some((url.as_str(), Path::new(path))),
            _ => None,
        });
        let own = self.plan.static_files.iter().map(|(url, path)| (url.as_str(), path.as_path()));
        let pairs: Vec<_> = pairs.chain(own).collect();
        if !pairs.is_empty() {
            self.load("alias")?;
        }
        for (url, path) in pairs {
            self.alias(url, path)?;
        }
        self.line("<Files \".ht*\">\n    Require all denied\n</Files>");
        Ok(())
    }

    fn alias(&mut self, url: &str, path: &Path) -> Outcome<()> {
        let path = crate::user::absolute(path)?;
        if !path.exists() {
            return fail(format!("--url-alias {url}: there is no {}", path.display()));
        }
        self.line(&format!("Alias {} {}", url_path("--url-alias", url)?, quoted(&path)?));
        if path.is_dir() {
            self.line(&format!("<Directory {}>", quoted(&path)?));
            self.line("    Require all granted\n</Directory>");
        } else if let Some((folder, name)) = path.parent().zip(path.file_name()) {
            self.line(&format!("<Directory {}>", quoted(folder)?));
            self.line(&format!("    <Files {}>", quoted(Path::new(name))?));
            self.line("        Require all granted\n    </Files>\n</Directory>");
        }
        Ok(())
    }

    fn documents(&self) -> Outcome<PathBuf> {
        match &self.plan.options.document_root {
            Some(folder) => crate::user::absolute(folder),
            None => Ok(self.plan.root.join("htdocs")),
        }
    }

    fn application(&mut self) -> Outcome<()> {
        let Plan { options, app, root, .. } = self.plan;
        let process_group = match options.embedded_mode {
            true => "%{GLOBAL}".to_owned(),
            false => app.name(),
        };
        let interpreter = options.interpreter(app);
        if options.reload_on_changes && options.application_group.is_none() {
            self.line("\n# In the main interpreter of a process a change is answered by a new process, at once; in");
            self.line("# another one the old code can serve on until the new one is loaded.");
        }
        let groups = format!(
            "process-group={process_group} application-group=\"{}\"",
            plain_text(&interpreter)?
        );
        let script = quoted(&root.join("handler.wsgi"))?;
        self.line("\n# The application, through a handler script. The Authorization header is its own business.");
        self.line(&format!("WSGIHandlerScript manifold {script} {groups} pass-authorization=On"));
        self.line(
            "# It is loaded before the first request, so what is wrong with it shows at once.",
        );
        self.line(&format!("WSGIImportScript {script} {groups}"));
        if options.disable_reloading {
            self.line("WSGIScriptReloading Off");
        }
        if options.error_override {
            self.line("WSGIErrorOverride On");
        }
        self.line("# What is a file is served as one, and everything else is the application's.");
        let mut condition = "! -f %{REQUEST_FILENAME}".to_owned();
        let mount = mount_point(&options.mount_point)?;
        if !mount.is_empty() {
            let _ = write!(
                condition,
                " && (%{{REQUEST_URI}} == '{mount}' || %{{REQUEST_URI}} -strmatch '{mount}/*')"
            );
        }
        if options.server_status {
            condition.push_str(" && %{REQUEST_URI} != '/server-status'");
        }
        let documents = quoted(&self.documents()?)?;
        self.load("alias")?;
        self.line("# No file has so long a name, and httpd would refuse to look for one (403).");
        self.line(&format!(
            "AliasMatch \"[^/]{{256}}|.{{3800}}\" {}",
            quoted(&self.documents()?.join("application"))?
        ));
        self.line(&format!("<Directory {documents}>\n    <If \"{condition}\">"));
        self.line("        SetHandler manifold\n    </If>\n</Directory>");
        self.line(&format!("LimitRequestBody {}", options.limit_request_body));
        Ok(())
    }

    fn extras(&mut self) -> Outcome<()> {
        let options = self.plan.options;
        if !options.trust_proxy_header.is_empty() {
            self.line(
                "\n# Only what the proxy sets or removes in every request may be named here.",
            );
            for header in &options.trust_proxy_header {
                self.line(&format!("WSGITrustedProxyHeaders {}", word(header)?));
            }
            for address in &options.trust_proxy {
                self.line(&format!("WSGITrustedProxies {}", word(address)?));
            }
        }
        if options.compress_responses {
            self.line("");
            self.load("filter")?;
            self.load("deflate")?;
            self.line("AddOutputFilterByType DEFLATE text/plain text/html text/css text/javascript text/xml");
            self.line("AddOutputFilterByType DEFLATE application/json application/javascript application/xml");
            self.line("AddOutputFilterByType DEFLATE image/svg+xml");
        }
        if options.server_status {
            self.line("");
            self.load("status")?;
            self.load("authz_host")?;
            self.line("<Location /server-status>\n    SetHandler server-status\n    Require local\n</Location>");
        }
        if !options.setenv.is_empty() {
            self.line("");
            self.load("env")?;
        }
        for pair in options.setenv.chunks(2) {
            let [key, value] = pair else { continue };
            self.line(&format!("SetEnv {} \"{}\"", word(key)?, plain_text(value)?));
        }
        for file in &options.include_file {
            if !file.is_file() {
                return fail(format!("--include-file: there is no file {}", file.display()));
            }
            self.line(&format!("Include {}", quoted(&crate::user::absolute(file)?)?));
        }
        Ok(())
    }
}

/// `/app`, or nothing for `/`.
pub(crate) fn mount_point(text: &str) -> Outcome<String> {
    Ok(url_path("--mount-point", text)?.trim_end_matches('/').to_owned())
}

/// An address as it stands in a URL.
pub(crate) fn bracketed(host: &str) -> String {
    if host.contains(':') && !host.starts_with('[') { format!("[{host}]") } else { host.to_owned() }
}

fn url_path<'a>(option: &str, text: &'a str) -> Outcome<&'a str> {
    let usual = |c: char| c.is_ascii_alphanumeric() || "/._~-+@:,".contains(c);
    if text.starts_with('/') && !text.contains("//") && text.chars().all(usual) {
        return Ok(text);
    }
    fail(format!(
        "{option} {text}: a path of a URL begins with / and has letters, digits, . _ ~ - only"
    ))
}

/// Text that stands in quotes in a configuration. httpd has quotes, but not for everything.
fn plain_text(text: &str) -> Outcome<&str> {
    if text.contains(['"', '\\', '\n', '\r', '\0']) || text.contains("${") {
        return fail(format!("httpd's configuration cannot hold this: {text}"));
    }
    Ok(text)
}

fn plain(path: &Path) -> Outcome<&str> {
    match path.to_str() {
        Some(text) => plain_text(text),
        None => {
            fail(format!("{}: its name is no UTF-8, which a configuration needs", path.display()))
        }
    }
}

fn quoted(path: &Path) -> Outcome<String> {
    Ok(format!("\"{}\"", plain(path)?))
}

/// Text that stands without quotes.
fn word(text: &str) -> Outcome<&str> {
    if text.is_empty() || text.contains([' ', '\t', '\'', '<', '>', '#']) {
        return fail(format!("this has to be one word: {text:?}"));
    }
    plain_text(text)
}

fn one_line(text: &str) -> Outcome<&str> {
    if text.contains(['\n', '\r', '\0']) {
        fail(format!("this has to be one line: {text:?}"))
    } else {
        Ok(text)
    }
}

//! The CGI variables of a request, as an application is to see them.

use crate::proxies::Rewrite;
use crate::request::{Request, entries};
use crate::rules::{MapHead, Rules};
use httpd_sys::*;
use manifold::{Job, Script};
use std::borrow::Cow;
use std::ffi::CString;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering};

/// Variables that httpd makes for CGI programs and that are none of an application's business.
/// HTTPS becomes `wsgi.url_scheme`.
const WITHHELD: [&[u8]; 11] = [
    b"PATH",
    b"PATH_TRANSLATED",
    b"GATEWAY_INTERFACE",
    b"SERVER_SIGNATURE",
    b"REMOTE_HOST",
    b"REMOTE_IDENT",
    b"HTTPS",
    b"LD_LIBRARY_PATH",
    b"DYLD_LIBRARY_PATH",
    b"LIBPATH",
    b"SHLIB_PATH",
];

/// The variables of one request: in httpd's table, with the path split as WSGI wants it.
pub(crate) struct Variables<'r> {
    r: Request<'r>,
    script_name: Cow<'r, [u8]>,
    path_info: Cow<'r, [u8]>,
    pass_authorization: bool,
    head_as_get: bool,
    rewrite: Rewrite,
    request_id: Cow<'r, [u8]>,
    /// SCRIPT_FILENAME, where it is not what httpd says.
    file: Option<PathBuf>,
}

impl<'r> Variables<'r> {
    /// Has httpd make the variables.
    pub(crate) fn of(r: Request<'r>, pass_authorization: bool) -> Self {
        let record = r.record();
        let (uri, path_info) = (record.uri, record.path_info);
        let whole = r.text(uri);
        let info = r.text(path_info);
        let (script_name, path_info_text) = if whole == b"/" && info.is_empty() {
            // What answers the root has no name (PEP 3333): '/' is the path below it.
            (&b""[..], &b"/"[..])
        } else if info.is_empty() {
            (whole, info)
        } else {
            // SAFETY: both are C strings of the request.
            let split = usize::try_from(unsafe { ap_find_path_info(uri, path_info) }).unwrap_or(0);
            (&whole[..split.min(whole.len())], info)
        };
        // SAFETY: httpd keeps the request alive for the hook.
        unsafe { ap_add_common_vars(r.raw()) };
        // Without path info httpd makes no sub-request for PATH_TRANSLATED, which nobody gets.
        r.update(|record| record.path_info = std::ptr::null_mut());
        // SAFETY: httpd keeps the request alive for the hook.
        unsafe { ap_add_cgi_vars(r.raw()) };
        r.update(|record| record.path_info = path_info);
        Self {
            r,
            script_name: squeeze(script_name),
            path_info: squeeze(path_info_text),
            pass_authorization,
            head_as_get: false,
            rewrite: Rewrite::default(),
            request_id: request_id(r),
            file: None,
        }
    }

    /// The same as directives want an application to see them: what a proxy in front has said, and
    /// HEAD as GET. Groups are named by what they were before, so that no client chooses one.
    pub(crate) fn under(mut self, rules: &Rules) -> Self {
        let (r, record) = (self.r, self.r.record());
        self.head_as_get = record.header_only != 0
            && match rules.map_head.unwrap_or(MapHead::Auto) {
                MapHead::On => true,
                MapHead::Off => false,
                MapHead::Auto => r.has_content_filter(),
            };
        if let Some(trust) = rules.trust() {
            let value = |name: &str| r.lookup(record.subprocess_env, &CString::new(name).ok()?);
            self.rewrite = trust.rewrite(value("REMOTE_ADDR").unwrap_or_default(), value);
        }
        self
    }

    /// SCRIPT_NAME, as httpd says it.
    pub(crate) fn script_name(&self) -> &[u8] {
        &self.script_name
    }

    /// The same for a process to which the file that the URL stands for has another path.
    pub(crate) fn with_file(self, file: PathBuf) -> Self {
        Self { file: Some(file), ..self }
    }

    /// Writes them into a job for a request, which `script` answers.
    pub(crate) fn fill(&self, job: &mut Job, script: &Script, handler_script: Option<&Script>) {
        self.fill_for_dispatch(job, handler_script);
        job.variables.push(b"mod_wsgi.callable_object", script.callable().to_bytes());
    }

    /// Writes them into a job that decides who answers a request.
    pub(crate) fn fill_for_dispatch(&self, job: &mut Job, handler_script: Option<&Script>) {
        self.fill_for_hook(job);
        let r = self.r;
        let variables = &mut job.variables;
        let mut set = |name: &[u8], value: &[u8]| variables.push(name, value);
        set(b"mod_wsgi.script_name", &self.script_name);
        set(b"mod_wsgi.path_info", &self.path_info);
        let connection = r.connection();
        set(b"mod_wsgi.request_handler", r.text(r.record().handler));
        let handler_script = handler_script.map_or(&b""[..], |script| script.path_bytes());
        set(b"mod_wsgi.handler_script", handler_script);
        set(b"mod_wsgi.listener_host", r.text(connection.local_ip));
        set(b"mod_wsgi.listener_port", number(port_of(connection.local_addr)).as_bytes());
        set(b"mod_wsgi.server_pid", PROCESS.as_bytes());
        set(b"mod_wsgi.request_id", &self.request_id);
        let connection_id = r.text(connection.log_id);
        if !connection_id.is_empty() {
            set(b"mod_wsgi.connection_id", connection_id);
        }
    }

    /// Writes what is known of a request in every phase into a job.
    pub(crate) fn fill_for_hook(&self, job: &mut Job) {
        let r = self.r;
        let record = r.record();
        let mut https = r.text(scheme(r)).eq_ignore_ascii_case(b"https");
        // SAFETY: the table does not change while it is read.
        for (name, value) in unsafe { entries(record.subprocess_env) } {
            if name == b"HTTPS" {
                https |= value == b"1" || value.eq_ignore_ascii_case(b"on");
            }
            if WITHHELD.contains(&name)
                || matches!(name, b"SCRIPT_NAME" | b"PATH_INFO")
                || self.rewrite.touches(name)
            {
                continue;
            }
            let value = match &self.file {
                Some(file) if name == b"SCRIPT_FILENAME" => file.as_os_str().as_bytes(),
                _ => value,
            };
            let seen_as_get = self.head_as_get && name == b"REQUEST_METHOD" && value == b"HEAD";
            job.variables.push(name, if seen_as_get { b"GET" } else { value });
        }
        job.https = self.rewrite.https.unwrap_or(https);
        job.received = record.request_time;
        let variables = &mut job.variables;
        let mut set = |name: &[u8], value: &[u8]| variables.push(name, value);
        if !self.rewrite.touches(b"SCRIPT_NAME") {
            set(b"SCRIPT_NAME", &self.script_name);
        }
        for (name, value) in &self.rewrite.set {
            set(name.as_bytes(), value);
        }
        set(b"PATH_INFO", &self.path_info);
        if self.pass_authorization
            && let Some(value) = r.header(c"Authorization")
        {
            set(b"HTTP_AUTHORIZATION", value);
        }
    }
}

/// ServerName, and the port unless it is one of the usual two.
pub(crate) fn server(r: Request<'_>) -> Vec<u8> {
    with_port(r, r.text(r.server().server_hostname))
}

/// The host that the client asked for, or ServerName, and the port.
pub(crate) fn host(r: Request<'_>) -> Vec<u8> {
    match r.text(r.record().hostname) {
        [] => server(r),
        host => with_port(r, host),
    }
}

fn with_port(r: Request<'_>, host: &[u8]) -> Vec<u8> {
    // SAFETY: httpd keeps the request alive for the hook.
    match unsafe { ap_get_server_port(r.raw()) } {
        80 | 443 => host.to_vec(),
        port => [host, b":", port.to_string().as_bytes()].concat(),
    }
}

/// A request note, a variable of the request, or one of the process, in this order.
pub(crate) fn environment(r: Request<'_>, name: &[u8]) -> Option<Vec<u8>> {
    let key = CString::new(name).ok()?;
    let record = r.record();
    let found = r.lookup(record.notes, &key).or_else(|| r.lookup(record.subprocess_env, &key));
    found.map(<[u8]>::to_vec).or_else(|| {
        use std::os::unix::ffi::{OsStrExt, OsStringExt};
        std::env::var_os(std::ffi::OsStr::from_bytes(name)).map(OsStringExt::into_vec)
    })
}

fn scheme(r: Request<'_>) -> *const std::ffi::c_char {
    // SAFETY: httpd keeps the request alive for the hook.
    unsafe { ap_run_http_scheme(r.raw()) }
}

fn port_of(address: *const apr_sockaddr_t) -> u32 {
    if address.is_null() {
        return 0;
    }
    // SAFETY: a connection's local address lives as long as it does.
    u32::from(unsafe { (*address).port })
}

fn number(value: u32) -> String {
    value.to_string()
}

/// The number of this process, which serves requests, so none of its forks does.
static PROCESS: LazyLock<String> = LazyLock::new(|| std::process::id().to_string());

/// The identifier that `ErrorLogFormat %L` prints, or one that no other request of this server has.
fn request_id(r: Request<'_>) -> Cow<'_, [u8]> {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    match r.text(r.record().log_id) {
        [] => {
            let count = COUNT.fetch_add(1, Ordering::Relaxed);
            let (process, start) = (&*PROCESS, r.record().request_time);
            Cow::Owned(format!("{start:x}-{process}-{count:x}").into_bytes())
        }
        id => Cow::Borrowed(id),
    }
}

/// A path with runs of slashes made one.
fn squeeze(path: &[u8]) -> Cow<'_, [u8]> {
    if !path.windows(2).any(|pair| pair == b"//") {
        return Cow::Borrowed(path);
    }
    let mut squeezed = path.to_vec();
    squeezed.dedup_by(|next, before| *next == b'/' && *before == b'/');
    Cow::Owned(squeezed)
}

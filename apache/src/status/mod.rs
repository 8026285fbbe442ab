//! What httpd says about how it does: `SetHandler wsgi-status` and `wsgi-health`, and a section in the page
//! of mod_status. All of it is read from memory, by the thread that serves the request; no Python runs.
//! Who may see it is said by httpd's own Require.

pub(crate) mod memory;

use crate::boundary;
use crate::request::Request;
use httpd_sys::*;
use manifold::status::Snapshot;
use std::ffi::{CStr, c_int};
use std::fmt::Write;

/// The page for people.
const PAGE: &str = include_str!("page.html");

/// The page loads nothing, and asks only where it has come from.
const POLICY: &CStr =
    c"default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; \
                        connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; \
                        frame-ancestors 'self'";

/// Content handler hook.
pub(crate) unsafe extern "C" fn handle(raw: *mut request_rec) -> c_int {
    boundary::hook(|| {
        // SAFETY: httpd calls the hook with a live request, on the thread that serves it.
        let r = unsafe { Request::new(raw) };
        let answer = match r.text(r.record().handler) {
            b"wsgi-status" => status,
            b"wsgi-health" => health,
            _ => return DECLINED,
        };
        if r.record().method_number != M_GET as c_int {
            r.update(|record| record.allowed |= 1 << M_GET);
            return HTTP_METHOD_NOT_ALLOWED as c_int;
        }
        answer(r)
    })
}

/// What a client of `wsgi-status` wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    Page,
    Json,
    Prometheus,
}

fn status(r: Request<'_>) -> c_int {
    let form = form(r.text(r.record().args), r.header(c"Accept").unwrap_or_default());
    let (kind, text) = match form {
        Form::Page => (c"text/html; charset=utf-8", PAGE.to_owned()),
        Form::Json => (c"application/json", Snapshot::take().json()),
        Form::Prometheus => {
            (c"text/plain; version=0.0.4; charset=utf-8", Snapshot::take().exposition())
        }
    };
    set_header(r, c"Content-Security-Policy", POLICY);
    set_header(r, c"Vary", c"Accept");
    write(r, kind, &text)
}

/// By the query, else by what the client accepts: programs that read Prometheus's format name its version.
fn form(query: &[u8], accept: &[u8]) -> Form {
    for word in query.split(|byte| *byte == b'&') {
        match word.split(|byte| *byte == b'=').next() {
            Some(b"json") => return Form::Json,
            Some(b"prometheus") => return Form::Prometheus,
            _ => {}
        }
    }
    let accept = String::from_utf8_lossy(accept).to_ascii_lowercase();
    if accept.contains("text/html") {
        Form::Page
    } else if accept.contains("version=0.0.4") || accept.contains("application/openmetrics-text") {
        Form::Prometheus
    } else if accept.contains("application/json") {
        Form::Json
    } else {
        Form::Page
    }
}

fn health(r: Request<'_>) -> c_int {
    let snapshot = Snapshot::take();
    let mut text = String::from("ready\n");
    if !snapshot.ready {
        text = format!("not ready: {}\n", snapshot.reasons.join("; "));
        r.update(|record| record.status = HTTP_SERVICE_UNAVAILABLE as c_int);
        set_header(r, c"Retry-After", c"1");
    }
    write(r, c"text/plain; charset=utf-8", &text)
}

fn write(r: Request<'_>, kind: &'static CStr, text: &str) -> c_int {
    set_header(r, c"Cache-Control", c"no-store");
    set_header(r, c"X-Content-Type-Options", c"nosniff");
    // SAFETY: httpd keeps the request alive for the hook; the type is a literal.
    unsafe { ap_set_content_type(r.raw(), kind.as_ptr()) };
    // SAFETY: see above.
    unsafe { ap_set_content_length(r.raw(), i64::try_from(text.len()).unwrap_or(0)) };
    put(r, text);
    OK as c_int
}

fn put(r: Request<'_>, text: &str) {
    let length = c_int::try_from(text.len()).unwrap_or(c_int::MAX);
    // A client that has gone does not want to know.
    // SAFETY: httpd keeps the request alive for the hook, and reads so many bytes.
    unsafe { ap_rwrite(text.as_ptr().cast(), length, r.raw()) };
}

fn set_header(r: Request<'_>, name: &'static CStr, value: &'static CStr) {
    // SAFETY: the request's table is live, and both texts are literals.
    unsafe { apr_table_setn(r.record().headers_out, name.as_ptr(), value.as_ptr()) };
}

/// Adds the section to mod_status's page, where that is loaded.
pub(crate) fn register() {
    // SAFETY: httpd calls this while it loads modules; what mod_status will call is a function of the type
    // that its hook of that name has, and stays mapped.
    unsafe {
        apr_optional_hook_add(
            c"status_hook".as_ptr(),
            Some(std::mem::transmute::<
                unsafe extern "C" fn(*mut request_rec, c_int) -> c_int,
                unsafe extern "C" fn(),
            >(section)),
            std::ptr::null(),
            std::ptr::null(),
            APR_HOOK_MIDDLE as c_int,
        );
    }
}

/// mod_status makes its page.
unsafe extern "C" fn section(raw: *mut request_rec, flags: c_int) -> c_int {
    boundary::hook(|| {
        // SAFETY: httpd calls the hook with a live request, on the thread that serves it.
        let r = unsafe { Request::new(raw) };
        let snapshot = Snapshot::take();
        match flags & AP_STATUS_SHORT as c_int {
            0 => put(r, &table(&snapshot)),
            _ => put(r, &lines(&snapshot)),
        }
        OK as c_int
    })
}

/// For `?auto`, a line for each number.
fn lines(snapshot: &Snapshot) -> String {
    let mut text = String::new();
    let groups = || snapshot.process_groups.iter().flat_map(|group| &group.application_groups);
    let sum = |of: fn(&manifold::status::Totals) -> u64| {
        groups().fold(0_u64, |sum, group| sum.wrapping_add(of(&group.totals)))
    };
    for (name, value) in [
        ("Ready", u64::from(snapshot.ready)),
        ("Requests", sum(|it| it.requests)),
        ("Responses5xx", sum(|it| it.status.server_error)),
        ("Refused", sum(|it| it.refused)),
        ("Errors", sum(|it| it.errors)),
        ("Waiting", groups().map(|group| group.queue.waiting).sum()),
        ("Serving", groups().map(|group| group.threads.serving).sum()),
    ] {
        writeln!(text, "Wsgi{name}: {value}").expect("a String takes all that is written");
    }
    text
}

fn table(snapshot: &Snapshot) -> String {
    let mut text = String::from(
        "<hr />\n<h2>WSGI applications</h2>\n<table border=\"0\"><tr><th>Process group</th><th>Application \
         group</th><th>GIL</th><th>Interpreters</th><th>Requests</th><th>5xx</th><th>Serving</th>\
         <th>Waiting</th><th>p50 ms</th><th>p99 ms</th><th>Last error</th></tr>\n",
    );
    for process_group in &snapshot.process_groups {
        let name = match process_group.name.as_str() {
            "" => "(httpd)",
            name => name,
        };
        for group in &process_group.application_groups {
            let latency = &group.totals.latency;
            let error = group.last_error.as_ref().map_or("", |error| &error.text);
            let cells = [
                name.to_owned(),
                group.name.clone(),
                group.gil.to_owned(),
                group.replicas.len().to_string(),
                group.totals.requests.to_string(),
                group.totals.status.server_error.to_string(),
                group.threads.serving.to_string(),
                group.queue.waiting.to_string(),
                milliseconds(latency.p50),
                milliseconds(latency.p99),
                error.to_owned(),
            ];
            text.push_str("<tr>");
            for cell in cells {
                write!(text, "<td>{}</td>", escaped(&cell))
                    .expect("a String takes all that is written");
            }
            text.push_str("</tr>\n");
        }
    }
    text.push_str("</table>\n");
    for reason in &snapshot.reasons {
        writeln!(text, "<p>Not ready: {}</p>", escaped(reason))
            .expect("a String takes all that is written");
    }
    text
}

fn milliseconds(seconds: Option<f64>) -> String {
    seconds.map_or_else(|| "-".to_owned(), |seconds| format!("{:.1}", seconds * 1e3))
}

fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            other => escaped.push(other),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_says_what_is_wanted_else_what_the_client_accepts() {
        let browser = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8";
        let prometheus =
            "application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5,*/*";
        for (query, accept, expected) in [
            ("", browser, Form::Page),
            ("", "", Form::Page),
            ("", "application/json", Form::Json),
            ("", prometheus, Form::Prometheus),
            ("json", browser, Form::Json),
            ("refresh=5&prometheus=", "application/json", Form::Prometheus),
            ("jsonp", "*/*", Form::Page),
        ] {
            assert_eq!(form(query.as_bytes(), accept.as_bytes()), expected, "{query} {accept}");
        }
    }

    #[test]
    fn what_a_name_holds_is_text() {
        assert_eq!(escaped("<a href='x'>&\""), "&lt;a href=&#39;x&#39;&gt;&amp;&quot;");
    }
}

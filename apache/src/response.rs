//! The response, written out part by part through httpd's output filters.

use crate::files;
use crate::request::Request;
use crate::rules::Rules;
use httpd_sys::*;
use manifold::{Code, Head, Outcome, Part};
use std::ffi::c_int;

/// Writes the response to one request.
pub(crate) struct Responder<'r> {
    r: Request<'r>,
    brigade: *mut apr_bucket_brigade,
    head_sent: bool,
    sendfile: bool,
    error_override: bool,
    /// What the hook returns in the end, where httpd answers in place of the application: the
    /// status of an error whose page it makes, or that it has answered already.
    replaced: Option<c_int>,
}

/// What became of a part.
pub(crate) enum Sent {
    /// It was sent, and more is to come.
    More,
    /// Nothing more is to come; this is what the hook returns.
    Ended(c_int),
    /// The application failed before anything was sent.
    Failed(Code),
}

impl<'r> Responder<'r> {
    pub(crate) fn new(r: Request<'r>, rules: &Rules) -> Self {
        Self {
            r,
            brigade: std::ptr::null_mut(),
            head_sent: false,
            sendfile: rules.sendfile.unwrap_or(false),
            // What answers as an ErrorDocument is httpd's error page already.
            error_override: rules.error_override.unwrap_or(false) && !is_error_document(r),
            replaced: None,
        }
    }

    /// Sends a part. It waits for a slow client as httpd does for every handler.
    pub(crate) fn send(&mut self, part: Part) -> Sent {
        if let Some(Outcome::Failed(code)) = part.end {
            return Sent::Failed(code);
        }
        if let Some(head) = &part.head {
            if self.error_override && has_error_page(head.status) {
                set_error_headers(self.r, head);
                self.replaced = Some(head.status.into());
            } else {
                set_head(self.r, head);
                self.head_sent = true;
            }
        }
        if let Some(status) = self.replaced {
            return if part.end.is_some() { Sent::Ended(status) } else { Sent::More };
        }
        self.prepare();
        if !part.body.is_empty() {
            // Copied by httpd where it cannot be written at once.
            // SAFETY: the bytes live until the brigade has been passed on, which is all that a
            // transient bucket asks for.
            self.append(|allocator| unsafe {
                apr_bucket_transient_create(part.body.as_ptr().cast(), part.body.len(), allocator)
            });
        }
        if let Some(file) = part.file {
            // SAFETY: the brigade is live, and the request's.
            unsafe { files::append(self.r, self.brigade, file, self.sendfile) };
        }
        match part.end {
            None => self.append_flush(),
            Some(Outcome::Complete) => self.append_end(),
            Some(_) => self.break_off(),
        }
        let status = self.pass();
        if self.is_failure(status) {
            // The client is there, and a filter has failed: on a file that became shorter, say.
            if self.r.output_filters().any(|filter| self.r.text(filter.name) == b"http_header") {
                return Sent::Failed(Code::FileShort);
            }
            self.break_off();
            self.pass();
        }
        if part.end.is_some() {
            Sent::Ended(OK as c_int)
        } else if status != 0 {
            // The client has gone, and httpd has noted that.
            Sent::Ended(if status == AP_FILTER_ERROR { status } else { OK as c_int })
        } else {
            Sent::More
        }
    }

    /// The application was lost. What the hook returns, where a part of the response is already
    /// on its way; otherwise an error page is still possible.
    pub(crate) fn fail(&mut self) -> Option<c_int> {
        if let Some(status) = self.replaced {
            return Some(status);
        }
        if !self.head_sent {
            return None;
        }
        self.prepare();
        self.break_off();
        self.pass();
        Some(OK as c_int)
    }

    /// httpd has ended the response by itself, since the request body broke HTTP. What the
    /// application sends from now on would be taken for another response.
    pub(crate) fn drop_the_rest(&mut self) {
        self.replaced = Some(AP_FILTER_ERROR);
    }

    fn prepare(&mut self) {
        if self.brigade.is_null() {
            let allocator = self.r.connection().bucket_alloc;
            // SAFETY: pool and allocator live at least as long as the request.
            self.brigade = unsafe { apr_brigade_create(self.r.pool(), allocator) };
        }
    }

    fn append(&self, make: impl FnOnce(*mut apr_bucket_alloc_t) -> *mut apr_bucket) {
        let bucket = make(self.r.connection().bucket_alloc);
        // SAFETY: the brigade is ours, and the bucket was just made for its connection.
        unsafe { append_bucket(self.brigade, bucket) };
    }

    fn append_flush(&self) {
        // SAFETY: the allocator is the connection's.
        self.append(|allocator| unsafe { apr_bucket_flush_create(allocator) });
    }

    fn append_end(&self) {
        // SAFETY: the allocator is the connection's.
        self.append(|allocator| unsafe { apr_bucket_eos_create(allocator) });
    }

    /// Ends the response so that the client can see that it is not whole: without the last chunk,
    /// or short of its Content-Length, and then the connection closes.
    fn break_off(&self) {
        let r = self.r;
        self.append_flush();
        // httpd's chunk filter knows this bucket: it writes no last chunk behind it.
        // SAFETY: pool and allocator live at least as long as the request; the text may be null.
        self.append(|allocator| unsafe {
            ap_bucket_error_create(HTTP_BAD_GATEWAY as c_int, std::ptr::null(), r.pool(), allocator)
        });
        self.append_end();
        r.update(|record| record.no_cache = 1);
        r.close_connection();
    }

    /// Whether the output filters have failed although the client has not gone.
    fn is_failure(&self, status: apr_status_t) -> bool {
        let harmless = [0, AP_FILTER_ERROR, libc::ECONNABORTED, libc::ECONNRESET, libc::EPIPE];
        !harmless.contains(&status) && self.r.connection().aborted == 0
    }

    /// Passes the brigade on and empties it.
    fn pass(&self) -> apr_status_t {
        // SAFETY: the request's filters and our brigade are live.
        let status = unsafe { ap_pass_brigade(self.r.record().output_filters, self.brigade) };
        // SAFETY: the brigade is ours.
        unsafe { apr_brigade_cleanup(self.brigade.cast()) };
        status
    }
}

/// Whether httpd has a page for a status; those it does not know would become a 500.
fn has_error_page(status: u16) -> bool {
    // SAFETY: it looks a number up in a table.
    let index = |status| unsafe { ap_index_of_response(status) };
    let unknown = index(HTTP_INTERNAL_SERVER_ERROR as c_int);
    matches!(status, 400..600) && (status == 500 || index(status.into()) != unknown)
}

/// Whether a request was made for the page of an error.
fn is_error_document(r: Request<'_>) -> bool {
    let mut previous = r.record().prev;
    while !previous.is_null() {
        // SAFETY: the requests that led to this one live at least as long as it does.
        let record = unsafe { &*previous };
        if record.status >= HTTP_BAD_REQUEST as c_int {
            return true;
        }
        previous = record.prev;
    }
    false
}

/// Headers that are about the body that comes with them.
const ABOUT_THE_BODY: [&str; 11] = [
    "accept-ranges",
    "content-disposition",
    "content-encoding",
    "content-language",
    "content-length",
    "content-location",
    "content-md5",
    "content-range",
    "content-type",
    "etag",
    "last-modified",
];

/// Has httpd's error page carry what an application says about the error: how to authenticate, when
/// to try again, cookies.
fn set_error_headers(r: Request<'_>, head: &Head) {
    for (name, value) in head.headers.iter() {
        if ABOUT_THE_BODY.iter().any(|about| about.as_bytes().eq_ignore_ascii_case(name)) {
            continue;
        }
        let (key, value) = (r.copy(name), r.copy(value));
        // SAFETY: the request's table and the copies live as long as its pool.
        unsafe { apr_table_addn(r.record().err_headers_out, key, value) };
    }
}

/// Sets status and headers as the application gave them.
fn set_head(r: Request<'_>, head: &Head) {
    r.update(|record| {
        record.status = c_int::from(head.status);
        record.status_line = r.copy(&head.status_line);
    });
    let record = r.record();
    for (name, value) in head.headers.iter() {
        let (key, value) = (r.copy(name), r.copy(value));
        // SAFETY: the request's tables and the copies live as long as its pool.
        unsafe {
            match name.to_ascii_lowercase().as_slice() {
                b"content-type" => ap_set_content_type(r.raw(), value),
                b"content-length" => apr_table_setn(record.headers_out, key, value),
                // Kept when httpd makes an error page of its own.
                b"www-authenticate" => apr_table_addn(record.err_headers_out, key, value),
                // httpd looks for `close` in the first line only, and with `Protocols h2c` that
                // one is its own. In one line with all others, what was said is done.
                b"connection" => apr_table_mergen(record.headers_out, key, value),
                _ => apr_table_addn(record.headers_out, key, value),
            }
        }
    }
}

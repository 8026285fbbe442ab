//! The response, written out part by part through httpd's output filters.

use crate::request::Request;
use httpd_sys::*;
use manifold::{Code, Head, Outcome, Part};
use std::ffi::c_int;

/// Writes the response to one request.
pub(crate) struct Responder<'r> {
    r: Request<'r>,
    brigade: *mut apr_bucket_brigade,
    head_sent: bool,
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
    pub(crate) fn new(r: Request<'r>) -> Self {
        Self { r, brigade: std::ptr::null_mut(), head_sent: false }
    }

    /// Sends a part. It waits for a slow client as httpd does for every handler.
    pub(crate) fn send(&mut self, part: Part) -> Sent {
        if let Some(Outcome::Failed(code)) = part.end {
            return Sent::Failed(code);
        }
        if let Some(head) = &part.head {
            set_head(self.r, head);
            self.head_sent = true;
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
        match part.end {
            None => self.append_flush(),
            Some(Outcome::Complete) => self.append_end(),
            Some(_) => self.break_off(),
        }
        let status = self.pass();
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
        if !self.head_sent {
            return None;
        }
        self.prepare();
        self.break_off();
        self.pass();
        Some(OK as c_int)
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

    /// Passes the brigade on and empties it.
    fn pass(&self) -> apr_status_t {
        // SAFETY: the request's filters and our brigade are live.
        let status = unsafe { ap_pass_brigade(self.r.record().output_filters, self.brigade) };
        // SAFETY: the brigade is ours.
        unsafe { apr_brigade_cleanup(self.brigade.cast()) };
        status
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

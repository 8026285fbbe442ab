//! The request body, read as the application asks for it.

use crate::request::Request;
use crate::signals;
use httpd_sys::*;
use manifold::{Ahead, Answer};
use std::ffi::{c_char, c_int};

/// The body of one request.
pub(crate) struct Body<'r> {
    r: Request<'r>,
    brigade: *mut apr_bucket_brigade,
    ended: bool,
    /// Why it could not be read, as the status the client should get.
    refusal: Option<c_int>,
}

impl<'r> Body<'r> {
    pub(crate) fn new(r: Request<'r>) -> Self {
        Self { r, brigade: std::ptr::null_mut(), ended: false, refusal: None }
    }

    pub(crate) fn request(&self) -> Request<'r> {
        self.r
    }

    /// The status of a request whose body could not be read.
    pub(crate) fn refusal(&self) -> Option<c_int> {
        self.refusal
    }

    /// Whether httpd has answered the request, since its body broke HTTP.
    pub(crate) fn is_answered(&self) -> bool {
        self.refusal == Some(AP_FILTER_ERROR)
    }

    /// What has come of a body of a known length, without waiting for more: with a short one nobody has
    /// to ask for it then. Nothing where the client waits for `100 Continue`, which it gets when the
    /// application reads.
    pub(crate) fn ahead(&mut self) -> Ahead {
        let mut bytes = Vec::new();
        let record = self.r.record();
        if record.expecting_100 != 0 || !record.main.is_null() || !self.has_length() {
            return Ahead::default();
        }
        while !self.ended && self.refusal.is_none() && bytes.len() < Ahead::LIMIT {
            let before = bytes.len();
            match self.read_some(&mut bytes, Ahead::LIMIT, APR_NONBLOCK_READ) {
                Ok(()) if bytes.len() == before => break,
                Ok(()) => {}
                Err(status) => self.refuse(status),
            }
        }
        Ahead { bytes, last: self.ended }
    }

    fn has_length(&self) -> bool {
        self.r.header(c"Content-Length").is_some_and(|length| length != b"0")
            && self.r.header(c"Transfer-Encoding").is_none()
    }

    fn refuse(&mut self, status: c_int) {
        self.refusal = Some(status);
        self.r.close_connection();
    }

    /// Reads from the client until there are `at_least` bytes or the body ends. The first read has
    /// httpd send `100 Continue` to a client that waits for it; a read of nothing does only that.
    pub(crate) fn read(&mut self, at_least: usize, at_most: usize) -> Answer {
        let mut bytes = Vec::new();
        if at_least == 0 {
            self.ask_to_continue();
        }
        while !self.ended && self.refusal.is_none() && bytes.len() < at_least {
            if let Err(status) = self.read_some(&mut bytes, at_most, APR_BLOCK_READ) {
                self.refuse(status);
            }
        }
        match self.refusal {
            Some(_) => Answer::Failed,
            None => Answer::Body { bytes, last: self.ended },
        }
    }

    /// Sends `100 Continue` where the client waits for it, as httpd's filter does at a first read.
    fn ask_to_continue(&self) {
        if self.r.record().expecting_100 == 0 {
            return;
        }
        let (status, line) = (self.r.record().status, self.r.record().status_line);
        self.r.update(|record| {
            record.status = HTTP_CONTINUE as c_int;
            record.status_line = std::ptr::null();
        });
        // SAFETY: httpd keeps the request alive for the hook.
        unsafe { ap_send_interim_response(self.r.raw(), 0) };
        self.r.update(|record| {
            record.status = status;
            record.status_line = line;
        });
    }

    /// Reads once, and appends what came; without waiting that may be nothing.
    fn read_some(
        &mut self,
        bytes: &mut Vec<u8>,
        at_most: usize,
        how: apr_read_type_e,
    ) -> Result<(), c_int> {
        let r = self.r;
        if self.brigade.is_null() {
            // SAFETY: pool and allocator live at least as long as the request.
            self.brigade = unsafe { apr_brigade_create(r.pool(), r.connection().bucket_alloc) };
        }
        let wanted = i64::try_from(at_most - bytes.len()).unwrap_or(i64::MAX);
        let (filters, brigade) = (r.record().input_filters, self.brigade);
        let ended_before = r.record().eos_sent != 0;
        // SAFETY: the request's filters and our empty brigade are live.
        let read = || unsafe { ap_get_brigade(filters, brigade, AP_MODE_READBYTES, how, wanted) };
        let status = signals::let_through(read);
        let result = match status {
            // SAFETY: the brigade is ours, and just filled.
            0 => unsafe { copy(brigade, bytes) },
            // APR's numbers are those of the system.
            libc::EAGAIN if how == APR_NONBLOCK_READ => Ok(false),
            _ => Err(status),
        };
        // SAFETY: the brigade is ours.
        unsafe { apr_brigade_cleanup(brigade.cast()) };
        self.ended = result.map_err(client_status)?;
        // Where the body broke HTTP, the filter has ended the response by itself: with an error
        // page, or without one where the head was sent. What it says then about the body's end
        // would pass for a whole one.
        if !ended_before && r.record().eos_sent != 0 {
            return Err(AP_FILTER_ERROR);
        }
        Ok(())
    }
}

/// What a failed read means for the client.
fn client_status(status: apr_status_t) -> c_int {
    // SAFETY: it maps one number to another.
    unsafe { ap_map_http_request_error(status, HTTP_BAD_REQUEST as c_int) }
}

/// Appends the data of a brigade, and says whether it ends the body.
///
/// # Safety
///
/// The brigade is live.
unsafe fn copy(
    brigade: *mut apr_bucket_brigade,
    bytes: &mut Vec<u8>,
) -> Result<bool, apr_status_t> {
    // SAFETY: the caller's promise; a ring's buckets stay while it is walked, and a read gives
    // data that stays until the bucket goes.
    unsafe {
        let sentinel = (&raw mut (*brigade).list).cast::<apr_bucket>();
        let mut bucket = (*brigade).list.next;
        while bucket != sentinel {
            let kind = (*bucket).type_;
            if kind == &raw const apr_bucket_type_eos {
                return Ok(true);
            }
            if (*kind).is_metadata == APR_BUCKET_DATA {
                let (mut data, mut length): (*const c_char, usize) = (std::ptr::null(), 0);
                let read = (*kind).read.ok_or(APR_EGENERAL as apr_status_t)?;
                let status = read(bucket, &raw mut data, &raw mut length, APR_BLOCK_READ);
                if status != 0 {
                    return Err(status);
                }
                if length > 0 {
                    bytes.extend_from_slice(std::slice::from_raw_parts(data.cast(), length));
                }
            }
            // Read after the bucket was: reading a bucket of unknown length splits it.
            bucket = (*bucket).link.next;
        }
    }
    Ok(false)
}

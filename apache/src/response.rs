//! The response, written out part by part through httpd's output filters.

use crate::aside::Aside;
use crate::files;
use crate::request::Request;
use crate::rules::Rules;
use crate::signals;
use httpd_sys::*;
use manifold::{Code, FilePart, Head, Outcome, PIECE, Part, Slice, Store, Stored, Tail, Unsent};
use std::ffi::{c_char, c_int};
use std::sync::Arc;
use std::time::Duration;

/// Writes the response to one request.
pub(crate) struct Responder<'r> {
    r: Request<'r>,
    brigade: *mut apr_bucket_brigade,
    head_sent: bool,
    sendfile: bool,
    error_override: bool,
    /// What the client is behind with.
    aside: Aside<'r>,
    /// Whether httpd sends that by itself, as soon as it is known.
    goes_on: Option<bool>,
    /// How often the client was found to be behind since it last had everything.
    pushes: u32,
    /// Whether `Location: /path` with status 200 stands for what is at that path.
    redirects: bool,
    /// What the client gets in place of what the application says.
    instead: Option<Instead>,
}

/// What becomes of bytes that an interpreter has lent, for which it waits when it ends.
#[derive(Clone, Copy)]
enum Lent {
    /// They are passed on at once, without waiting for the client.
    AsItIs,
    /// httpd gets a copy, since it may wait for the client with it.
    Copied,
}

#[derive(Clone, Copy)]
enum Instead {
    /// What httpd makes of this, which the hook returns in the end: the page of an error, or nothing
    /// more where it has answered already.
    Status(c_int),
    /// What this server has at another path. The text lives as long as the request's pool.
    Redirect(*const c_char),
}

/// How often the client is given what it takes, each time after twice the time, before a thread waits
/// for it: 63 ms in all.
const PUSHES: u32 = 5;

/// What is less than this httpd keeps, unless it is told to send it.
const LEAST_TO_SEND: usize = 4096;

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
    pub(crate) fn new(r: Request<'r>, rules: &Rules, store: &Arc<Store>) -> Self {
        Self {
            r,
            brigade: std::ptr::null_mut(),
            head_sent: false,
            sendfile: rules.sendfile.unwrap_or(false),
            // What answers as an ErrorDocument is httpd's error page already.
            error_override: rules.error_override.unwrap_or(false) && !is_error_document(r),
            aside: Aside::new(r, store),
            goes_on: None,
            pushes: 0,
            redirects: false,
            instead: None,
        }
    }

    /// The same for an application of a process group: status 200 with `Location: /path` is answered by
    /// what is at that path, as for CGI programs and in mod_wsgi's daemon mode.
    pub(crate) fn of_process_group(r: Request<'r>, rules: &Rules, store: &Arc<Store>) -> Self {
        Self { redirects: true, ..Self::new(r, rules, store) }
    }

    /// Sends a part, and what was put behind it by now. It waits for a slow client where httpd cannot
    /// go on by itself, as httpd does for every handler.
    pub(crate) fn send(&mut self, mut part: Part) -> Sent {
        let spool = part.spool.take().map(|spool| spool.take());
        let (tail, mut end) = spool.unwrap_or_default();
        if part.head.is_none() {
            part.end = part.end.or(end.take());
        }
        // With a head it is not: httpd would tell the length or not, as the threads happen to run.
        match (self.send_part(part, tail), end) {
            (Sent::More, Some(_)) => {
                self.send_part(Part { end, ..Part::default() }, Tail::default())
            }
            (sent, _) => sent,
        }
    }

    fn send_part(&mut self, part: Part, tail: Tail) -> Sent {
        if let Some(Outcome::Failed(code)) = part.end {
            return Sent::Failed(code);
        }
        if let Some(head) = &part.head {
            if self.error_override && has_error_page(head.status) {
                set_error_headers(self.r, head);
                self.instead = Some(Instead::Status(head.status.into()));
            } else if let Some(path) = local_redirect(head).filter(|_| self.redirects) {
                set_cookies(self.r, head);
                self.instead = Some(Instead::Redirect(self.r.copy(path)));
            } else {
                set_head(self.r, head);
                self.head_sent = true;
            }
        }
        if let Some(instead) = self.instead {
            return if part.end.is_some() { Sent::Ended(instead.status()) } else { Sent::More };
        }
        self.prepare();
        let status = self.write(&part.body, tail, part.file, part.end);
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

    /// Passes a part on; waits for the client where httpd cannot go on by itself.
    fn write(
        &mut self,
        body: &[u8],
        Tail { mut blocks, stored }: Tail,
        file: Option<FilePart>,
        end: Option<Outcome>,
    ) -> apr_status_t {
        let is_small = body.len() + blocks.len() <= PIECE && stored.is_none();
        let mut rest = Unsent::of(body, &blocks);
        if self.goes_on.is_none() && file.is_none() && !(is_small && end.is_some()) {
            // This may wait for the client.
            self.append_next(&mut rest, PIECE, Lent::Copied);
            self.append_flush();
            let status = self.pass();
            self.goes_on = Some(self.aside.is_of_use());
            if status != 0 || rest.is_empty() && stored.is_none() && end.is_none() {
                return status;
            }
        }
        let mut flush = true;
        if self.goes_on == Some(true) {
            match self.write_what_is_taken(rest) {
                Ok(is_needed) => flush = is_needed,
                Err(status) => return status,
            }
        } else {
            self.append_next(&mut rest, usize::MAX, Lent::Copied);
        }
        // From here on this may wait for the client.
        blocks.give_back();
        if let Some(stored) = stored {
            flush |= !self.append_stored(stored);
        }
        if let Some(file) = file {
            // SAFETY: the brigade is live, and the request's.
            unsafe { files::append(self.r, self.brigade, file, self.sendfile) };
        }
        match end {
            None if !flush => {}
            None => self.append_flush(),
            Some(Outcome::Complete) => self.append_end(),
            Some(_) => self.break_off(),
        }
        let status = self.pass();
        self.aside.store().reuse(blocks);
        if end.is_none() && !self.is_behind() {
            self.nothing_is_left();
        }
        status
    }

    /// Passes on what the client takes, and appends the rest, which is put aside where it is much. Says
    /// whether httpd has to be told to send that. Nothing that is lent is left in the brigade.
    fn write_what_is_taken(&mut self, mut rest: Unsent<'_>) -> Result<bool, apr_status_t> {
        while !rest.is_empty() {
            if self.aside.is_behind() {
                if self.aside.is_taken_in_a_moment() {
                    match self.aside.send_more() {
                        0 => continue,
                        status => return Err(status),
                    }
                }
                // SAFETY: the brigade is live, and the request's.
                unsafe { self.aside.append(self.brigade, &mut rest) };
                let in_memory = rest.len();
                self.append_next(&mut rest, usize::MAX, Lent::Copied);
                return Ok(in_memory > PIECE);
            }
            if rest.len() < LEAST_TO_SEND {
                self.append_next(&mut rest, usize::MAX, Lent::Copied);
                return Ok(true);
            }
            self.append_next(&mut rest, PIECE, Lent::AsItIs);
            match self.pass() {
                0 => {}
                status => return Err(status),
            }
        }
        Ok(false)
    }

    /// Appends what the application's thread has put aside. Whether httpd can go on with it by itself.
    fn append_stored(&mut self, stored: Stored) -> bool {
        let left = if self.goes_on == Some(true) {
            // SAFETY: the brigade is live, and the request's.
            unsafe { self.aside.append_stored(self.brigade, stored) }
        } else {
            Err(stored)
        };
        let Err(stored) = left else { return true };
        // SAFETY: the brigade is live, and the request's.
        unsafe { files::append_stored(self.r, self.brigade, stored) };
        false
    }

    /// How long to wait for the application before looking what the client has taken; none where it
    /// has everything. Mostly the application has only its end to say, and then no thread is needed
    /// for what is left.
    pub(crate) fn patience(&self) -> Option<Duration> {
        self.is_behind().then(|| Duration::from_millis(1 << self.pushes))
    }

    /// Sends what the client takes; after some times, waits until it has taken everything.
    pub(crate) fn push(&mut self) -> Sent {
        self.pushes += 1;
        let status = if self.pushes > PUSHES {
            self.append_flush();
            self.pass()
        } else {
            self.aside.send_more()
        };
        if !self.is_behind() {
            self.nothing_is_left();
        }
        match status {
            0 => Sent::More,
            AP_FILTER_ERROR => Sent::Ended(status),
            _ => Sent::Ended(OK as c_int),
        }
    }

    /// Whether the client has not taken everything yet, and httpd goes on by itself.
    fn is_behind(&self) -> bool {
        self.goes_on == Some(true) && self.aside.is_behind()
    }

    fn nothing_is_left(&mut self) {
        self.pushes = 0;
        self.aside.close();
    }

    /// The application was lost. What the hook returns, where a part of the response is already
    /// on its way; otherwise an error page is still possible.
    pub(crate) fn fail(&mut self) -> Option<c_int> {
        if let Some(instead) = self.instead {
            return Some(instead.status());
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
        self.instead = Some(Instead::Status(AP_FILTER_ERROR));
    }

    /// Once the application has ended: has what is at the path that it named answer in its place.
    /// `status` is what the hook returns otherwise.
    pub(crate) fn finish(self, status: c_int) -> c_int {
        let Some(Instead::Redirect(path)) = self.instead else { return status };
        let r = self.r;
        // SAFETY: httpd keeps the request alive for the hook.
        let status = signals::let_through(|| unsafe { ap_discard_request_body(r.raw()) });
        if status != OK as c_int {
            return status;
        }
        r.update(|record| {
            record.method = c"GET".as_ptr();
            record.method_number = M_GET as c_int;
        });
        // The body was the application's: the request for the path has none.
        for name in [c"Content-Length", c"Transfer-Encoding"] {
            // SAFETY: the request's table is live.
            unsafe { apr_table_unset(r.record().headers_in, name.as_ptr()) };
        }
        // SAFETY: the path lives as long as the request, and nothing of ours refers to the request's
        // record meanwhile.
        signals::let_through(|| unsafe { ap_internal_redirect(path, r.raw()) });
        OK as c_int
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

    /// Appends the next bytes, at most `limit` of them.
    fn append_next(&self, rest: &mut Unsent<'_>, limit: usize, lent: Lent) {
        for Slice { bytes, is_lent } in rest.piece(limit) {
            match lent {
                Lent::Copied if is_lent => self.append_copy(bytes),
                Lent::Copied | Lent::AsItIs => self.append_bytes(bytes),
            }
        }
    }

    /// Appends a copy that is httpd's.
    fn append_copy(&self, bytes: &[u8]) {
        // SAFETY: the bytes are readable for the length, and with no function to free them they are copied.
        self.append(|allocator| unsafe {
            apr_bucket_heap_create(bytes.as_ptr().cast(), bytes.len(), None, allocator)
        });
    }

    /// Appends bytes, which httpd copies where it cannot write them at once.
    fn append_bytes(&self, bytes: &[u8]) {
        if bytes.is_empty() {
            return;
        }
        // SAFETY: the bytes live until the brigade has been passed on, which is all that a transient
        // bucket asks for.
        self.append(|allocator| unsafe {
            apr_bucket_transient_create(bytes.as_ptr().cast(), bytes.len(), allocator)
        });
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
        let pass = || unsafe { ap_pass_brigade(self.r.record().output_filters, self.brigade) };
        let status = signals::let_through(pass);
        // SAFETY: the brigade is ours.
        unsafe { apr_brigade_cleanup(self.brigade.cast()) };
        status
    }
}

impl Instead {
    /// What the hook returns, unless it redirects.
    fn status(self) -> c_int {
        match self {
            Self::Status(status) => status,
            Self::Redirect(_) => OK as c_int,
        }
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

/// The path of this server that a response with status 200 names as its `Location`.
fn local_redirect(head: &Head) -> Option<&[u8]> {
    let is_location = |(name, _): &(&[u8], &[u8])| name.eq_ignore_ascii_case(b"location");
    let (_, path) = head.headers.iter().filter(|_| head.status == 200).find(is_location)?;
    path.starts_with(b"/").then_some(path)
}

/// Has whatever answers in place of the application set the cookies that it has set.
fn set_cookies(r: Request<'_>, head: &Head) {
    for (name, value) in head.headers.iter() {
        if name.eq_ignore_ascii_case(b"set-cookie") {
            let (key, value) = (r.copy(name), r.copy(value));
            // SAFETY: the request's table and the copies live as long as its pool.
            unsafe { apr_table_addn(r.record().err_headers_out, key, value) };
        }
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
        let is = |other: &str| name.eq_ignore_ascii_case(other.as_bytes());
        // SAFETY: the request's tables and the copies live as long as its pool.
        unsafe {
            if is("content-type") {
                ap_set_content_type(r.raw(), value);
            } else if is("content-length") {
                apr_table_setn(record.headers_out, key, value);
            } else if is("www-authenticate") {
                // Kept when httpd makes an error page of its own.
                apr_table_addn(record.err_headers_out, key, value);
            } else if is("connection") {
                // httpd looks for `close` in the first line only, and with `Protocols h2c` that
                // one is its own. In one line with all others, what was said is done.
                apr_table_mergen(record.headers_out, key, value);
            } else {
                apr_table_addn(record.headers_out, key, value);
            }
        }
    }
}

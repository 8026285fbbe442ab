//! What a client is behind with, while the application goes on: put aside so that httpd sends it by
//! itself.
//!
//! httpd's core output filter writes what the socket takes, keeps the rest, and returns, so that event
//! MPM can go on without a thread. But where more than `FlushMaxThreshold` (64 KiB) are left of
//! anything but FILE buckets it waits for the client, in the handler's thread. So bytes of a response
//! are passed on in pieces smaller than that; when something is left, the rest goes to a file in
//! memory, and from there as FILE buckets.
//!
//! Such a bucket's descriptor stays ours: a FILE bucket of httpd's own closes it with a pool of the
//! connection, which is cleared when there is nothing left to send, of any request. Ours is closed with
//! the request's pool, which httpd keeps until the last byte is sent (the EOR bucket behind the
//! response destroys it), or earlier when we see that all is sent.

use crate::files::{self, LEAST_FOR_SENDFILE};
use crate::request::Request;
use httpd_sys::*;
use manifold::{Store, Stored, Unsent};
use std::ffi::{c_int, c_void};
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How long a client may keep the thread waiting before what it has not taken is put aside, which costs
/// a copy: one that takes what comes is not behind for long.
const MOMENT: Duration = Duration::from_millis(20);

/// What is left to send of one response.
pub(crate) struct Aside<'r> {
    r: Request<'r>,
    store: Arc<Store>,
    files: Vec<Kept>,
    /// How long the client has kept the thread waiting since it last had everything.
    waited: Duration,
}

impl<'r> Aside<'r> {
    pub(crate) fn new(r: Request<'r>, store: &Arc<Store>) -> Self {
        Self { r, store: Arc::clone(store), files: Vec::new(), waited: Duration::ZERO }
    }

    /// What responses of this process keep for slow clients.
    pub(crate) fn store(&self) -> &Store {
        &self.store
    }

    /// Whether httpd sends by itself what is put aside. To be asked when the head has been passed on:
    /// by then filters that have nothing to do here have gone.
    pub(crate) fn is_of_use(&self) -> bool {
        is_async() && files::goes_straight_to_the_socket(self.r)
    }

    /// Appends what the client cannot take yet. Left is what there is no room for; all of it where it is too
    /// little to be worth it.
    ///
    /// # Safety
    ///
    /// The brigade is live and made for the request's connection.
    pub(crate) unsafe fn append(
        &mut self,
        brigade: *mut apr_bucket_brigade,
        rest: &mut Unsent<'_>,
    ) {
        let length = rest.len() as u64;
        if length < LEAST_FOR_SENDFILE || !self.has_room(length) {
            return;
        }
        if self.files.is_empty() {
            let Some(stored) = Stored::nothing(&self.store) else { return };
            self.files.push(Kept::until_the_end_of(self.r, stored));
        }
        let kept = self.files.last_mut().expect("there is one by now");
        let start = kept.stored().length();
        rest.take_while(|bytes| kept.stored().append(bytes));
        let length = kept.stored().length() - start;
        if length > 0 {
            // SAFETY: the caller's promise, and so many bytes are there.
            unsafe { kept.append_bucket(self.r, brigade, start, length) };
        }
    }

    /// Appends what was put aside before; it comes back where there is no room for it.
    ///
    /// # Safety
    ///
    /// The brigade is live and made for the request's connection.
    pub(crate) unsafe fn append_stored(
        &mut self,
        brigade: *mut apr_bucket_brigade,
        stored: Stored,
    ) -> Result<(), Stored> {
        let length = stored.length();
        if !self.has_room(length) {
            return Err(stored);
        }
        let mut kept = Kept::until_the_end_of(self.r, stored);
        // SAFETY: the caller's promise, and so many bytes are there.
        unsafe { kept.append_bucket(self.r, brigade, 0, length) };
        self.files.push(kept);
        Ok(())
    }

    /// Whether the response may have so many bytes more here.
    fn has_room(&mut self, more: u64) -> bool {
        let kept: u64 = self.files.iter_mut().map(|file| file.stored().length()).sum();
        kept + more <= self.store.share()
    }

    /// Whether the client has not taken everything yet.
    pub(crate) fn is_behind(&self) -> bool {
        self.r.connection().data_in_output_filters != 0
    }

    /// Waits until the client takes more, but for a moment only, however often it is asked.
    pub(crate) fn is_taken_in_a_moment(&mut self) -> bool {
        if !self.files.is_empty() || self.waited >= MOMENT {
            return false;
        }
        let mut socket = -1;
        // SAFETY: the connection has a socket, which is asked for its descriptor.
        unsafe { apr_os_sock_get(&raw mut socket, ap_get_conn_socket(self.r.record().connection)) };
        let mut socket = libc::pollfd { fd: socket, events: libc::POLLOUT, revents: 0 };
        let left = (MOMENT - self.waited).as_micros().div_ceil(1000) as c_int;
        let began = Instant::now();
        // SAFETY: one valid entry; an interrupted wait is over.
        let ready = unsafe { libc::poll(&raw mut socket, 1, left) };
        self.waited += began.elapsed();
        ready == 1
    }

    /// Sends as much of what is left as the client takes, without waiting.
    pub(crate) fn send_more(&self) -> apr_status_t {
        let mut filter = self.r.connection().output_filters;
        // SAFETY: a connection's filters live as long as it does, and the last one is httpd's core
        // output filter, which MPMs call in this way too.
        unsafe {
            while !(*filter).next.is_null() {
                filter = (*filter).next;
            }
            match (*(*filter).frec).filter_func.out_func {
                Some(write) => write(filter, std::ptr::null_mut()),
                None => APR_EGENERAL as apr_status_t,
            }
        }
    }

    /// Lets go of everything; httpd has sent it.
    pub(crate) fn close(&mut self) {
        self.waited = Duration::ZERO;
        for file in self.files.drain(..) {
            file.close(self.r);
        }
    }
}

/// Bytes that stay until httpd has sent them: the request's pool owns them.
struct Kept(*mut Stored);

impl Kept {
    fn until_the_end_of(r: Request<'_>, stored: Stored) -> Self {
        let stored = Box::into_raw(Box::new(stored));
        // SAFETY: the function releases what is passed to it. Programs that are forked need no
        // cleanup: the descriptor closes by itself.
        unsafe {
            apr_pool_cleanup_register(
                r.pool(),
                stored.cast(),
                Some(release),
                Some(apr_pool_cleanup_null),
            )
        };
        Self(stored)
    }

    fn stored(&mut self) -> &mut Stored {
        // SAFETY: the pool's, which lives as long as the request that has this; nobody else has a
        // reference.
        unsafe { &mut *self.0 }
    }

    /// Appends a FILE bucket.
    ///
    /// # Safety
    ///
    /// The brigade is live and made for the request's connection, and the bytes are there.
    unsafe fn append_bucket(
        &mut self,
        r: Request<'_>,
        brigade: *mut apr_bucket_brigade,
        start: u64,
        length: u64,
    ) {
        let mut descriptor = self.stored().file().as_raw_fd();
        // EnableSendfile is about file systems on which this does not work.
        let flags = APR_FOPEN_READ | APR_FOPEN_LARGEFILE | APR_FOPEN_SENDFILE_ENABLED;
        let mut file: *mut apr_file_t = std::ptr::null_mut();
        // One for each bucket, since httpd moves them; such a one closes nothing.
        // SAFETY: the pool is the request's, and outlives the bucket.
        unsafe { apr_os_file_put(&raw mut file, &raw mut descriptor, flags as i32, r.pool()) };
        let (start, length) = (start as apr_off_t, length as apr_off_t);
        // SAFETY: the caller's promise; file and pool are live.
        let bucket = unsafe { apr_brigade_insert_file(brigade, file, start, length, r.pool()) };
        // What is mapped would count as something to wait for.
        // SAFETY: it is the FILE bucket that was just made.
        unsafe { apr_bucket_file_enable_mmap(bucket, 0) };
    }

    /// Releases the bytes, once httpd has sent them.
    fn close(self, r: Request<'_>) {
        // SAFETY: it was registered with this pool, which is live, and is released only once.
        unsafe { apr_pool_cleanup_run(r.pool(), self.0.cast(), Some(release)) };
    }
}

unsafe extern "C" fn release(stored: *mut c_void) -> apr_status_t {
    // SAFETY: it was registered with a box of which nobody else is the owner, and is called once.
    drop(unsafe { Box::from_raw(stored.cast::<Stored>()) });
    APR_SUCCESS as apr_status_t
}

/// Whether the MPM goes on sending when the thread has gone on to something else.
fn is_async() -> bool {
    let mut answer = 0;
    // SAFETY: the MPM is loaded, and the place for the answer is ours.
    let status = unsafe { ap_mpm_query(AP_MPMQ_IS_ASYNC as c_int, &raw mut answer) };
    status == 0 && answer != 0
}

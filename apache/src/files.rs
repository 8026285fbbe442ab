//! Files in a response: a kind of bucket that reads when its bytes can be sent.
//!
//! httpd's own FILE bucket passes over a file that became shorter without a word: the response is
//! then shorter than its Content-Length, and the client takes the next one on the connection for
//! the rest. It also belongs to a pool, and shares its descriptor's position. This bucket reads at
//! places (`pread`), fails where something is missing, and its file is counted by reference, so it
//! can go with the connection's output whichever thread writes that.
//!
//! The FILE bucket is what the kernel sends from (sendfile). It is used where nothing can come
//! between it and the socket; there a file that is too short fails as well.

use crate::boundary;
use crate::request::Request;
use httpd_sys::*;
use manifold::{Code, FilePart, Stored};
use std::ffi::{CString, c_char, c_int, c_void};
use std::fs::File;
use std::os::fd::{AsRawFd, RawFd};
use std::sync::Arc;

/// How much of a file is read at once, and written: the fewer writes, the less often a client is woken.
const BLOCK: usize = 256 << 10;

/// Below this sendfile is not worth its while, and httpd would read instead.
pub(crate) const LEAST_FOR_SENDFILE: u64 = 4096;

/// The kind of bucket; httpd compares its address.
static KIND: BucketKind = BucketKind(apr_bucket_type_t {
    name: c"WSGI FILE".as_ptr(),
    num_func: 5,
    is_metadata: APR_BUCKET_DATA,
    destroy: Some(destroy),
    read: Some(read),
    setaside: Some(apr_bucket_setaside_noop),
    split: Some(split),
    copy: Some(copy),
});

/// What a bucket reads from; gone with the last that does.
enum Content {
    /// A file of the application's.
    File(File),
    /// Bytes of the response.
    Stored(Stored),
}

impl Content {
    fn descriptor(&self) -> RawFd {
        match self {
            Self::File(file) => file.as_raw_fd(),
            Self::Stored(stored) => stored.file().as_raw_fd(),
        }
    }
}

struct BucketKind(apr_bucket_type_t);

// SAFETY: a literal and functions, and nobody writes to them.
unsafe impl Sync for BucketKind {}

/// Appends a part of a file.
///
/// # Safety
///
/// The brigade is live and made for the request's connection.
pub(crate) unsafe fn append(
    r: Request<'_>,
    brigade: *mut apr_bucket_brigade,
    part: FilePart,
    sendfile: bool,
) {
    if sendfile && part.length >= LEAST_FOR_SENDFILE && goes_straight_to_the_socket(r) {
        // SAFETY: the caller's promise.
        let appended = unsafe { append_for_sendfile(r, brigade, &part) };
        if appended.is_some() {
            return;
        }
    }
    // SAFETY: the caller's promise.
    unsafe { append_content(r, brigade, Content::File(part.file), part.start, part.length) };
}

/// Appends bytes of a response that were kept aside.
///
/// # Safety
///
/// The brigade is live and made for the request's connection.
pub(crate) unsafe fn append_stored(
    r: Request<'_>,
    brigade: *mut apr_bucket_brigade,
    stored: Stored,
) {
    let length = stored.length();
    // SAFETY: the caller's promise.
    unsafe { append_content(r, brigade, Content::Stored(stored), 0, length) };
}

/// Appends a bucket of our own kind.
///
/// # Safety
///
/// The brigade is live and made for the request's connection.
unsafe fn append_content(
    r: Request<'_>,
    brigade: *mut apr_bucket_brigade,
    content: Content,
    start: u64,
    length: u64,
) {
    let content = Arc::into_raw(Arc::new(content)).cast_mut();
    // No more than a file's size, which fits.
    let (start, length) = (start as apr_off_t, length as usize);
    // SAFETY: the allocator is the connection's, and the reference is given to the bucket.
    let bucket = unsafe { make(r.connection().bucket_alloc, content, start, length) };
    // SAFETY: the caller's promise; the bucket was just made.
    unsafe { append_bucket(brigade, bucket) };
}

/// Whether no filter will read what the kernel could send by itself.
pub(crate) fn goes_straight_to_the_socket(r: Request<'_>) -> bool {
    r.output_filters()
        .all(|filter| filter.ftype == AP_FTYPE_PROTOCOL || PASSES_ON.contains(&r.text(filter.name)))
}

/// Filters of httpd that pass a body on as it is: the one that writes to the socket, the one that
/// puts chunks around it, those that look at headers only, and those that look at when something
/// passes.
const PASSES_ON: [&[u8]; 8] = [
    b"chunk",
    b"core",
    b"fixup_headers_err",
    b"fixup_headers_out",
    b"logio_ttfb_out",
    b"mod_expires",
    b"mod_session_out",
    b"reqtimeout",
];

/// Appends httpd's own bucket; `None` where the file cannot be opened once more.
///
/// # Safety
///
/// The brigade is live and made for the request's connection.
unsafe fn append_for_sendfile(
    r: Request<'_>,
    brigade: *mut apr_bucket_brigade,
    part: &FilePart,
) -> Option<()> {
    // Opened anew, so that it has a position of its own, which a read of the bucket moves.
    let path = CString::new(format!("/proc/self/fd/{}", part.file.as_raw_fd())).ok()?;
    let flags = APR_FOPEN_READ | APR_FOPEN_LARGEFILE | APR_FOPEN_SENDFILE_ENABLED;
    let mut file: *mut apr_file_t = std::ptr::null_mut();
    // SAFETY: the path is a C string and the request's pool live; the pool closes the file.
    let status = unsafe { apr_file_open(&raw mut file, path.as_ptr(), flags as i32, 0, r.pool()) };
    if status != 0 {
        return None;
    }
    let (start, length) = (part.start as apr_off_t, part.length as apr_off_t);
    // SAFETY: the caller's promise; file and pool are live.
    let bucket = unsafe { apr_brigade_insert_file(brigade, file, start, length, r.pool()) };
    // A mapped file that becomes shorter is a bus error.
    // SAFETY: it is the FILE bucket that was just made.
    unsafe { apr_bucket_file_enable_mmap(bucket, 0) };
    Some(())
}

/// A bucket for `length` bytes of a file.
///
/// # Safety
///
/// The allocator is live; `content` is a reference made by `Arc::into_raw`, which the bucket takes.
unsafe fn make(
    allocator: *mut apr_bucket_alloc_t,
    content: *mut Content,
    start: apr_off_t,
    length: usize,
) -> *mut apr_bucket {
    // SAFETY: the caller's promise. A bucket's memory holds a bucket; httpd ends the process where
    // there is no memory.
    unsafe {
        let bucket = apr_bucket_alloc(size_of::<apr_bucket>(), allocator).cast::<apr_bucket>();
        bucket.write(apr_bucket {
            type_: &raw const KIND.0,
            length,
            start,
            data: content.cast(),
            free: Some(apr_bucket_free),
            list: allocator,
            ..std::mem::zeroed()
        });
        init_bucket(bucket);
        bucket
    }
}

unsafe extern "C" fn destroy(data: *mut c_void) {
    // SAFETY: httpd calls this once for each bucket, whose data is a reference to the content.
    unsafe { Arc::decrement_strong_count(data.cast::<Content>()) };
}

/// Reads the first block, and makes a bucket of what is behind it.
unsafe extern "C" fn read(
    bucket: *mut apr_bucket,
    bytes: *mut *const c_char,
    count: *mut usize,
    _block: apr_read_type_e,
) -> apr_status_t {
    // SAFETY: httpd passes a live bucket of this kind, and places for the result.
    unsafe {
        let (content, allocator) = ((*bucket).data.cast::<Content>(), (*bucket).list);
        let (start, length) = ((*bucket).start, (*bucket).length);
        let size = length.min(BLOCK);
        let buffer = apr_bucket_alloc(size, allocator).cast::<c_char>();
        if let Err(status) = read_at((*content).descriptor(), buffer, size, start) {
            apr_bucket_free(buffer.cast());
            return status;
        }
        // The bucket's own reference goes to the one for the rest.
        apr_bucket_heap_make(bucket, buffer, size, Some(apr_bucket_free));
        if length > size {
            let rest = make(allocator, content, start + size as apr_off_t, length - size);
            insert_bucket_after(bucket, rest);
        } else {
            Arc::decrement_strong_count(content);
        }
        *bytes = buffer;
        *count = size;
    }
    APR_SUCCESS as apr_status_t
}

/// Fills `size` bytes at `buffer` from a place in a file.
///
/// # Safety
///
/// So many bytes may be written there.
unsafe fn read_at(
    descriptor: c_int,
    buffer: *mut c_char,
    size: usize,
    start: apr_off_t,
) -> Result<(), apr_status_t> {
    let mut done = 0;
    while done < size {
        // SAFETY: the caller's promise.
        let read = unsafe {
            let place = buffer.add(done).cast();
            libc::pread(descriptor, place, size - done, start + done as apr_off_t)
        };
        let problem = match usize::try_from(read) {
            Ok(0) => None,
            Ok(read) => {
                done += read;
                continue;
            }
            Err(_) => match std::io::Error::last_os_error() {
                error if error.kind() == std::io::ErrorKind::Interrupted => continue,
                error => Some(error),
            },
        };
        boundary::quiet(|| report(problem, start + done as apr_off_t));
        return Err(APR_EGENERAL as apr_status_t);
    }
    Ok(())
}

fn report(problem: Option<std::io::Error>, place: apr_off_t) {
    let code = Code::FileShort;
    match problem {
        None => tracing::error!(
            "{code}: a file became shorter while it was sent: nothing is at byte {place} any more"
        ),
        Some(error) => {
            tracing::error!("{code}: a file could not be read while it was sent: {error}")
        }
    }
}

unsafe extern "C" fn split(bucket: *mut apr_bucket, point: usize) -> apr_status_t {
    // SAFETY: httpd passes a live bucket of this kind.
    let status = unsafe { apr_bucket_simple_split(bucket, point) };
    if status == APR_SUCCESS as apr_status_t {
        // SAFETY: there are two buckets with this reference now.
        unsafe { Arc::increment_strong_count((*bucket).data.cast::<Content>()) };
    }
    status
}

unsafe extern "C" fn copy(bucket: *mut apr_bucket, twin: *mut *mut apr_bucket) -> apr_status_t {
    // SAFETY: httpd passes a live bucket of this kind, and a place for the other.
    let status = unsafe { apr_bucket_simple_copy(bucket, twin) };
    if status == APR_SUCCESS as apr_status_t {
        // SAFETY: there are two buckets with this reference now.
        unsafe { Arc::increment_strong_count((*bucket).data.cast::<Content>()) };
    }
    status
}

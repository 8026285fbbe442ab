//! What httpd's request record says.

use crate::wsgi_module;
use httpd_sys::*;
use std::ffi::{CStr, c_char, c_void};
use std::marker::PhantomData;
use std::ptr::NonNull;
use std::time::Duration;

/// A request that httpd has handed to one of our hooks. It cannot leave the thread, nor outlive
/// the hook.
#[derive(Clone, Copy)]
pub(crate) struct Request<'r> {
    raw: NonNull<request_rec>,
    hook: PhantomData<*mut &'r ()>,
}

/// Compiles only as long as a request is not `Send`: otherwise the call is ambiguous.
const _: fn() = || {
    trait IfSend<Which> {
        fn ambiguous() {}
    }
    impl<T> IfSend<()> for T {}
    impl<T: Send> IfSend<u8> for T {}
    <Request<'static> as IfSend<_>>::ambiguous();
};

impl<'r> Request<'r> {
    /// The request of a hook.
    ///
    /// # Safety
    ///
    /// httpd passed `raw` to a hook that is running for all of `'r`, on this thread.
    pub(crate) unsafe fn new(raw: *mut request_rec) -> Self {
        // SAFETY: httpd calls no request hook without a request.
        let raw = unsafe { NonNull::new_unchecked(raw) };
        Self { raw, hook: PhantomData }
    }

    pub(crate) fn raw(self) -> *mut request_rec {
        self.raw.as_ptr()
    }

    /// The record, to be read. Nothing else of ours holds a reference to it across a call into
    /// httpd that could write to it.
    pub(crate) fn record(self) -> &'r request_rec {
        // SAFETY: httpd keeps the request alive for the hook, and only this thread touches it.
        unsafe { self.raw.as_ref() }
    }

    /// Changes the record.
    pub(crate) fn update(self, change: impl FnOnce(&mut request_rec)) {
        let mut raw = self.raw;
        // SAFETY: see `record`; the reference ends with the closure.
        change(unsafe { raw.as_mut() });
    }

    pub(crate) fn connection(self) -> &'r conn_rec {
        // SAFETY: a request has a connection for as long as it lives.
        unsafe { &*self.record().connection }
    }

    /// Closes the connection after this response.
    pub(crate) fn close_connection(self) {
        // SAFETY: see `connection`; only this thread touches it while it serves the request.
        unsafe { (*self.record().connection).keepalive = AP_CONN_CLOSE };
    }

    pub(crate) fn server(self) -> &'r server_rec {
        // SAFETY: a request's server outlives it.
        unsafe { &*self.record().server }
    }

    /// httpd's `Timeout` where the request is.
    pub(crate) fn timeout(self) -> Duration {
        Duration::from_micros(u64::try_from(self.server().timeout).unwrap_or(0))
    }

    pub(crate) fn pool(self) -> *mut apr_pool_t {
        self.record().pool
    }

    /// A C string of the record or its tables; empty where it is null.
    pub(crate) fn text(self, text: *const c_char) -> &'r [u8] {
        if text.is_null() {
            return &[];
        }
        // SAFETY: httpd's strings end with a NUL and live as long as the request's pool.
        unsafe { CStr::from_ptr(text) }.to_bytes()
    }

    /// The value of a request header.
    pub(crate) fn header(self, name: &CStr) -> Option<&'r [u8]> {
        self.lookup(self.record().headers_in, name)
    }

    /// The value under a name in one of the request's tables.
    pub(crate) fn lookup(self, table: *const apr_table_t, name: &CStr) -> Option<&'r [u8]> {
        // SAFETY: the request's tables live as long as it does.
        let value = unsafe { apr_table_get(table, name.as_ptr()) };
        (!value.is_null()).then(|| self.text(value))
    }

    /// The output filters that the response will pass, the nearest first.
    pub(crate) fn output_filters(self) -> impl Iterator<Item = &'r ap_filter_rec_t> {
        let mut next = self.record().output_filters;
        std::iter::from_fn(move || {
            if next.is_null() {
                return None;
            }
            // SAFETY: a request's filters, and what they are made from, live as long as it does.
            let filter = unsafe { &*next };
            next = filter.next;
            // SAFETY: see above.
            Some(unsafe { &*filter.frec })
        })
    }

    /// Whether a filter will look at the content of the response, or change it.
    pub(crate) fn has_content_filter(self) -> bool {
        self.output_filters().any(|filter| filter.ftype < AP_FTYPE_PROTOCOL)
    }

    /// Copies text into the request's pool.
    pub(crate) fn copy(self, text: &[u8]) -> *mut c_char {
        // SAFETY: the pool lives as long as the request; the slice is read for its length.
        unsafe { apr_pstrmemdup(self.pool(), text.as_ptr().cast(), text.len()) }
    }

    /// This module's record of the server that the request is for.
    pub(crate) fn server_configuration(self) -> *const c_void {
        // SAFETY: httpd makes the vector with a place for each loaded module.
        unsafe { wsgi_module.configuration(self.server().module_config) }
    }

    /// This module's record in the request's merged configuration.
    pub(crate) fn configuration(self) -> *const c_void {
        // SAFETY: httpd makes the vector with a place for each loaded module.
        unsafe { wsgi_module.configuration(self.record().per_dir_config) }
    }
}

/// The entries of a table, in their order.
///
/// # Safety
///
/// The table is live and does not change while the iterator is used.
pub(crate) unsafe fn entries<'a>(
    table: *const apr_table_t,
) -> impl Iterator<Item = (&'a [u8], &'a [u8])> {
    // SAFETY: the caller's promise.
    let array = unsafe { &*apr_table_elts(table) };
    let count = usize::try_from(array.nelts).unwrap_or(0);
    let elements: &[apr_table_entry_t] = if count == 0 {
        &[]
    } else {
        // SAFETY: an array of `nelts` entries, by its documentation.
        unsafe { std::slice::from_raw_parts(array.elts.cast(), count) }
    };
    elements.iter().filter(|entry| !entry.key.is_null()).map(|entry| {
        // SAFETY: keys and values of a table are C strings that live as long as its pool.
        let text = |text: *mut c_char| unsafe { CStr::from_ptr(text) }.to_bytes();
        (text(entry.key), if entry.val.is_null() { &[] } else { text(entry.val) })
    })
}

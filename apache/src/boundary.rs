//! The only place where a panic in a function that httpd calls is stopped.

use crate::log;
use httpd_sys::{HTTP_INTERNAL_SERVER_ERROR, apr_pool_t, apr_pstrmemdup};
use manifold::{Code, Level};
use std::ffi::{c_char, c_int, c_void};
use std::panic::{AssertUnwindSafe, catch_unwind};

/// Runs the body of a hook that returns a status. A panic becomes a 500.
pub(crate) fn hook(body: impl FnOnce() -> c_int) -> c_int {
    guard(body).unwrap_or(HTTP_INTERNAL_SERVER_ERROR as c_int)
}

/// Runs the body of a function that decides about access. A panic becomes `refusal`.
pub(crate) fn decision<T>(refusal: T, body: impl FnOnce() -> T) -> T {
    guard(body).unwrap_or(refusal)
}

/// Runs the body of a hook or cleanup that returns nothing of use.
pub(crate) fn quiet(body: impl FnOnce()) {
    let _ = guard(body);
}

/// Runs the body of a hook that answers something; `None` where it has panicked.
pub(crate) fn answer<T>(body: impl FnOnce() -> T) -> Option<T> {
    guard(body)
}

/// Runs the body of a directive. An error message, or a panic, is what `httpd -t` prints.
pub(crate) fn directive(
    pool: *mut apr_pool_t,
    body: impl FnOnce() -> Result<(), String>,
) -> *const c_char {
    let panicked = || Err("internal error (a panic, printed above); please report it".to_owned());
    match guard(body).unwrap_or_else(panicked) {
        Ok(()) => std::ptr::null(),
        // SAFETY: httpd's pool for the configuration is live, and the text is copied.
        Err(message) => unsafe { apr_pstrmemdup(pool, message.as_ptr().cast(), message.len()) },
    }
}

/// Runs the body of a function that makes a configuration record.
pub(crate) fn record(body: impl FnOnce() -> *mut c_void) -> *mut c_void {
    // Without its record a module cannot be configured; httpd would read through a null pointer.
    guard(body).unwrap_or_else(|| std::process::abort())
}

fn guard<R>(body: impl FnOnce() -> R) -> Option<R> {
    let result = catch_unwind(AssertUnwindSafe(body));
    if result.is_err() {
        let text = format!(
            "{}: a panic in a function that httpd called; the panic's own line says where. Please report it.",
            Code::Internal
        );
        log::server(Level::Error, &text);
    }
    result.ok()
}

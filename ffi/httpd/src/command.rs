//! Rows of a module's table of directives.

use crate::{RAW_ARGS, cmd_func, cmd_how, cmd_parms, command_rec};
use std::ffi::{CStr, c_char, c_int, c_void};

/// How httpd calls a directive that reads the rest of its line by itself (`AP_INIT_RAW_ARGS`).
pub type RawArgs =
    unsafe extern "C" fn(*mut cmd_parms, *mut c_void, *const c_char) -> *const c_char;

/// One directive.
#[repr(transparent)]
pub struct Command(command_rec);

impl Command {
    /// A directive named `name`, allowed where `allowed` says (`RSRC_CONF`, `OR_FILEINFO` ...),
    /// whose whole argument text goes to `function`. `usage` is what httpd prints as its syntax.
    pub const fn raw(
        name: &'static CStr,
        allowed: u32,
        function: RawArgs,
        usage: &'static CStr,
    ) -> Self {
        Self(command_rec {
            name: name.as_ptr(),
            func: cmd_func { raw_args: Some(function) },
            cmd_data: std::ptr::null_mut(),
            req_override: allowed as c_int,
            args_how: RAW_ARGS as cmd_how,
            errmsg: usage.as_ptr(),
        })
    }

    /// The row that ends a table.
    pub const fn end() -> Self {
        // SAFETY: httpd recognises the end by a null name; every field may be zero.
        Self(unsafe { std::mem::zeroed() })
    }
}

/// A module's directives. The last row is [`Command::end`].
#[repr(transparent)]
pub struct CommandTable<const N: usize>([Command; N]);

// SAFETY: the rows hold pointers to literals and functions, and nobody writes to them.
unsafe impl<const N: usize> Sync for CommandTable<N> {}

impl<const N: usize> CommandTable<N> {
    /// A table of these rows.
    pub const fn new(rows: [Command; N]) -> Self {
        Self(rows)
    }

    /// The first row, as the module record wants it.
    pub const fn as_ptr(&'static self) -> *const command_rec {
        (&raw const self.0).cast()
    }
}

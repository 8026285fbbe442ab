//! WSGIProcessGroup and WSGIApplicationGroup.

use super::{Record, run};
use crate::config::{self, GroupRule};
use httpd_sys::cmd_parms;
use std::ffi::c_char;

/// `WSGIProcessGroup name`: the processes that answer; `%{GLOBAL}` for httpd's own.
pub(super) unsafe extern "C" fn process_group(
    parameters: *mut cmd_parms,
    record: Record,
    arguments: *const c_char,
) -> *const c_char {
    // SAFETY: httpd calls this row of the table.
    unsafe {
        run(parameters, arguments, |directive| {
            let name = directive.only("name of the process group")?;
            config::directory(record).process_group = Some(GroupRule::parse(&name));
            Ok(())
        })
    }
}

/// `WSGIApplicationGroup name`: the interpreter that answers; `%{GLOBAL}` for the main one.
pub(super) unsafe extern "C" fn application_group(
    parameters: *mut cmd_parms,
    record: Record,
    arguments: *const c_char,
) -> *const c_char {
    // SAFETY: httpd calls this row of the table.
    unsafe {
        run(parameters, arguments, |directive| {
            let name = directive.only("name of the application group")?;
            config::directory(record).application_group = Some(GroupRule::parse(&name));
            Ok(())
        })
    }
}

//! The record by which httpd finds a module.

use crate::{
    MODULE_MAGIC_COOKIE, MODULE_MAGIC_NUMBER_MAJOR, MODULE_MAGIC_NUMBER_MINOR, ap_conf_vector_t,
    module,
};
use std::cell::UnsafeCell;
use std::ffi::{CStr, c_char, c_void};

/// Names of modules' source files, ended by a null: which hooks run before or after ours.
#[repr(transparent)]
pub struct ModuleNames<const N: usize>([*const c_char; N]);

// SAFETY: the pointers are to literals, and nobody writes to them.
unsafe impl<const N: usize> Sync for ModuleNames<N> {}

impl<const N: usize> ModuleNames<N> {
    /// A list of literals; the last is null.
    pub const fn new(names: [*const c_char; N]) -> Self {
        Self(names)
    }

    /// The list, as `ap_hook_...` wants it.
    pub const fn as_ptr(&'static self) -> *const *const c_char {
        (&raw const self.0).cast()
    }
}

/// A module record that can be an exported `static`: httpd writes to it (its index, its place in
/// the list of modules) while it is loaded, and only then.
#[repr(transparent)]
pub struct ModuleRecord(UnsafeCell<module>);

// SAFETY: httpd writes the record while it reads its configuration, on one thread, before it makes
// any child or thread. Afterwards everybody only reads, so sharing it is sound.
unsafe impl Sync for ModuleRecord {}

impl ModuleRecord {
    /// What `STANDARD20_MODULE_STUFF` writes, with everything else empty; `fill` adds the rest.
    pub const fn new(name: &'static CStr, mut fill: module) -> Self {
        fill.version = MODULE_MAGIC_NUMBER_MAJOR as i32;
        fill.minor_version = MODULE_MAGIC_NUMBER_MINOR as i32;
        fill.module_index = -1;
        fill.name = name.as_ptr();
        fill.magic = MODULE_MAGIC_COOKIE as u64;
        Self(UnsafeCell::new(fill))
    }

    /// A record whose every field is empty.
    pub const fn empty() -> module {
        // SAFETY: every field of the C structure is an integer or a nullable pointer.
        unsafe { std::mem::zeroed() }
    }

    /// The record itself, for httpd.
    pub const fn as_ptr(&self) -> *mut module {
        self.0.get()
    }

    /// This module's record in a configuration vector (`ap_get_module_config`).
    ///
    /// # Safety
    ///
    /// The vector is one of httpd's, made after the module was loaded.
    pub unsafe fn configuration(&self, vector: *const ap_conf_vector_t) -> *mut c_void {
        let index = usize::try_from(self.index()).expect("httpd numbers the modules it loads");
        // SAFETY: a vector is an array of pointers, one for each module.
        unsafe { *vector.cast::<*mut c_void>().add(index) }
    }

    /// The module's index into httpd's configuration vectors and its log levels.
    pub fn index(&self) -> i32 {
        // SAFETY: httpd no longer writes the record once it calls anything of ours.
        unsafe { (*self.0.get()).module_index }
    }
}

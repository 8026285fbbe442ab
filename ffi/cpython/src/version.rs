//! What the CPython this was compiled for can do. Each constant says which defect it answers.

/// Major and minor version of the CPython this was compiled for.
pub const VERSION: (u8, u8) = if cfg!(Py_3_15) {
    (3, 15)
} else if cfg!(Py_3_14) {
    (3, 14)
} else if cfg!(Py_3_13) {
    (3, 13)
} else {
    (3, 12)
};

/// [`VERSION`] as `major.minor`.
pub const VERSION_TEXT: &str = match VERSION {
    (3, 15) => "3.15",
    (3, 14) => "3.14",
    (3, 13) => "3.13",
    _ => "3.12",
};

/// Whether interpreters with a GIL of their own can be used. In 3.12 `datetime`, `decimal` and
/// `hashlib` crash in them, and `ctypes` and `zoneinfo` do not import.
pub const OWN_GIL_IS_SAFE: bool = cfg!(Py_3_13);

/// Whether `Py_EndInterpreter` may be called. In 3.13 it can abort the process after extension
/// modules were imported, so an interpreter is left as it is until the process goes.
pub const CAN_END_INTERPRETERS: bool = cfg!(Py_3_14);

/// Modules to import in the main interpreter before the first sub-interpreter is made. 3.13 shares
/// the static types of these extension modules between interpreters and corrupts them ("double
/// free", "invalid pointer") unless the main interpreter was first.
pub const PREIMPORTS: &[&std::ffi::CStr] = if cfg!(Py_3_14) {
    &[]
} else {
    &[c"datetime", c"_datetime", c"_decimal", c"_ctypes", c"pyexpat", c"_elementtree"]
};

/// Whether an interpreter with a GIL of its own refuses an extension module of the standard library.
/// A test tries every file of the library's folder.
pub fn is_refused_with_own_gil(name: &str) -> bool {
    match name {
        "_testcapi" => !cfg!(Py_3_15),
        "_curses" | "_curses_panel" | "_tkinter" | "readline" => true,
        "_testbuffer" | "_testclinic" | "_testclinic_limited" | "_testexternalinspection" => true,
        "_testimportmultiple" | "_testlimitedcapi" | "_testsinglephase" | "_xxtestfuzz" => true,
        "xxlimited_35" => true,
        _ => false,
    }
}

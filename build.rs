//! Lets this package's binaries, tests and benches find the libpython they are linked with, and
//! tells the packages that depend on this one where it is.

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    if let Ok(dir) = std::env::var("DEP_CPYTHON_LIB_DIR") {
        println!("cargo:rustc-link-arg=-Wl,-rpath,{dir}");
        println!("cargo:python_lib_dir={dir}");
    }
}

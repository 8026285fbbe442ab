//! Link settings of the module: where its libpython is, and that it is never unmapped.

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    if let Ok(dir) = std::env::var("DEP_MANIFOLD_PYTHON_LIB_DIR") {
        println!("cargo:rustc-link-arg=-Wl,-rpath,{dir}");
    }
    // httpd unloads and loads its modules at each restart. The code of a thread, or of a
    // thread-local's destructor, must not go away under it, so the library stays mapped.
    println!("cargo:rustc-cdylib-link-arg=-Wl,-z,nodelete");
}

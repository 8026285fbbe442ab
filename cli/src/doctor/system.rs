//! What the system allows: SELinux, AppArmor, and limits.
#![forbid(unsafe_code)]

use super::Patient;
use crate::failure::{During as _, Outcome};
use nix::sys::resource::{Resource, getrlimit};
use std::fs;
use std::path::Path;

/// Descriptors that a process with some interpreters and clients is comfortable with.
const DESCRIPTORS: u64 = 1024;

/// Threads and processes, of the user together.
const TASKS: u64 = 512;

pub(super) fn look(patient: &mut Patient) -> Outcome<()> {
    selinux(patient);
    apparmor(patient);
    limits(patient)
}

fn selinux(patient: &mut Patient) {
    match fs::read_to_string("/sys/fs/selinux/enforce").as_deref().map(str::trim) {
        Ok("1") => patient.warning(
            "selinux",
            "it is enforcing: httpd may read, run and connect to what its policy says only",
            "if something is denied (ausearch -m avc -c httpd): semanage fcontext -a -t httpd_sys_content_t \
             '/srv/app(/.*)?' && restorecon -R /srv/app for files; -t httpd_exec_t for manifold-worker; setsebool -P \
             httpd_can_network_connect on for databases",
        ),
        Ok(_) => patient.ok("selinux", "it is permissive"),
        Err(_) => patient.ok("selinux", "not there"),
    }
}

fn apparmor(patient: &mut Patient) {
    let enabled = fs::read_to_string("/sys/module/apparmor/parameters/enabled").unwrap_or_default();
    if enabled.trim() != "Y" {
        patient.ok("apparmor", "not there");
        return;
    }
    let names = ["usr.sbin.apache2", "usr.sbin.httpd", "usr.bin.httpd"];
    let mut profiles = names.iter().map(|name| Path::new("/etc/apparmor.d").join(name));
    match profiles.find(|profile| profile.is_file()) {
        Some(profile) => patient.warning(
            "apparmor",
            format!("there is a profile for httpd: {}", profile.display()),
            "let it allow reading the application and the Python home (r), mapping extension modules (rm), and \
             running manifold-worker (ix); aa-logprof shows what was denied",
        ),
        None => patient.ok("apparmor", "it is enabled, and has no profile for httpd"),
    }
}

/// Of this process: a service has its own, which its unit says.
fn limits(patient: &mut Patient) -> Outcome<()> {
    let of = |resource| getrlimit(resource).during(|| "limits".to_owned());
    let (descriptors, _) = of(Resource::RLIMIT_NOFILE)?;
    let (tasks, _) = of(Resource::RLIMIT_NPROC)?;
    let show = |limit: u64| {
        if limit >= u64::MAX / 2 { "any number".to_owned() } else { limit.to_string() }
    };
    let found = format!("{} open files, {} processes and threads", show(descriptors), show(tasks));
    if descriptors < DESCRIPTORS {
        patient.warning("limits", found, format!("raise the first to {DESCRIPTORS} or more: ulimit -n, or LimitNOFILE= of httpd's unit"));
    } else if tasks < TASKS {
        patient.warning("limits", found, format!("raise the second to {TASKS} or more: ulimit -u, or LimitNPROC= and TasksMax= of httpd's unit"));
    } else {
        patient.ok("limits", found);
    }
    Ok(())
}

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
    let root = Path::new("/");
    selinux(patient, root);
    apparmor(patient, root);
    limits(patient)
}

fn selinux(patient: &mut Patient, root: &Path) {
    match fs::read_to_string(root.join("sys/fs/selinux/enforce")).as_deref().map(str::trim) {
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

fn apparmor(patient: &mut Patient, root: &Path) {
    let enabled = root.join("sys/module/apparmor/parameters/enabled");
    let enabled = fs::read_to_string(enabled).unwrap_or_default();
    if enabled.trim() != "Y" {
        patient.ok("apparmor", "not there");
        return;
    }
    let names = ["usr.sbin.apache2", "usr.sbin.httpd", "usr.bin.httpd"];
    let mut profiles = names.iter().map(|name| root.join("etc/apparmor.d").join(name));
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

#[cfg(test)]
mod tests {
    use super::super::State;
    use super::*;

    /// What a check says of a system that has these files.
    fn seen(check: fn(&mut Patient, &Path), files: &[(&str, &str)]) -> (State, String) {
        let root = tempfile::tempdir().unwrap();
        for (name, text) in files {
            let path = root.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        let mut patient = Patient::default();
        check(&mut patient, root.path());
        let [finding] = &patient.findings[..] else { panic!("one finding") };
        let cure = finding.cure.as_deref().unwrap_or_default();
        (finding.state, format!("{}\n{cure}", finding.found))
    }

    #[test]
    fn selinux_that_enforces_is_a_warning_with_the_commands_that_label_files() {
        let (state, text) = seen(selinux, &[("sys/fs/selinux/enforce", "1")]);
        assert_eq!(state, State::Warning);
        assert!(text.contains("semanage fcontext") && text.contains("httpd_exec_t"), "{text}");
        assert_eq!(seen(selinux, &[("sys/fs/selinux/enforce", "0")]).0, State::Ok);
        assert_eq!(seen(selinux, &[]).0, State::Ok);
    }

    #[test]
    fn apparmor_with_a_profile_for_httpd_is_a_warning_that_names_it() {
        let enabled = ("sys/module/apparmor/parameters/enabled", "Y\n");
        let profile = ("etc/apparmor.d/usr.sbin.apache2", "");
        let (state, text) = seen(apparmor, &[enabled, profile]);
        assert_eq!(state, State::Warning);
        assert!(text.contains("apparmor.d/usr.sbin.apache2") && text.contains("manifold-worker"));
        assert_eq!(seen(apparmor, &[enabled]).0, State::Ok);
        assert_eq!(seen(apparmor, &[profile]).0, State::Ok);
    }
}

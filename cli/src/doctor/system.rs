//! What the system allows: SELinux, AppArmor, and limits.
#![forbid(unsafe_code)]

use super::Patient;
use crate::failure::{During as _, Outcome};
use crate::installation::Installation;
use crate::options::Doctor;
use nix::sys::resource::{Resource, getrlimit};
use std::fs;
use std::path::Path;

/// Descriptors that a process with some interpreters and clients is comfortable with.
const DESCRIPTORS: u64 = 1024;

/// Threads and processes, of the user together.
const TASKS: u64 = 512;

/// The type that policies let httpd run programs of. Those of its modules it may only load.
const PROGRAM: &str = "bin_t";

pub(super) fn look(patient: &mut Patient, options: &Doctor) -> Outcome<()> {
    let root = Path::new("/");
    // What is missing is said elsewhere.
    let installation =
        patient.httpd.as_ref().and_then(|httpd| Installation::find(&options.at, httpd).ok());
    selinux(patient, root, installation.as_ref().map(|installation| installation.worker.as_path()));
    apparmor(patient, root);
    limits(patient)
}

fn selinux(patient: &mut Patient, root: &Path, worker: Option<&Path>) {
    let enforcing = match fs::read_to_string(root.join("sys/fs/selinux/enforce")) {
        Ok(text) => text.trim() == "1",
        Err(_) => return patient.ok("selinux", "not there"),
    };
    if !enforcing {
        return patient.ok("selinux", "it is permissive");
    }
    let mislabelled = worker.and_then(|worker| {
        let worker = worker.canonicalize().ok()?;
        label(&worker).filter(|label| kind(label) != PROGRAM).map(|label| (worker, label))
    });
    match mislabelled {
        Some((worker, label)) => patient.warning(
            "selinux",
            format!("it is enforcing, and {} has the label {label}: as a service, httpd may not run it", worker.display()),
            format!("semanage fcontext -a -t {PROGRAM} '{0}' && restorecon '{0}'", worker.display()),
        ),
        None => patient.warning(
            "selinux",
            "it is enforcing: httpd may read, run and connect to what its policy says only",
            "if something is denied (ausearch -m avc): semanage fcontext -a -t httpd_sys_content_t '/srv/app(/.*)?' && \
             restorecon -R /srv/app for files, -t lib_t for extension modules; setsebool -P httpd_can_network_connect on \
             for databases",
        ),
    }
}

/// SELinux's label of a file, as in `system_u:object_r:bin_t:s0`.
fn label(path: &Path) -> Option<String> {
    let mut label = [0; 256];
    let length = rustix::fs::getxattr(path, "security.selinux", &mut label).ok()?;
    Some(String::from_utf8_lossy(&label[..length]).trim_end_matches('\0').to_owned())
}

/// The third part of a label.
fn kind(label: &str) -> &str {
    label.split(':').nth(2).unwrap_or_default()
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
    fn seen(check: impl Fn(&mut Patient, &Path), files: &[(&str, &str)]) -> (State, String) {
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
        let selinux = |patient: &mut Patient, root: &Path| selinux(patient, root, None);
        let (state, text) = seen(selinux, &[("sys/fs/selinux/enforce", "1")]);
        assert_eq!(state, State::Warning);
        assert!(
            text.contains("semanage fcontext") && text.contains("httpd_sys_content_t"),
            "{text}"
        );
        assert_eq!(seen(selinux, &[("sys/fs/selinux/enforce", "0")]).0, State::Ok);
        assert_eq!(seen(selinux, &[]).0, State::Ok);
    }

    #[test]
    fn a_worker_program_that_selinux_lets_no_service_run_is_named_with_its_label() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let with_label = |label: &str| {
            use rustix::fs::{XattrFlags, setxattr};
            setxattr(file.path(), "security.selinux", label.as_bytes(), XattrFlags::empty())
        };
        let worker = file.path().canonicalize().unwrap();
        let selinux = |patient: &mut Patient, root: &Path| selinux(patient, root, Some(&worker));
        let enforcing = [("sys/fs/selinux/enforce", "1")];
        if let Err(error) = with_label("system_u:object_r:httpd_modules_t:s0\0") {
            eprintln!(
                "left out: only root can label a file, and not on every file system ({error})"
            );
            return;
        }
        let (state, text) = seen(selinux, &enforcing);
        assert_eq!(state, State::Warning);
        assert!(text.contains(":httpd_modules_t:s0: as a service"), "{text}");
        assert!(text.contains(&format!("-t bin_t '{}'", worker.display())), "{text}");
        with_label("system_u:object_r:bin_t:s0").unwrap();
        let (_, text) = seen(selinux, &enforcing);
        assert!(!text.contains(&worker.display().to_string()), "{text}");
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

//! Whose scripts a process group serves: `script-user=` and `script-group=`. Whoever else could have
//! written a file would have his code run as the user of the process group.
#![forbid(unsafe_code)]

use super::group::{Id, Owner};
use crate::{Code, Refusal};
use std::fmt;
use std::fs::{self, Metadata};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

impl Owner {
    /// Lets the file of a request pass, or says why not: it and its folder have to be the user's, and
    /// nobody else may write to them; or the group's, and none but its members.
    ///
    /// # Errors
    ///
    /// They are not, or cannot be looked at.
    pub fn admit(&self, file: &Path) -> Result<(), Refusal> {
        let user = self.user.as_ref().map(|id| Rule {
            option: "script-user=",
            id,
            number: |found| found.uid(),
            others: 0o022,
        });
        let group = self.group.as_ref().map(|id| Rule {
            option: "script-group=",
            id,
            number: |found| found.gid(),
            others: 0o002,
        });
        let folder = file.parent().unwrap_or(file);
        for rule in user.into_iter().chain(group) {
            rule.check("file", file)?;
            rule.check("folder", folder)?;
        }
        Ok(())
    }
}

/// What one of the options asks for.
struct Rule<'a> {
    option: &'static str,
    id: &'a Id,
    /// Whose something is.
    number: fn(&Metadata) -> u32,
    /// The bits of the mode by which others could write.
    others: u32,
}

impl Rule<'_> {
    fn check(&self, what: &str, path: &Path) -> Result<(), Refusal> {
        let refused = |why: fmt::Arguments<'_>| {
            let path = path.display();
            let detail = format!(
                "the {what} '{path}' {why}; by {}{} the process group serves only what nobody else can \
                 have written",
                self.option, self.id
            );
            Err(Refusal::new(Code::FileOwner, detail))
        };
        let found = match fs::metadata(path) {
            Ok(found) => found,
            Err(error) => return refused(format_args!("cannot be looked at: {error}")),
        };
        let owner = (self.number)(&found);
        if owner != self.id.number {
            return refused(format_args!("belongs to number {owner}"));
        }
        let mode = found.mode() & 0o7777;
        if mode & self.others != 0 {
            return refused(format_args!("may be written by others (its mode is {mode:04o})"));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::Permissions;
    use std::os::unix::fs::{PermissionsExt, symlink};
    use std::path::PathBuf;
    use tempfile::TempDir;

    /// A script in a folder of its own, both with these modes.
    fn script(folder: u32, file: u32) -> (TempDir, PathBuf) {
        let root = TempDir::new().unwrap();
        let path = root.path().join("site/app.wsgi");
        fs::create_dir(root.path().join("site")).unwrap();
        fs::write(&path, "").unwrap();
        fs::set_permissions(&path, Permissions::from_mode(file)).unwrap();
        fs::set_permissions(root.path().join("site"), Permissions::from_mode(folder)).unwrap();
        (root, path)
    }

    fn id(number: u32) -> Option<Id> {
        Some(Id { number, name: Some("alice".to_owned()) })
    }

    /// Only what belongs to the owner of `like`, or to its group.
    fn owner_of(like: &Path) -> [Owner; 2] {
        let found = fs::metadata(like).unwrap();
        let user = Owner { user: id(found.uid()), group: None };
        [user, Owner { user: None, group: id(found.gid()) }]
    }

    #[track_caller]
    fn refused(owner: &Owner, path: &Path, words: &[&str]) {
        let refusal = owner.admit(path).expect_err("it is refused");
        assert_eq!((refusal.code, refusal.code.status()), (Code::FileOwner, 403));
        let said = refusal.to_string();
        for word in words {
            assert!(said.contains(word), "it lacks {word:?}: {said}");
        }
    }

    #[test]
    fn a_file_of_the_right_owner_passes_and_every_other_is_refused() {
        let (_root, path) = script(0o755, 0o644);
        assert_eq!(Owner::default().admit(&path), Ok(()));
        let [user, group] = owner_of(&path);
        assert_eq!([user.admit(&path), group.admit(&path)], [Ok(()), Ok(())]);

        let number = fs::metadata(&path).unwrap().uid();
        let other = Owner { user: id(number + 1), group: None };
        let words = ["app.wsgi'", &format!("belongs to number {number}"), "script-user=alice"];
        refused(&other, &path, &words);
        let other = Owner { user: None, group: id(u32::MAX - 1) };
        refused(&other, &path, &["app.wsgi'", "belongs to number", "script-group=alice"]);
    }

    #[test]
    fn what_others_may_write_to_is_refused() {
        let ok = |owner: &Owner, path: &Path| assert_eq!(owner.admit(path), Ok(()));
        for (folder, file, what) in [(0o755, 0o664, "file"), (0o775, 0o644, "folder")] {
            let (_root, path) = script(folder, file);
            let [user, group] = owner_of(&path);
            refused(&user, &path, &[what, "written by others"]);
            // The members of the group are those who may.
            ok(&group, &path);
        }
        for (folder, file, what, mode) in
            [(0o755, 0o646, "file", "0646"), (0o1777, 0o644, "folder", "1777")]
        {
            let (_root, path) = script(folder, file);
            for owner in owner_of(&path) {
                refused(&owner, &path, &[what, "written by others", mode]);
            }
        }
    }

    #[test]
    fn what_cannot_be_looked_at_is_refused() {
        let (root, path) = script(0o755, 0o644);
        let [user, _] = owner_of(&path);
        for missing in [root.path().join("site/none.wsgi"), root.path().join("none/app.wsgi")] {
            refused(&user, &missing, &["none", "cannot be looked at", "No such file"]);
        }
        refused(&user, Path::new("app.wsgi"), &["cannot be looked at"]);
    }

    #[test]
    fn a_link_is_judged_by_what_it_leads_to() {
        let (root, path) = script(0o755, 0o646);
        let link = root.path().join("site/link.wsgi");
        symlink(&path, &link).unwrap();
        for owner in owner_of(&path) {
            refused(&owner, &link, &["link.wsgi'", "0646"]);
        }
    }
}

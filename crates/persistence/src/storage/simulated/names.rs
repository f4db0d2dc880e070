//! The names on a simulated disk, and the changes to them that no directory fsync has covered.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Component, Path, PathBuf};

pub(super) type NodeId = u64;

/// A path without `.` in it: the key of a name.
pub(super) fn plain(path: &Path) -> PathBuf {
    path.components()
        .filter(|part| *part != Component::CurDir)
        .collect()
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Change {
    /// A name for a file, new or in the place of another.
    Put(PathBuf, NodeId),
    Remove(PathBuf),
    /// Within one directory.
    Rename(PathBuf, PathBuf, NodeId),
    Directory(PathBuf),
}

impl Change {
    fn directory(&self) -> &Path {
        let (Change::Put(path, _)
        | Change::Remove(path)
        | Change::Rename(_, path, _)
        | Change::Directory(path)) = self;
        path.parent().unwrap_or(Path::new(""))
    }
}

/// The names at one moment.
#[derive(Clone, Default)]
pub(super) struct Image {
    pub(super) files: BTreeMap<PathBuf, NodeId>,
    pub(super) directories: BTreeSet<PathBuf>,
}

impl Image {
    fn apply(&mut self, change: &Change) {
        match change {
            Change::Put(path, node) => {
                self.files.insert(path.clone(), *node);
            }
            Change::Remove(path) => {
                self.files.remove(path);
            }
            Change::Rename(from, to, node) => {
                self.files.remove(from);
                self.files.insert(to.clone(), *node);
            }
            Change::Directory(path) => {
                self.directories.insert(path.clone());
            }
        }
    }

    pub(super) fn has_directory(&self, path: &Path) -> bool {
        path.as_os_str().is_empty()
            || path == Path::new("/")
            || self.directories.contains(path)
            || self.files.keys().any(|name| name.parent() == Some(path))
    }
}

#[derive(Clone, Default)]
pub(super) struct Names {
    pub(super) live: Image,
    durable: Image,
    pending: Vec<Change>,
}

impl Names {
    pub(super) fn settled(live: Image) -> Names {
        Names {
            durable: live.clone(),
            live,
            pending: Vec::new(),
        }
    }

    pub(super) fn change(&mut self, change: Change) {
        self.live.apply(&change);
        self.pending.push(change);
    }

    /// Makes all changes within a directory durable.
    pub(super) fn sync(&mut self, directory: &Path) {
        let durable = &mut self.durable;
        self.pending.retain(|change| {
            let covered = change.directory() == directory;
            if covered {
                durable.apply(change);
            }
            !covered
        });
    }

    /// What a crash of the operating system leaves: in each directory mostly the changes up to some point, as a journal
    /// does, but perhaps any of them. Without its directory, a file is gone.
    pub(super) fn after_crash(&self, random: &mut dyn FnMut() -> u64) -> Image {
        let mut image = self.durable.clone();
        let directories: BTreeSet<&Path> = self.pending.iter().map(Change::directory).collect();
        for directory in directories {
            let changes: Vec<&Change> = self
                .pending
                .iter()
                .filter(|change| change.directory() == directory)
                .collect();
            let any = random().is_multiple_of(8);
            let upto = (random() % (changes.len() as u64 + 1)) as usize;
            for (index, change) in changes.iter().enumerate() {
                if if any {
                    random().is_multiple_of(2)
                } else {
                    index < upto
                } {
                    image.apply(change);
                }
            }
        }
        let lost: Vec<PathBuf> = self
            .live
            .directories
            .difference(&image.directories)
            .cloned()
            .collect();
        image
            .files
            .retain(|path, _| !lost.iter().any(|lost| path.starts_with(lost)));
        image
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rename_is_durable_with_its_directory() {
        let mut names = Names::default();
        let path = |name: &str| plain(Path::new(name));
        names.change(Change::Directory(path("d")));
        names.sync(Path::new(""));
        names.change(Change::Put(path("./d/temp"), 1));
        names.change(Change::Rename(path("d/temp"), path("d/file"), 1));
        let none = names.after_crash(&mut || 3);
        assert!(none.files.is_empty());
        names.sync(Path::new("d"));
        let all = names.after_crash(&mut || 3);
        assert_eq!(all.files, BTreeMap::from([(path("d/file"), 1)]));
    }

    #[test]
    fn a_directory_that_is_lost_takes_its_files_along() {
        let mut names = Names::default();
        names.change(Change::Directory("d".into()));
        names.change(Change::Put("d/file".into(), 1));
        names.sync(Path::new("d"));
        assert!(names.after_crash(&mut || 2).files.is_empty());
        names.sync(Path::new(""));
        assert_eq!(names.after_crash(&mut || 2).files.len(), 1);
    }
}

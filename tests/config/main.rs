//! The config as people meet it: files, variables and flags in, values or mistakes out.

use std::path::PathBuf;

use regent::config::load::load;
use regent::config::{Loaded, Problem, Sources};
use tempfile::TempDir;

mod anything;
mod examples;
mod inbound;
mod inbound_mistakes;
mod layers;
mod lists;
mod mistakes;
mod proxy;
mod secrets;
mod values;

const HOME: [(&str, &str); 1] = [("HOME", "/home/alice")];

/// Files in a folder of their own, and what stands around them.
struct Case {
    folder: TempDir,
    sources: Sources,
}

impl Case {
    fn new() -> Case {
        Case {
            folder: tempfile::tempdir().expect("a folder"),
            sources: Sources {
                files: Vec::new(),
                sets: Vec::new(),
                env: HOME.into_iter().collect(),
                terminal: false,
            },
        }
    }

    fn file(mut self, name: &str, contents: impl AsRef<[u8]>) -> Case {
        let path = self.folder.path().join(name);
        std::fs::write(&path, contents).expect("a file");
        self.sources.files.push(path);
        self
    }

    fn toml(text: impl AsRef<[u8]>) -> Case {
        Case::new().file("a.toml", text)
    }

    fn yaml(text: impl AsRef<[u8]>) -> Case {
        Case::new().file("a.yaml", text)
    }

    fn named(mut self, path: impl Into<PathBuf>) -> Case {
        self.sources.files.push(path.into());
        self
    }

    fn env(mut self, variables: &[(&str, &str)]) -> Case {
        self.sources.env = variables.iter().copied().chain(HOME).collect();
        self
    }

    fn set(mut self, text: &str) -> Case {
        self.sources.sets.push(text.to_owned());
        self
    }

    fn load(&self) -> Loaded {
        load(&self.sources).unwrap_or_else(|problems| panic!("{:#?}", self.told(problems)))
    }

    fn problems(&self) -> Vec<String> {
        match load(&self.sources) {
            Ok(_) => Vec::new(),
            Err(problems) => self.told(problems),
        }
    }

    /// As they are printed, but for the folder.
    fn told(&self, problems: Vec<Problem>) -> Vec<String> {
        let folder = format!("{}/", self.folder.path().display());
        let told = problems.iter().map(Problem::to_string);
        told.map(|text| text.replace(&folder, "")).collect()
    }

    /// The value and the origin that `check` prints for a key.
    fn row(&self, path: &str) -> (String, String) {
        let loaded = self.load();
        let row = loaded.rows.iter().find(|row| row.path == path);
        let row = row.unwrap_or_else(|| panic!("no row {path}"));
        let folder = format!("{}/", self.folder.path().display());
        let value = row.value.clone().unwrap_or_default();
        (value, row.origin.to_string().replace(&folder, ""))
    }
}

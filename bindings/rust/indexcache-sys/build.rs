// SPDX-License-Identifier: Apache-2.0
//! Finds libindexcache, or builds it: see "Where the library comes from" in README.md.

use std::path::{Path, PathBuf};
use std::{env, fs};

/// The series that the declarations belong to: a library of another minor version has another interface.
fn series() -> String {
    let part = |name| env::var(format!("CARGO_PKG_VERSION_{name}")).unwrap();
    format!("{}.{}", part("MAJOR"), part("MINOR"))
}

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-env-changed=INDEXCACHE_DIR");
    if env::var_os("DOCS_RS").is_some() {
        return; // documentation needs no library
    }
    if let Some(dir) = env::var_os("INDEXCACHE_DIR") {
        let dir = PathBuf::from(dir);
        let file = find_pc(&dir).unwrap_or_else(|| {
            panic!("INDEXCACHE_DIR is {}, but nothing below its lib folders is named indexcache.pc", dir.display())
        });
        println!("cargo:rerun-if-changed={}", file.display());
        link(&Installed::read(&file), cfg!(feature = "static"));
    } else if cfg!(feature = "bundled") {
        bundled();
    } else {
        from_pkg_config();
    }
}

/// What an indexcache.pc says.
struct Installed {
    libdir: PathBuf,
    includedir: PathBuf,
    private: Vec<String>,
}

impl Installed {
    fn read(file: &Path) -> Self {
        let text = fs::read_to_string(file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
        let value = |key: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(key));
            line.unwrap_or_else(|| panic!("{} has no line {key}", file.display())).trim().to_string()
        };
        let folder = file.parent().unwrap().to_str().expect("the library's folder is UTF-8");
        let prefix = value("prefix=").replace("${pcfiledir}", folder);
        let path = |key| PathBuf::from(value(key).replace("${prefix}", &prefix));
        let version = value("Version:");
        assert!(
            version.starts_with(&format!("{}.", series())),
            "{} is version {version}; this crate is for {}.x",
            file.display(),
            series()
        );
        let private = value("Libs.private:").split_whitespace().map(|word| word.replace("-l", "")).collect();
        Self { libdir: path("libdir="), includedir: path("includedir="), private }
    }
}

/// prefix/{lib,lib64,lib/x86_64-linux-gnu …}/pkgconfig/indexcache.pc
fn find_pc(prefix: &Path) -> Option<PathBuf> {
    let mut folders = vec![prefix.join("lib"), prefix.join("lib64")];
    let below = fs::read_dir(prefix.join("lib")).into_iter().flatten().flatten().map(|entry| entry.path());
    folders.extend(below);
    folders.into_iter().map(|folder| folder.join("pkgconfig/indexcache.pc")).find(|file| file.is_file())
}

fn link(installed: &Installed, statically: bool) {
    println!("cargo:rustc-link-search=native={}", installed.libdir.display());
    println!("cargo:include={}", installed.includedir.display());
    if statically {
        println!("cargo:rustc-link-lib=static=indexcache");
        for library in &installed.private {
            println!("cargo:rustc-link-lib={library}");
        }
    } else {
        println!("cargo:rustc-link-lib=dylib=indexcache");
    }
}

fn from_pkg_config() {
    let mut config = pkg_config::Config::new();
    let (major, minor) = (env::var("CARGO_PKG_VERSION_MAJOR").unwrap(), env::var("CARGO_PKG_VERSION_MINOR").unwrap());
    let next = format!("{major}.{}", minor.parse::<u32>().unwrap() + 1);
    config.range_version(series().as_str()..next.as_str()).cargo_metadata(false).env_metadata(true);
    if let Err(error) = config.probe("indexcache") {
        panic!(
            "{error}\n\nlibindexcache {}.x was not found. Install it and set INDEXCACHE_DIR to its prefix or PKG_CONFIG_PATH to \
             the folder of indexcache.pc, or let this crate build it: indexcache = {{ version = \"{}\", features = \
             [\"bundled\"] }}",
            series(),
            series()
        );
    }
    let folder = pkg_config::get_variable("indexcache", "pcfiledir").expect("pkg-config knows where indexcache.pc is");
    link(&Installed::read(&PathBuf::from(folder).join("indexcache.pc")), cfg!(feature = "static"));
}

#[cfg(not(feature = "bundled"))]
fn bundled() {
    unreachable!("the feature bundled is off");
}

#[cfg(feature = "bundled")]
fn bundled() {
    let here = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").unwrap());
    let (vendor, repository) = (here.join("vendor"), here.join("../../.."));
    let sources = [&vendor, &repository].into_iter().find(|folder| folder.join("include/indexcache.h").is_file());
    let sources = sources.expect("this package has no vendor folder: it was not made by package.sh");
    for name in ["CMakeLists.txt", "cmake", "include", "kernels", "lib", "pkgconfig"] {
        println!("cargo:rerun-if-changed={}", sources.join(name).display());
    }
    let cuda = if cfg!(feature = "cuda") { "ON" } else { "OFF" };
    let mut build = cmake::Config::new(sources);
    build.define("INDEXCACHE_CUDA", cuda).define("CMAKE_INSTALL_LIBDIR", "lib").profile("Release");
    for part in ["TESTS", "BENCH", "EXAMPLES"] {
        build.define(format!("INDEXCACHE_BUILD_{part}"), "OFF");
    }
    let third_party = sources.join("third_party");
    if third_party.is_dir() {
        build.define("CMAKE_PREFIX_PATH", third_party);
    }
    link(&Installed::read(&build.build().join("lib/pkgconfig/indexcache.pc")), true);
}

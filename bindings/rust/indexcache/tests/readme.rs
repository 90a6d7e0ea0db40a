// SPDX-License-Identifier: Apache-2.0
//! The example that users copy first is the one that is compiled.

#[test]
fn the_readme_has_the_example_as_it_is() {
    let readme = include_str!("../README.md");
    let example = include_str!("../examples/decode.rs");
    let begin = readme.find("```rust\n").expect("README.md has a Rust block") + "```rust\n".len();
    let end = begin + readme[begin..].find("```\n").unwrap();
    assert_eq!(&readme[begin..end], example);
}

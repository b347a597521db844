//! Exactness: whole logits with `==`, however they are computed.
//!
//! ```text
//! models              the graphs that loaders know, as folders, as files and of random weights; a trained one
//! encodings           every one that can hold the model; head and embedding in each of theirs
//! instruction sets    those of this CPU, each with the layouts it has, and in place
//! threads             1 to 8, or as many as the target can start
//! cuts                a token at a time, at once, in odd pieces, beside other sequences
//! modes               keys and values in 16, 32 and 8 bits; inputs in 16 and 8 bits and as they are; heads rounded
//! ```
//!
//! Each is compared with scalar code on one thread, one token at a time, and the digest of that with the one
//! recorded in `digests.txt`, so that another processor is held to the same bits. The modes that round more have a
//! bound on how far they are from the default one. docs/exactness.md says how to run it all.

mod digests;
mod heads;
mod held;
mod matrix;
#[path = "../../../tritwise-model/tests/support/mod.rs"]
mod random;
mod subjects;

use tritwise::tensor::DenseEncoding;

use matrix::{Extent, Modes, startable};
use subjects::Subject;

const DENSE: [DenseEncoding; 6] = [
    DenseEncoding::F16,
    DenseEncoding::Bf16,
    DenseEncoding::Q8_0,
    DenseEncoding::Q6K,
    DenseEncoding::Q4_0,
    DenseEncoding::Q4K,
];

/// The same model with its tables in other encodings.
fn in_every_table_encoding(subject: &Subject) -> Vec<Subject> {
    let held = |encoding: DenseEncoding| {
        Some(subject.variant(&format!("tables-{}", encoding.name()), subject.weights.with_tables(encoding)?))
    };
    DENSE.into_iter().filter_map(held).collect()
}

fn check_all(subjects: impl IntoIterator<Item = Subject>, extent: &Extent) {
    subjects.into_iter().for_each(|subject| matrix::check(&subject, extent));
}

#[test]
fn random_models_have_the_same_bits_in_any_way() {
    check_all(subjects::random(), &Extent::quick(Modes::Defined));
}

#[test]
fn folders_have_the_same_bits_in_any_way() {
    check_all(subjects::folders(), &Extent::quick(Modes::Defined));
}

#[test]
fn a_model_has_the_same_bits_in_any_encoding() {
    let wide = subjects::wide();
    check_all(wide.in_every_encoding(), &Extent::quick(Modes::Default));
    check_all(in_every_table_encoding(&wide), &Extent::quick(Modes::Default));
}

#[test]
fn screened_heads_have_the_bits_that_matter() {
    heads::check(&subjects::large_head(), &startable([1, 3]));
}

#[test]
#[ignore = "minutes unoptimised; .ci/run runs it in release"]
fn whole_matrix_of_random_models() {
    check_all(subjects::random(), &Extent::whole(Modes::All));
}

#[test]
#[ignore = "minutes unoptimised; .ci/run runs it in release"]
fn whole_matrix_of_folders() {
    check_all(subjects::folders(), &Extent::whole(Modes::All));
}

#[test]
#[ignore = "minutes unoptimised; .ci/run runs it in release"]
fn whole_matrix_of_files() {
    check_all(subjects::files(), &Extent::quick(Modes::All));
}

#[test]
#[ignore = "minutes unoptimised; .ci/run runs it in release"]
fn whole_matrix_of_encodings() {
    let wide = subjects::wide();
    check_all([wide.variant("as stored", wide.weights.clone())], &Extent::whole(Modes::All));
    check_all(wide.in_every_encoding(), &Extent::whole(Modes::Default));
    check_all(in_every_table_encoding(&wide), &Extent::whole(Modes::Default));
    for subject in subjects::folders() {
        check_all(subject.in_every_encoding(), &Extent::quick(Modes::Default));
    }
}

#[test]
#[ignore = "minutes unoptimised; .ci/run runs it in release"]
fn whole_matrix_of_the_bundled_model() {
    matrix::check(&subjects::bundled(), &Extent::whole(Modes::Defined));
}

#[test]
#[ignore = "minutes unoptimised; .ci/run runs it in release"]
fn whole_matrix_of_published_widths() {
    matrix::check(&subjects::published_widths(), &Extent::quick(Modes::Defined));
}

#[test]
#[ignore = "minutes unoptimised; .ci/run runs it in release"]
fn whole_matrix_of_screened_heads() {
    let large = subjects::large_head();
    heads::check(&large, &startable(1..=8));
    for encoding in [DenseEncoding::F16, DenseEncoding::Bf16] {
        let weights = large.weights.with_tables(encoding).expect("it holds any numbers");
        heads::check(&large.variant(&format!("tables-{}", encoding.name()), weights), &startable([1, 8]));
    }
    heads::check(&subjects::bundled(), &startable([1, 8]));
}

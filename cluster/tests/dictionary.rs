//! The dictionary that bodies are packed with: how it was trained, and what it saves on actions that it was not trained on.
//!
//! Everything in here is made up: prose is drawn word by word from this project's own documents, so that no text repeats.
//! Training and measuring draw from different documents. With `NETHICAL_DICTIONARY` set to a path, a dictionary for a coming
//! release is trained and written there; a release never changes the one that its bodies are packed with.
#![allow(clippy::disallowed_methods, reason = "tests are the outermost layer")]

use nethical_audit::body::pack::DICTIONARY_1;
use nethical_audit::body::{self, OVERHEAD_BYTES, SealedFor};
use nethical_audit::keys::BodyKeys;
use rand::SeedableRng;
use rand::rngs::StdRng;

mod made_up;

use made_up::Prose;

/// Bytes of a dictionary: zstd's own default.
const DICTIONARY_BYTES: usize = 112 * 1024;

fn bodies(prose: &Prose, seed: u64, count: usize) -> Vec<Vec<u8>> {
    let mut dice = StdRng::seed_from_u64(seed);
    (0..count).map(|_| prose.body(&mut dice)).collect()
}

#[test]
fn a_dictionary_is_trained_where_one_is_asked_for() {
    let Some(path) = std::env::var_os("NETHICAL_DICTIONARY") else {
        return eprintln!("skipped: NETHICAL_DICTIONARY names no file for a new dictionary");
    };
    let prose = Prose::of(&["README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "docs/errors.md", "docs/policy.md"]);
    let dictionary = zstd::dict::from_samples(&bodies(&prose, 1, 8_000), DICTIONARY_BYTES).expect("it trains");
    assert_eq!(dictionary.len(), DICTIONARY_BYTES);
    std::fs::write(path, &dictionary).expect("written");
}

#[test]
fn bodies_of_actions_that_it_was_not_trained_on_take_less_than_half() {
    assert_eq!(DICTIONARY_1.len(), DICTIONARY_BYTES);
    let prose = Prose::of(&["docs/behaviour.md", "docs/detect.md", "docs/correlation.md", "sim/README.md"]);
    let (keys, bodies) = (BodyKeys::new(&[7; 32], None), bodies(&prose, 2, 2_000));
    let (mut raw, mut stored) = (0, 0);
    for (number, body) in bodies.iter().enumerate() {
        let (sealed, _) =
            body::seal(&keys, SealedFor { generation: 0, person: None }, &body::command_id(1, 2, number as u64), body);
        assert!(sealed.len() <= body.len() + OVERHEAD_BYTES);
        assert_eq!(body::open(&keys, &sealed).map(|(opened, _)| opened).as_ref(), Ok(body));
        (raw, stored) = (raw + body.len(), stored + sealed.len());
    }
    let mean = raw / bodies.len();
    println!("{} bodies of {mean} B: {:.2}:1 with keys and tags", bodies.len(), raw as f64 / stored as f64);
    assert!((1_000..2_000).contains(&mean), "{mean}");
    assert!(raw * 10 > stored * 20, "{raw} of {stored}");
}

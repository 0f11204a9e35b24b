//! What a dictionary of a tenant's own saves, against the built-in one, on bodies that it was not trained on.

use std::time::Instant;

use nethical_audit::body::{self, Dictionary, SealedFor, dictionary};
use nethical_audit::keys::BodyKeys;
use nethical_protocol::limits::DICTIONARY_BYTES_MAX;
use rand::SeedableRng;
use rand::rngs::StdRng;

use crate::made_up::Prose;

const TRAINED_ON: usize = 5_000;
const MEASURED_ON: usize = 10_000;

/// Trains one, tells what it saves, and gives it.
pub fn measure(prose: &Prose) -> Dictionary {
    let mut dice = StdRng::seed_from_u64(99);
    let mut bodies = |count: usize| (0..count).map(|_| prose.body(&mut dice)).collect::<Vec<_>>();
    let (seen, unseen) = (bodies(TRAINED_ON), bodies(MEASURED_ON));
    let own = dictionary::train(&seen, DICTIONARY_BYTES_MAX).expect("it trains");
    let own = Dictionary::read(&own).expect("it was trained");
    println!("bodies sealed, with keys and tags:");
    tell("built-in dictionary", &unseen, None);
    tell("a tenant's own, 256 KiB, trained on 5,000 others", &unseen, Some(&own));
    own
}

fn tell(name: &str, bodies: &[Vec<u8>], own: Option<&Dictionary>) {
    let (keys, sealed_for) = (BodyKeys::new(&[9; 32], None), SealedFor { generation: 0, person: None });
    let (mut stored, begun) = (0, Instant::now());
    for (number, body) in bodies.iter().enumerate() {
        stored += body::seal(&keys, sealed_for, &body::command_id(1, 1, number as u64), body, own).0.len();
    }
    let (raw, each) = (bodies.iter().map(Vec::len).sum::<usize>(), begun.elapsed() / bodies.len() as u32);
    println!("  {name}: {:.2}:1, {:.1} us a body", raw as f64 / stored as f64, each.as_secs_f64() * 1e6);
}

//! What the words of a log's first segment take as a text index, and what making, opening, asking and thinning it costs.

use std::path::Path;

use nethical_audit::body::Dictionaries;
use nethical_audit::leaf::LeafV1;
use nethical_cluster::body::BodyV1;
use nethical_cluster::cold::{Body, Record};
use nethical_cluster::text::index::{Doc, TextIndex};
use nethical_cluster::text::words::{TextQuery, words_in};
use nethical_protocol::ids::LogId;

use crate::cold;
use crate::prove::on_core_ns;

/// The segment's bodies, each with its agent as the one whose key it needs.
fn docs(records: &[Record]) -> Vec<Doc> {
    let doc = |(place, record): (usize, &Record)| {
        let Body::Clear { plaintext, .. } = &record.body else { return None };
        let leaf = LeafV1::decode(&record.leaf).ok()?;
        let (_, tenant, agent) = leaf.event.agent()?;
        let words = words_in(&BodyV1::from_bytes(plaintext).ok()?);
        Some(Doc { place: place as u32, tenant, subjects: vec![agent.0.to_vec()], words })
    };
    records.iter().enumerate().filter_map(doc).collect()
}

/// Makes the index and tells what that took and gave. Time on a core, so that other people's load does not count.
pub fn measure(folder: &Path, log: LogId, known: &Dictionaries) {
    let records = cold::records(folder, log, known);
    let begun = on_core_ns();
    let docs = docs(&records);
    let read = on_core_ns();
    if docs.is_empty() {
        println!("as a text index: no body has words");
        return;
    }
    let (count, words) = (docs.len(), docs.iter().map(|doc| doc.words.len()).sum::<usize>());
    let agent = docs[0].subjects[0].clone();
    let asked: Vec<String> =
        docs.iter().step_by(count.div_ceil(500)).filter_map(|doc| doc.words.last().cloned()).collect();
    let making = on_core_ns();
    let bytes = TextIndex::build(docs).and_then(|index| index.encode()).expect("it is made");
    let made = on_core_ns();
    let index = TextIndex::decode(&bytes).expect("it reads");
    let opened = on_core_ns();
    let mut found = 0;
    for word in &asked {
        let query = TextQuery::parse(word).expect("a word");
        found += index.find(&query).expect("it reads").map_or(0, |places| places.len());
    }
    let answered = on_core_ns();
    let own = index.docs_with([&agent]).expect("it reads");
    let left = index.without(&own).expect("it reads");
    let thinned = on_core_ns();
    assert_eq!(left.len() as u64 + own.len(), count as u64, "what is not taken out stays");
    let each = |ns: u64| count as f64 * 1e9 / ns.max(1) as f64;
    let ms = |ns: u64| ns as f64 / 1e6;
    println!(
        "as a text index: {:.1} B a body of {:.0} different words",
        bytes.len() as f64 / count as f64,
        words as f64 / count as f64
    );
    println!("       reading words {:.0} bodies/s, making {:.0} bodies/s", each(read - begun), each(made - making));
    println!(
        "       opening {:.1} ms, a word {:.3} ms ({:.0} bodies found each), an agent taken out {:.0} ms",
        ms(opened - made),
        ms(answered - opened) / asked.len() as f64,
        found as f64 / asked.len() as f64,
        ms(thinned - answered)
    );
}

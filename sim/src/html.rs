//! The timeline of a run: one HTML page that opens from disk and asks nothing of a network.
//!
//! `timeline.html` and `timeline.js` draw; this file chooses which events go into the page and keeps it small. It must
//! not judge the run, and must write no string of it into markup: everything goes into one JSON element with every `<`
//! escaped, and the script puts it on the screen as text.

use std::collections::BTreeMap;

use serde_json::{Value, json};

/// The page but for its script and its data, and what draws on it.
const PAGE: &str = include_str!("timeline.html");
const SCRIPT: &str = include_str!("timeline.js");
/// Where the data goes, and where the script.
const PLACES: [&str; 2] = ["@@RUN@@", "@@SCRIPT@@"];
/// A page is no longer than this, bytes.
const PAGE_MAX: usize = 5_000_000;
/// Messages are kept within this time of a violation, seconds.
const NEAR: f64 = 0.5;
/// Messages kept, those nearest to a violation first.
const MESSAGES_MAX: usize = 2_000;
/// Violations listed by their sentence, and characters of each.
const LISTED_MAX: (usize, usize) = (500, 4_000);

/// Events by rank: where a page would grow too long, the last rank goes first.
const RANKS: [&str; 6] =
    ["faults, crashes and violations", "changes of leader", "messages", "operations", "other events", "ticks"];
const MESSAGE: usize = 2;
const OPERATION: usize = 3;

/// A run to show.
pub struct Page<'a> {
    /// Its name.
    pub title: &'a str,
    /// The command line that replays it.
    pub replay: &'a str,
    /// The commit of the code that ran.
    pub commit: &'a str,
    /// What came of it: label and value.
    pub summary: &'a [(String, String)],
    /// What happened, in order of time.
    pub events: &'a [Value],
    /// What was wrong. None: the run was good.
    pub violations: &'a [String],
}

/// Events that are kept or dropped together: all of one request, or a single one. Each with its place in the run.
struct Unit {
    rank: usize,
    far: f64,
    events: Vec<(usize, String)>,
}

/// The page of a run.
pub fn page(run: &Page<'_>) -> String {
    let (head, tail) = PAGE.split_once(PLACES[0]).unwrap_or((PAGE, ""));
    let (middle, tail) = tail.split_once(PLACES[1]).unwrap_or((tail, ""));
    let listed = run.violations.iter().take(LISTED_MAX.0);
    let listed: Vec<String> = listed.map(|what| what.chars().take(LISTED_MAX.1).collect()).collect();
    let mut fields = json!({
        "title": run.title, "replay": run.replay, "commit": run.commit, "summary": run.summary,
        "violations": listed, "bad": run.violations.len(),
    });
    let rest = PAGE.len() + SCRIPT.len() + escaped(&fields).len() + 2_000;
    let (units, distant) = units(run.events);
    let (events, notes) = fitting(units, distant, PAGE_MAX.saturating_sub(rest));
    fields["notes"] = json!(notes);
    let fields = escaped(&fields);
    let fields = fields.strip_suffix('}').unwrap_or(&fields);
    format!("{head}{fields},\"events\":[{}]}}{middle}{SCRIPT}{tail}", events.join(",\n"))
}

/// JSON that cannot end the element it stands in: `<` occurs in strings only, where this is another way to write it.
fn escaped(value: &Value) -> String {
    value.to_string().replace('<', "\\u003c")
}

fn rank(event: &Value) -> usize {
    match event["kind"].as_str().unwrap_or("") {
        "fleet" | "start" | "started" | "crash" | "fault" | "violation" | "hold" | "policy" | "limit" | "release" => 0,
        "leader" => 1,
        "message" => MESSAGE,
        "call" | "decided" | "problem" => OPERATION,
        "sometimes" => 5,
        _ => 4,
    }
}

/// The events that may go into the page, and how many messages may not.
fn units(events: &[Value]) -> (Vec<Unit>, usize) {
    let at = |event: &Value| event["at"].as_f64().unwrap_or(0.0);
    let mut wrong: Vec<f64> = events.iter().filter(|event| event["kind"] == "violation").map(at).collect();
    wrong.sort_by(f64::total_cmp);
    let nearest = |at: f64| {
        let next = wrong.partition_point(|&other| other < at);
        let around = [next.checked_sub(1), Some(next)].into_iter().flatten();
        around.filter_map(|i| wrong.get(i)).map(|other| (at - other).abs()).reduce(f64::min)
    };
    let (mut units, mut distant) = (Vec::<Unit>::new(), 0);
    let mut requests: BTreeMap<&str, usize> = BTreeMap::new();
    for (index, event) in events.iter().enumerate() {
        let (rank, near) = (rank(event), nearest(at(event)));
        if rank == MESSAGE && near.is_none_or(|near| near > NEAR) {
            distant += 1;
            continue;
        }
        // In a run without violations, its begin is what matters most.
        let far = near.unwrap_or_else(|| at(event));
        let request = event["request"].as_str().filter(|_| rank == OPERATION);
        let unit = request.map_or(units.len(), |request| *requests.entry(request).or_insert(units.len()));
        match units.get_mut(unit) {
            Some(unit) => {
                unit.far = unit.far.min(far);
                unit.events.push((index, escaped(event)));
            }
            None => units.push(Unit { rank, far, events: vec![(index, escaped(event))] }),
        }
    }
    (units, distant)
}

/// The JSON of the events that fit into `room` bytes, and what the page says about those that are missing.
fn fitting(mut units: Vec<Unit>, mut distant: usize, room: usize) -> (Vec<String>, Vec<String>) {
    units.sort_by(|a, b| a.rank.cmp(&b.rank).then(a.far.total_cmp(&b.far)));
    let (mut used, mut messages, mut full) = (0, 0, false);
    let mut dropped = [0; RANKS.len()];
    let mut kept: Vec<(usize, String)> = Vec::new();
    for unit in units {
        if unit.rank == MESSAGE && messages == MESSAGES_MAX {
            distant += 1;
            continue;
        }
        let bytes: usize = unit.events.iter().map(|(_, text)| text.len() + 2).sum();
        full |= used + bytes > room;
        if full {
            dropped[unit.rank] += unit.events.len();
        } else {
            used += bytes;
            messages += usize::from(unit.rank == MESSAGE);
            kept.extend(unit.events);
        }
    }
    kept.sort_by_key(|(index, _)| *index);
    let mut notes = Vec::new();
    if distant > 0 {
        let most = format!("at most {MESSAGES_MAX}");
        notes.push(format!(
            "{distant} messages are left out: the page keeps those within {NEAR} s of a violation, {most}."
        ));
    }
    for (name, count) in RANKS.iter().zip(dropped).filter(|(_, count)| *count > 0) {
        let mb = PAGE_MAX / 1_000_000;
        notes.push(format!(
            "{count} events ({name}) were dropped to keep the page under {mb} MB; the drawing lacks them."
        ));
    }
    (kept.into_iter().map(|(_, text)| text).collect(), notes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(events: &[Value], violations: &[String]) -> (String, Value) {
        let (title, replay, commit, summary) =
            ("</title>", "sim --seed 7", "c0ffee", &[("Seed".into(), "7 <b>".into())]);
        let page = page(&Page { title, replay, commit, summary, events, violations });
        let data = page.split_once(r#"id="run">"#).unwrap().1.split_once("</script>").unwrap().0;
        let data = serde_json::from_str(data).unwrap();
        (page, data)
    }

    #[test]
    fn a_script_tag_in_a_string_stays_a_string() {
        let evil = "</script><script>alert(1)</script><!-- @@SCRIPT@@ @@RUN@@";
        let event = json!({"at": 1.0, "node": null, "kind": "violation", "check": evil, "what": evil});
        let (page, data) = shown(std::slice::from_ref(&event), &[evil.to_owned()]);
        assert_eq!((page.matches("<script>alert").count(), page.matches("</script").count()), (0, 2));
        assert_eq!((&data["events"], &data["violations"]), (&json!([event]), &json!([evil])));
        assert_eq!((&data["title"], &data["summary"]), (&json!("</title>"), &json!([["Seed", "7 <b>"]])));
    }

    #[test]
    fn messages_far_from_violations_are_dropped() {
        let message = |at: f64| json!({"at": at, "node": 2, "kind": "message", "from": 1, "to": 2, "message": "lost"});
        let mut events: Vec<Value> = (0..100).map(|i| message(f64::from(i) / 10.0)).collect();
        let kept = |events: &[Value]| shown(events, &[]).1["events"].as_array().unwrap().len();
        assert_eq!(kept(&events), 0);
        events.push(json!({"at": 5.02, "node": null, "kind": "violation", "check": "c", "what": "w"}));
        assert_eq!(kept(&events), 1 + 10);
        assert!(shown(&events, &[]).1["notes"][0].as_str().unwrap().starts_with("90 messages"));
        events.extend((0..3_000).map(|_| message(5.1)));
        assert_eq!(kept(&events), 1 + MESSAGES_MAX);
    }

    #[test]
    fn no_events_still_give_a_page() {
        let (page, data) = shown(&[], &[]);
        assert!(page.starts_with("<!doctype html>") && page.trim_end().ends_with("</html>") && page.contains(SCRIPT));
        assert_eq!((&data["events"], &data["notes"]), (&json!([]), &json!([])));
    }

    #[test]
    fn a_long_run_loses_its_ticks_first_and_no_half_of_an_operation() {
        let mut events = vec![json!({"at": 0.0, "node": null, "kind": "fleet", "regions": {}, "length": 60.0})];
        for i in 0..30_000 {
            let (at, request) = (f64::from(i) / 500.0, format!("{i}-{}", "x".repeat(70)));
            events.push(json!({"at": at, "node": 1, "kind": "call", "request": request, "client": 0, "attempt": 1}));
            events.push(json!({"at": at, "node": 1, "kind": "sometimes", "what": "snapshot installed"}));
            events.push(json!({"at": at, "node": 1, "kind": "decided", "request": request, "verdict": "allow"}));
        }
        let (page, data) = shown(&events, &[]);
        assert!((PAGE_MAX / 10 * 9..=PAGE_MAX).contains(&page.len()));
        let count = |kind: &str| data["events"].as_array().unwrap().iter().filter(|e| e["kind"] == kind).count();
        assert_eq!((count("fleet"), count("sometimes"), count("call")), (1, 0, count("decided")));
        assert!(data["notes"].to_string().contains("30000 events (ticks) were dropped"));
    }
}

//! `nethical audit tiers`: where the audit trail's segments are, what they take, and what was dropped from them.

use clap::Args;

use nethical_cluster::api::{TierList, TierView};

use crate::cli::EndpointArgs;
use crate::output::{self, Exit, Format, stop};

/// Below the command's own help.
pub const EXAMPLES: &str = "A closed segment whose newest entry is older than audit.warm_after_s is moved to the warm tier: its \
    leaves are packed together, its bodies stay as they are sealed, and bodies that are erased or have expired are left out. Where \
    there is an object store (audit.cold_url), bodies of those older than audit.cold_after_s go there, and are cold. RATIO is of \
    entries and their bodies as they were to files and objects; PACKED that of leaves alone.\n\
    Exits 10 where a move failed or a node does not answer.\n\n\
    Examples:\n  nethical audit tiers\n  nethical audit tiers -o json --endpoint http://127.0.0.1:8002";

/// See `nethical audit tiers --help`.
#[derive(Debug, Args)]
pub struct TiersArgs {
    #[command(flatten)]
    pub endpoint: EndpointArgs,
}

/// Carries the command out.
pub async fn run(args: TiersArgs, format: Format) -> anyhow::Result<()> {
    let found: TierList = args.endpoint.connect()?.get(&["v1", "audit", "tiers"], &[]).await?;
    match format {
        Format::Json => output::print_json(&found)?,
        Format::Table => print(&found)?,
    }
    if !found.awaiting.is_empty() {
        return Err(stop(Exit::Unhealthy, format!("nodes {:?} did not answer", found.awaiting)));
    }
    if !found.failed.is_empty() {
        let message = format!("{} moves failed; they are tried again by themselves", found.failed.len());
        return Err(stop(Exit::Unhealthy, message));
    }
    Ok(())
}

fn print(found: &TierList) -> anyhow::Result<()> {
    let mut table = output::table(&[
        "NODE", "TIER", "SEGMENTS", "ENTRIES", "ON DISK", "OBJECTS", "RATIO", "PACKED", "DROPPED", "FREED",
    ]);
    for tier in &found.tiers {
        table.add_row(row_of(tier));
    }
    output::print_table(&table, "no nodes")?;
    if found.under_way > 0 {
        output::print_line(&format!("{} segments are being moved", found.under_way))?;
    }
    let promoted: u64 = found.tiers.iter().map(|tier| tier.promoted_bytes).sum();
    if promoted > 0 {
        let words = format!("{} of objects are on nodes' disks, too, because they were read again", bytes(promoted));
        output::print_line(&words)?;
    }
    let mut table = output::table(&["NODE", "GROUP", "FROM ENTRY", "WHY THE MOVE FAILED"]);
    for failed in &found.failed {
        let numbers = [failed.node, u64::from(failed.group), failed.first];
        table.add_row(numbers.iter().map(u64::to_string).chain([failed.why.clone()]));
    }
    if found.failed.is_empty() { Ok(()) } else { output::print_table(&table, "") }
}

fn row_of(tier: &TierView) -> [String; 10] {
    let dropped = tier.erased + tier.expired;
    [
        tier.node.to_string(),
        tier.tier.clone(),
        tier.segments.to_string(),
        tier.leaves.to_string(),
        bytes(tier.file_bytes),
        if tier.object_bytes == 0 { "-".to_owned() } else { bytes(tier.object_bytes) },
        ratio(tier.raw_bytes, tier.file_bytes + tier.object_bytes),
        ratio(tier.leaf_bytes, tier.packed_bytes),
        dropped.to_string(),
        bytes(tier.freed_bytes),
    ]
}

fn ratio(of: u64, to: u64) -> String {
    if of == 0 || to == 0 { "-".to_owned() } else { format!("{:.2}", of as f64 / to as f64) }
}

/// Bytes for people.
pub(super) fn bytes(count: u64) -> String {
    match count {
        0..10_000 => format!("{count} B"),
        10_000..10_000_000 => format!("{:.1} kB", count as f64 / 1e3),
        10_000_000..10_000_000_000 => format!("{:.1} MB", count as f64 / 1e6),
        _ => format!("{:.1} GB", count as f64 / 1e9),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_tells_sizes_for_people_and_no_ratio_of_nothing() {
        let hot = TierView { node: 1, tier: "hot".to_owned(), ..TierView::default() };
        assert_eq!(row_of(&hot), ["1", "hot", "0", "0", "0 B", "-", "-", "-", "0", "0 B"].map(str::to_owned));
        let sums = TierView {
            tier: "warm".to_owned(),
            segments: 2,
            leaves: 131_072,
            file_bytes: 61_200_000,
            raw_bytes: 91_800_000,
            leaf_bytes: 42_000_000,
            packed_bytes: 14_000_000,
            erased: 7,
            expired: 1,
            freed_bytes: 12_345,
            ..hot
        };
        let wanted = ["1", "warm", "2", "131072", "61.2 MB", "-", "1.50", "3.00", "8", "12.3 kB"];
        assert_eq!(row_of(&sums), wanted.map(str::to_owned));
        let cold = TierView { tier: "cold".to_owned(), file_bytes: 11_200_000, object_bytes: 19_400_000, ..sums };
        let wanted = ["1", "cold", "2", "131072", "11.2 MB", "19.4 MB", "3.00", "3.00", "8", "12.3 kB"];
        assert_eq!(row_of(&cold), wanted.map(str::to_owned));
    }
}

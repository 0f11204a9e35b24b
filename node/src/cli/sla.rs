//! `nethical sla`: how the promises to tenants stand, by what the doors of all nodes have answered.

use clap::Args;

use nethical_protocol::sla::{SlaList, SlaStatus, SlaTargets, SlaView};

use super::EndpointArgs;
use crate::output::{self, Exit, Format, stop};

/// See `nethical sla --help`.
#[derive(Debug, Args)]
#[command(
    after_help = "Counted by each node since its process started, in windows of 5 minutes, 1 hour and 30 days. A promise is \
    availability over 30 days and latency over the last hour; `nethical tenant put --sla` sets it.\n\
    Exits 10 where a promise is broken.\n\n\
    Examples:\n  nethical sla\n  nethical sla airline\n  nethical sla airline --here -o json"
)]
pub struct SlaArgs {
    /// One tenant, with its windows; all that were answered where left out.
    pub tenant: Option<String>,
    /// Only what the doors of the asked node answered.
    #[arg(long)]
    pub here: bool,
    #[command(flatten)]
    pub endpoint: EndpointArgs,
}

/// Carries the command out.
pub async fn run(args: SlaArgs, format: Format) -> anyhow::Result<()> {
    let list = all(&args).await?;
    match (format, &args.tenant) {
        (Format::Json, _) => output::print_json(&list)?,
        (Format::Table, None) => print(&list)?,
        (Format::Table, Some(_)) => {
            print(&list)?;
            list.tenants.iter().try_for_each(print_windows)?;
        }
    }
    if !list.awaiting.is_empty() {
        output::remark(&format!("nodes {:?} did not answer: what their doors answered is missing here", list.awaiting));
    }
    let broken: Vec<&str> = list.tenants.iter().filter(|view| view.status == SlaStatus::Breached).map(name).collect();
    match broken.is_empty() {
        true => Ok(()),
        false => Err(stop(Exit::Unhealthy, format!("broken for {}", broken.join(", ")))),
    }
}

fn name(view: &SlaView) -> &str {
    &view.tenant
}

/// All pages in one.
async fn all(args: &SlaArgs) -> anyhow::Result<SlaList> {
    let admin = args.endpoint.connect()?;
    let scope = if args.here { "node" } else { "all" };
    let mut list = SlaList::default();
    let mut cursor: Option<String> = None;
    loop {
        let mut query = vec![("scope", scope.to_owned())];
        query.extend(args.tenant.clone().map(|tenant| ("tenant", tenant)));
        query.extend(cursor.take().map(|cursor| ("cursor", cursor)));
        let page: SlaList = admin.get(&["v1", "sla"], &query).await?;
        list.tenants.extend(page.tenants);
        list.nodes = page.nodes;
        list.awaiting.extend(page.awaiting);
        match page.cursor {
            Some(next) => cursor = Some(next),
            None => break,
        }
    }
    list.awaiting.sort_unstable();
    list.awaiting.dedup();
    Ok(list)
}

fn print(list: &SlaList) -> anyhow::Result<()> {
    let mut table = output::table(&[
        "TENANT",
        "STATUS",
        "AVAILABLE",
        "PROMISED",
        "BUDGET USED",
        "BURN 1H",
        "BURN 5M",
        "P95",
        "P99",
    ]);
    for view in &list.tenants {
        let (hour, month) = (view.windows.get(1), view.windows.get(2));
        table.add_row([
            view.tenant.clone(),
            view.status.as_str().to_owned(),
            month.and_then(|window| window.availability_ppm).map_or("-".to_owned(), percent),
            percent(view.targets.availability_ppm),
            format!("{}.{} %", view.budget.used_permille / 10, view.budget.used_permille % 10),
            times(view.budget.burn_1h_permille),
            times(view.budget.burn_5m_permille),
            of(hour.and_then(|window| window.p95_us), view.targets.p95_ms),
            of(hour.and_then(|window| window.p99_us), view.targets.p99_ms),
        ]);
    }
    output::print_table(&table, "no tenant was answered yet")
}

fn print_windows(view: &SlaView) -> anyhow::Result<()> {
    output::print_line("")?;
    let mut table = output::table(&["WINDOW", "COUNTED", "ANSWERED", "FAILED", "AVAILABLE", "P50", "P95", "P99"]);
    for window in &view.windows {
        table.add_row([
            seconds(window.window_s),
            seconds(window.counted_s),
            window.answered.to_string(),
            window.failed.to_string(),
            window.availability_ppm.map_or("-".to_owned(), percent),
            millis(window.p50_us),
            millis(window.p95_us),
            millis(window.p99_us),
        ]);
    }
    output::print_table(&table, "")
}

/// 999_500 parts per million → `99.9500 %`.
fn percent(ppm: u32) -> String {
    format!("{}.{:04} %", ppm / 10_000, ppm % 10_000)
}

/// 14_400 thousandths → `14.4x`.
fn times(permille: u64) -> String {
    format!("{}.{}x", permille / 1_000, permille % 1_000 / 100)
}

fn of(us: Option<u64>, target_ms: u32) -> String {
    format!("{} of {target_ms} ms", millis(us))
}

/// Microseconds as milliseconds with one digit, rounded up.
fn millis(us: Option<u64>) -> String {
    us.map_or("-".to_owned(), |us| format!("{}.{}", us.div_ceil(100) / 10, us.div_ceil(100) % 10))
}

/// The two greatest units: `30d`, `1h 5m`, `42s`.
fn seconds(seconds: u64) -> String {
    let parts = [(seconds / 86_400, "d"), (seconds / 3_600 % 24, "h"), (seconds / 60 % 60, "m"), (seconds % 60, "s")];
    let told: Vec<String> = parts
        .iter()
        .skip_while(|(count, _)| *count == 0)
        .take(2)
        .filter(|(count, _)| *count > 0)
        .map(|(count, unit)| format!("{count}{unit}"))
        .collect();
    if told.is_empty() { "0s".to_owned() } else { told.join(" ") }
}

/// `99.95,150,400` → availability in parts per million, and two latencies in milliseconds. No float is involved.
///
/// # Errors
/// What is wrong with the text, in words.
pub fn targets(text: &str) -> Result<SlaTargets, String> {
    let wrong = || "expected PERCENT,P95,P99 such as 99.9,200,500".to_owned();
    let parts: Vec<&str> = text.split(',').map(str::trim).collect();
    let [percent, p95, p99] = parts[..] else { return Err(wrong()) };
    let (whole, fraction) = percent.split_once('.').unwrap_or((percent, ""));
    let digits = |text: &str| text.len() <= 4 && text.bytes().all(|byte| byte.is_ascii_digit());
    if whole.is_empty() || !digits(whole) || !digits(fraction) {
        return Err("PERCENT has up to four digits behind the point, such as 99.9".to_owned());
    }
    let number = |text: &str| text.parse::<u32>().map_err(|_| wrong());
    let availability_ppm = number(whole)? * 10_000 + number(&format!("{fraction:0<4}"))?;
    let targets = SlaTargets { availability_ppm, p95_ms: number(p95)?, p99_ms: number(p99)? };
    targets.check().map_err(|problem| problem.detail)?;
    Ok(targets)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn promises_are_read_without_rounding() {
        let read = |text| targets(text).map(|t| (t.availability_ppm, t.p95_ms, t.p99_ms));
        assert_eq!(read("99.95,150,400"), Ok((999_500, 150, 400)));
        assert_eq!(read("99, 1, 1"), Ok((990_000, 1, 1)));
        for wrong in
            ["", "99.9", "100,200,500", "99.99999,1,2", "-1,1,2", "99.9,500,200", "99.9,0,1", ".5,1,2", "9999,1,2"]
        {
            assert!(read(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn numbers_are_told_in_peoples_units() {
        assert_eq!((percent(999_500).as_str(), times(14_400).as_str()), ("99.9500 %", "14.4x"));
        assert_eq!((millis(Some(1_201)).as_str(), millis(None).as_str()), ("1.3", "-"));
        let told = [0, 42, 300, 3_900, 2_592_000, 86_401].map(seconds);
        assert_eq!(told, ["0s", "42s", "5m", "1h 5m", "30d", "1d"]);
    }
}

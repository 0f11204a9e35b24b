//! `nethical audit query`: entries of all groups that match, page by page.

use clap::Args;
use indicatif::ProgressBar;

use nethical_cluster::api::{EntryPage, EntryView};

use super::{EndpointArgs, time};
use crate::cli::http::Admin;
use crate::output::{self, Exit, Format, stop};

/// Entries that `--all` holds at once before it gives up: `audit export` streams.
const ALL_MAX: usize = 100_000;
/// Entries of a page at most.
const PAGE_MAX: u64 = 1_000;

/// What entries must be.
#[derive(Debug, Clone, Args)]
pub struct FilterArgs {
    /// Only this group.
    #[arg(long)]
    pub group: Option<u32>,
    /// Only this tenant.
    #[arg(long)]
    pub tenant: Option<String>,
    /// Only this agent of the tenant.
    #[arg(long, requires = "tenant")]
    pub agent: Option<String>,
    /// Only this session of the tenant.
    #[arg(long, requires = "tenant")]
    pub session: Option<String>,
    /// Only this action name of the tenant.
    #[arg(long, requires = "tenant")]
    pub tool: Option<String>,
    /// From this log time on: RFC 3339 (2026-01-31T09:00:00Z) or nanoseconds since 1970.
    #[arg(long, value_name = "TIME")]
    pub from: Option<String>,
    /// Before this log time.
    #[arg(long, value_name = "TIME")]
    pub to: Option<String>,
    /// Only this verdict: allow, restrict, escalate, block or terminate.
    #[arg(long)]
    pub verdict: Option<String>,
    /// Risk of at least this, 0 to 1000.
    #[arg(long, value_name = "RISK")]
    pub risk_min: Option<u16>,
    /// Risk of at most this.
    #[arg(long, value_name = "RISK")]
    pub risk_max: Option<u16>,
    /// Only decisions that this rule decided, among others.
    #[arg(long)]
    pub rule: Option<String>,
    /// Only this kind: decision, control, hold-placed, hold-lifted, era-opened, reservation-ended, approval-decided,
    /// denials-repeated or subjects-erased.
    #[arg(long)]
    pub kind: Option<String>,
    /// Only entries whose bodies have all of these words: refund, "in a row", begin*. The tenant must have text search.
    #[arg(long, requires = "tenant", value_name = "WORDS")]
    pub text: Option<String>,
}

#[derive(Debug, Args)]
pub struct QueryArgs {
    #[command(flatten)]
    pub filter: FilterArgs,
    /// desc: newest first; asc: oldest first.
    #[arg(long, default_value = "desc", value_parser = ["asc", "desc"])]
    pub order: String,
    /// At most this many, in one page.
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u64).range(1..=1_000))]
    pub limit: u64,
    /// Where an earlier page of the same question ended.
    #[arg(long)]
    pub cursor: Option<String>,
    /// All pages, up to 100,000 entries; `nethical audit export` takes any number.
    #[arg(long)]
    pub all: bool,
    #[command(flatten)]
    pub endpoint: EndpointArgs,
}

impl FilterArgs {
    /// As the door takes it.
    pub fn query(&self) -> Vec<(&'static str, String)> {
        let number = |risk: Option<u16>| risk.map(|risk| risk.to_string());
        let named = [
            ("group", self.group.map(|group| group.to_string())),
            ("tenant", self.tenant.clone()),
            ("agent", self.agent.clone()),
            ("session", self.session.clone()),
            ("tool", self.tool.clone()),
            ("from", self.from.clone()),
            ("to", self.to.clone()),
            ("verdict", self.verdict.clone()),
            ("risk_min", number(self.risk_min)),
            ("risk_max", number(self.risk_max)),
            ("rule", self.rule.clone()),
            ("kind", self.kind.clone()),
            ("text", self.text.clone()),
        ];
        named.into_iter().filter_map(|(name, value)| Some((name, value?))).collect()
    }
}

/// Pages of one question, one after the other.
pub struct Pages {
    admin: Admin,
    query: Vec<(&'static str, String)>,
    limit: u64,
    /// Where the pages so far ended.
    pub cursor: Option<String>,
}

impl Pages {
    /// From a cursor on, or from the start.
    pub fn new(admin: Admin, filter: &FilterArgs, order: &str, limit: u64, cursor: Option<String>) -> Self {
        let mut query = filter.query();
        query.push(("order", order.to_owned()));
        Self { admin, query, limit, cursor }
    }

    /// Takes so many at most from now on.
    fn ask_for(&mut self, limit: usize) {
        self.limit = limit as u64;
    }

    /// The next page.
    pub async fn next(&mut self) -> anyhow::Result<EntryPage> {
        let mut query = self.query.clone();
        query.push(("limit", self.limit.to_string()));
        query.extend(self.cursor.clone().map(|cursor| ("cursor", cursor)));
        let page: EntryPage = self.admin.get(&["v1", "audit", "entries"], &query).await?;
        self.cursor = Some(page.cursor.clone());
        Ok(page)
    }
}

/// So many entries, or all there are: a page may end before it is full, and say that there is more.
async fn collect(pages: &mut Pages, wanted: usize, spinner: &ProgressBar) -> anyhow::Result<EntryPage> {
    let mut page = pages.next().await?;
    while page.entries.len() < wanted && page.more && page.incomplete.is_empty() {
        pages.ask_for((wanted - page.entries.len()).min(PAGE_MAX as usize));
        let next = pages.next().await?;
        page.entries.extend(next.entries);
        (page.cursor, page.more, page.incomplete) = (next.cursor, next.more, next.incomplete);
        spinner.set_message(format!("searching: {} found", page.entries.len()));
    }
    Ok(page)
}

/// Carries the command out.
pub async fn run(args: QueryArgs, format: Format) -> anyhow::Result<()> {
    let limit = if args.all { PAGE_MAX } else { args.limit };
    let mut pages = Pages::new(args.endpoint.connect()?, &args.filter, &args.order, limit, args.cursor);
    let spinner = output::spinner("searching");
    let page = collect(&mut pages, if args.all { ALL_MAX } else { limit as usize }, &spinner).await;
    spinner.finish_and_clear();
    let page = page?;
    if args.all && page.more && page.incomplete.is_empty() {
        let hint = "narrow the question, or use `nethical audit export`";
        return Err(stop(Exit::Refused, format!("more than {ALL_MAX} entries match; {hint}")));
    }
    match format {
        Format::Json => output::print_json(&page)?,
        Format::Table => print(&page)?,
    }
    complete(&page)
}

/// An error where groups are missing from a page.
pub fn complete(page: &EntryPage) -> anyhow::Result<()> {
    match page.incomplete.is_empty() {
        true => Ok(()),
        false => {
            let groups = &page.incomplete;
            Err(stop(Exit::Unhealthy, format!("no replica of groups {groups:?} answered: their entries are missing")))
        }
    }
}

fn print(page: &EntryPage) -> anyhow::Result<()> {
    let mut table = output::table(&["DECISION", "TIME", "KIND", "VERDICT", "RISK", "AGENT", "ACTION", "REQUEST"]);
    for entry in &page.entries {
        let decision = entry.decision.as_ref();
        let dash = || "-".to_owned();
        table.add_row([
            entry.decision_id.to_string(),
            time(entry.at_ns),
            entry.kind.clone(),
            decision.map_or_else(dash, |decision| decision.verdict.as_str().to_owned()),
            decision.map_or_else(dash, |decision| decision.risk.score.to_string()),
            word(entry, "agent"),
            word(entry, "name"),
            decision.map_or_else(dash, |decision| decision.request_id.clone()),
        ]);
    }
    output::print_table(&table, "no entries")?;
    if page.more {
        output::remark(&format!("more: --cursor {}", page.cursor));
    }
    Ok(())
}

/// A word of the opened body; a dash where it has none, or why it is not shown.
pub fn word(entry: &EntryView, name: &str) -> String {
    if let Some(state) = &entry.body_state {
        return format!("({state})");
    }
    let word = entry.body.as_ref().and_then(|body| body.get(name)).and_then(|value| value.as_str());
    word.filter(|word| !word.is_empty()).unwrap_or("-").to_owned()
}

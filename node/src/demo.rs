//! wip
use crate::cli::demo::DemoArgs;
use crate::output::Format;
pub async fn run(_args: DemoArgs, _format: Format) -> anyhow::Result<()> { Ok(()) }

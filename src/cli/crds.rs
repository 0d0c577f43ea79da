use std::io::Write;
use std::process::ExitCode;

pub(super) fn run() -> Result<ExitCode, String> {
    let mut out = std::io::stdout().lock();
    for crd in crate::api::crds() {
        let yaml = serde_saphyr::to_string(&crd).map_err(|error| error.to_string())?;
        match writeln!(out, "---\n{yaml}") {
            // `firedrill crds | head`: the reader has had enough.
            Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => return Ok(ExitCode::SUCCESS),
            other => other.map_err(|error| error.to_string())?,
        }
    }
    Ok(ExitCode::SUCCESS)
}

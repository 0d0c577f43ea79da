//! The network: one bridge on the machine, and a namespace per cluster with one address on it.

use std::{
    ffi::OsStr,
    io::Write as _,
    net::Ipv4Addr,
    path::Path,
    process::{Command, Stdio},
};

use crate::{
    error::{Context as _, Error, Result},
    process::{failed, run},
};

/// The bridge's address; also the way by which traffic comes from the machine's own namespace.
const BRIDGE: &str = "10.231.0.1/24";

/// The bridge on the machine. The sweep knows namespaces and links by the prefix `firedrill`.
const BRIDGE_NAME: &str = "firedrill0";

/// Removes a cut. Adding before deleting makes the deletion of an absent table no error.
const NO_CUT: &str = "add table inet part\ndelete table inet part\n";

/// A cluster's network namespace.
#[derive(Debug, Clone)]
pub(crate) struct Namespace {
    /// Its name for `ip netns`.
    pub name: String,
    /// Its one address, on `eth0`.
    pub address: Ipv4Addr,
}

/// Makes the bridge.
pub(crate) fn bridge() -> Result<()> {
    ip(&format!("link add {BRIDGE_NAME} type bridge"))?;
    ip(&format!("addr add {BRIDGE} dev {BRIDGE_NAME}"))?;
    ip(&format!("link set {BRIDGE_NAME} up"))
}

impl Namespace {
    /// Makes the namespace of the cluster with this name and number (0 is the hub).
    pub(crate) fn create(cluster: &str, number: u8) -> Result<Self> {
        let (name, link, address) =
            (format!("firedrill-{cluster}"), format!("firedrill-v{number}"), Ipv4Addr::new(10, 231, 0, 10 + number));
        ip(&format!("netns add {name}"))?;
        ip(&format!("link add {link} type veth peer name eth0 netns {name}"))?;
        ip(&format!("link set {link} master {BRIDGE_NAME} up"))?;
        ip(&format!("-n {name} link set lo up"))?;
        ip(&format!("-n {name} addr add {address}/24 dev eth0"))?;
        ip(&format!("-n {name} link set eth0 up"))?;
        ip(&format!("-n {name} route add default via 10.231.0.1"))?;
        Ok(Self { name, address })
    }

    /// Drops every packet that matches `inward` on its way in through `eth0`, or `outward` on its way out (empty: every one); loopback is untouched.
    /// Replaces an earlier cut in one step.
    pub(crate) fn cut(&self, nft: &Path, inward: &str, outward: Option<&str>) -> Result<()> {
        let chain = |name: &str, hook: &str, filter: &str| {
            format!("chain {name} {{ type filter hook {hook} priority 0; policy accept; {filter} counter drop; }}\n")
        };
        let inward = chain("in", "input", &format!("iifname \"eth0\" {inward}"));
        let outward = outward.map(|filter| chain("out", "output", &format!("oifname \"eth0\" {filter}"))).unwrap_or_default();
        self.nft(nft, &["-f", "-"], &format!("{NO_CUT}table inet part {{\n{inward}{outward}}}\n")).map(drop)
    }

    /// Lets packets through again; nothing to do when there is no cut.
    pub(crate) fn heal(&self, nft: &Path) -> Result<()> {
        self.nft(nft, &["-f", "-"], NO_CUT).map(drop)
    }

    /// How many packets the cut has dropped on their way in.
    pub(crate) fn dropped(&self, nft: &Path) -> Result<u64> {
        let text = self.nft(nft, &["list", "chain", "inet", "part", "in"], "")?;
        let count =
            text.split("counter packets ").nth(1).and_then(|rest| rest.split(' ').next()).and_then(|count| count.parse().ok());
        count.ok_or_else(|| Error::Invalid { what: format!("read the cut of {}", self.name), why: text })
    }

    /// A command that runs within. It is entered without `ip netns exec`, which mounts `/sys` anew: not everybody may.
    pub(crate) fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new("nsenter");
        command.arg(format!("--net=/run/netns/{}", self.name)).arg(program);
        command
    }

    fn nft(&self, nft: &Path, args: &[&str], rules: &str) -> Result<String> {
        let what = || format!("nft in {}", self.name);
        let mut child = self
            .command(nft)
            .args(args)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .context(what)?;
        if let Some(mut stdin) = child.stdin.take() {
            stdin.write_all(rules.as_bytes()).context(what)?;
        }
        let output = child.wait_with_output().context(what)?;
        if output.status.success() {
            Ok(String::from_utf8_lossy(&output.stdout).into_owned())
        } else {
            Err(failed(what(), &output))
        }
    }

    /// Moves the calling thread into the namespace, for good. Sockets that it makes belong to the namespace, whoever uses them later.
    pub(crate) fn enter(&self) -> Result<()> {
        use std::os::fd::AsFd as _;
        let path = format!("/run/netns/{}", self.name);
        let file = std::fs::File::open(&path).context(|| format!("open {path}"))?;
        rustix::thread::move_into_link_name_space(file.as_fd(), Some(rustix::thread::LinkNameSpaceType::Network))
            .map_err(|error| Error::Io { what: format!("enter {}", self.name), source: error.into() })
    }
}

fn ip(args: &str) -> Result<()> {
    run("ip", &args.split(' ').collect::<Vec<_>>()).map(drop)
}
